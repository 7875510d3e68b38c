"""How a Consul server of ours is started: its configuration and command line. Pure.

Shared by `hitmesh up --consul`, which runs one server per datacenter, and by the tests, which
also run three. Everything is bound to loopback; whoever deploys a cluster configures it himself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

HOST = "127.0.0.1"
# Every role of a mesh on one machine connects from the same address; Consul's default of 200
# connections per address is meant for clients on hosts of their own.
MAX_CONNECTIONS_PER_ADDRESS = 2000


class AgentPorts(Struct, frozen=True):
    """The four ports of one server. The serf ones are used with TCP and UDP."""

    http: int
    server: int
    serf_lan: int
    serf_wan: int


def agent_config(
    datacenter: str,
    ports: AgentPorts,
    data_dir: Path,
    *,
    node: str = "",
    servers: int = 1,
    join_lan: Sequence[int] = (),
    join_wan: Sequence[int] = (),
) -> dict[str, Any]:
    """The configuration of one server, as Consul's JSON has it.

    `servers` is how many the datacenter has; `join_lan` the serf_lan ports of the others in it,
    `join_wan` the serf_wan ports of one in each other datacenter. Joining is tried for ever, so
    that the order of starting doesn't matter.
    """
    return {
        "datacenter": datacenter,
        "node_name": node or f"{datacenter}-consul",
        "server": True,
        "bootstrap_expect": servers,
        "data_dir": str(data_dir),
        "bind_addr": HOST,
        "client_addr": HOST,
        "ports": {
            "http": ports.http,
            "server": ports.server,
            "serf_lan": ports.serf_lan,
            "serf_wan": ports.serf_wan,
            "https": -1,
            "dns": -1,
            "grpc": -1,
        },
        "retry_join": [f"{HOST}:{port}" for port in join_lan],
        "retry_join_wan": [f"{HOST}:{port}" for port in join_wan],
        "retry_interval": "1s",
        "retry_interval_wan": "1s",
        # The default of 5 is for tiny machines: it takes 10 s to notice that a leader died.
        "performance": {"raft_multiplier": 1, "leave_drain_time": "0s", "rpc_hold_timeout": "2s"},
        # A server that is stopped comes back with its data: it must not leave the raft peers.
        "leave_on_terminate": False,
        "skip_leave_on_interrupt": True,
        "limits": {"http_max_conns_per_client": MAX_CONNECTIONS_PER_ADDRESS},
        "disable_update_check": True,
        "disable_host_node_id": True,  # servers of one machine would all claim the machine's id
        "enable_script_checks": False,
        "log_level": "WARN",
    }


def agent_command(config_file: Path, *, program: str = "consul") -> list[str]:
    """The command line that runs a server in the foreground, with the configuration in `config_file`."""
    return [program, "agent", f"-config-file={config_file}"]
