"""The servers of a datacenter on the bed: Consul on every host, beanstalkd on the first two. Pure.

As somebody would deploy them: bound to their host's address, on their usual ports, the Consul servers
joined within their datacenter and over the WAN.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hitmesh.protocol.messages import MAX_FRAME_BYTES
from hitmesh.store.consul_agent import MAX_CONNECTIONS_PER_ADDRESS

CONSUL_HTTP: Final = 8500
CONSUL_SERF_LAN: Final = 8301
CONSUL_SERF_WAN: Final = 8302
BEANSTALKD: Final = 11_300
TUBE: Final = "hitmesh"


def consul_config(dc: str, number: int, addresses: Sequence[str], others: Sequence[str], data: Path) -> dict[str, Any]:
    """Server `number` (from 1) of those at `addresses`; `others` has an address of each other datacenter."""
    own = addresses[number - 1]
    return {
        "datacenter": dc,
        "node_name": f"{dc}-{number}",
        "server": True,
        "bootstrap_expect": len(addresses),
        "data_dir": str(data),
        "bind_addr": own,
        "client_addr": f"127.0.0.1 {own}",
        "ports": {"http": CONSUL_HTTP, "serf_lan": CONSUL_SERF_LAN, "serf_wan": CONSUL_SERF_WAN, "dns": -1, "grpc": -1},
        "retry_join": [address for address in addresses if address != own],
        "retry_join_wan": list(others),
        "retry_interval": "1s",
        "retry_interval_wan": "1s",
        # 1 is what Consul's makers recommend for production; nine servers share two cores here.
        "performance": {"raft_multiplier": 2, "leave_drain_time": "0s", "rpc_hold_timeout": "2s"},
        "leave_on_terminate": False,
        "skip_leave_on_interrupt": True,
        "limits": {"http_max_conns_per_client": MAX_CONNECTIONS_PER_ADDRESS},
        "disable_update_check": True,
        "disable_host_node_id": True,  # they would all claim the machine's id
        "log_level": "WARN",
    }


def consul_url(addresses: Sequence[str], prefix: str) -> str:
    """The store's URL, with every server in it."""
    return f"consul://{','.join(f'{address}:{CONSUL_HTTP}' for address in addresses)}/{prefix}"


def beanstalkd_command(program: str, address: str, binlog: Path) -> list[str]:
    """One that has synced when it says INSERTED, and takes the largest jobs."""
    return [program, "-l", address, "-p", str(BEANSTALKD), "-b", str(binlog), "-f", "0", "-z", str(2 * MAX_FRAME_BYTES)]


def beanstalkd_url(address: str) -> str:
    """The spool's URL."""
    return f"beanstalk://{address}:{BEANSTALKD}/{TUBE}"
