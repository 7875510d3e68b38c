"""The servers of a datacenter on the bed: Consul on every host, beanstalkd on the first two. Pure.

As somebody would deploy them: bound to their host's address, on their usual ports but for what a router has to
forward, the Consul servers joined within their datacenter and over the WAN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hitmesh.config import host_port_text
from hitmesh.protocol.messages import MAX_FRAME_BYTES
from hitmesh.store.consul_agent import MAX_CONNECTIONS_PER_ADDRESS
from tests.wan.host import Host
from tests.wan.networks import UNCHANGED

CONSUL_RPC: Final = 8300
CONSUL_HTTP: Final = 8500
CONSUL_SERF_LAN: Final = 8301
CONSUL_SERF_WAN: Final = 8302
BEANSTALKD: Final = 11_300
TUBE: Final = "hitmesh"


@dataclass(frozen=True)
class ConsulServer:
    """Where one is: inside, and for other datacenters, empty for the same."""

    address: str
    wan_address: str = ""
    rpc: int = CONSUL_RPC
    serf_wan: int = CONSUL_SERF_WAN

    @property
    def joined_at(self) -> str:
        """Where those of other datacenters join it."""
        return host_port_text(self.wan_address or self.address, self.serf_wan)


def consul_server(host: Host) -> ConsulServer:
    """The one on a host: by IPv6 alone, where it has both, and behind a router at ports that this forwards as they are."""
    if not host.wan_shift:
        return ConsulServer(host.wan_address or host.address)
    first = UNCHANGED + host.wan_shift
    return ConsulServer(host.address, host.wan_address, first, first + 2)


def consul_config(
    dc: str, number: int, hosts: Sequence[ConsulServer], others: Sequence[ConsulServer], data: Path
) -> dict[str, Any]:
    """Server `number` (from 1) of `hosts`; `others` are one of each other datacenter."""
    server = hosts[number - 1]
    own = server.address
    addresses = [each.address for each in hosts]
    return {
        "datacenter": dc,
        "node_name": f"{dc}-{number}",
        "server": True,
        "bootstrap_expect": len(hosts),
        "data_dir": str(data),
        "bind_addr": own,
        "client_addr": f"127.0.0.1 {own}",
        "advertise_addr_wan": server.wan_address or own,
        "ports": {
            "http": CONSUL_HTTP,
            "serf_lan": CONSUL_SERF_LAN,
            "serf_wan": server.serf_wan,
            "server": server.rpc,
            "dns": -1,
            "grpc": -1,
        },
        "retry_join": [host_port_text(address, CONSUL_SERF_LAN) for address in addresses if address != own],
        "retry_join_wan": [other.joined_at for other in others],
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
    return f"consul://{','.join(host_port_text(address, CONSUL_HTTP) for address in addresses)}/{prefix}"


def beanstalkd_command(program: str, address: str, binlog: Path) -> list[str]:
    """One that has synced when it says INSERTED, and takes the largest jobs."""
    return [program, "-l", address, "-p", str(BEANSTALKD), "-b", str(binlog), "-f", "0", "-z", str(2 * MAX_FRAME_BYTES)]


def beanstalkd_url(address: str) -> str:
    """The spool's URL."""
    return f"beanstalk://{host_port_text(address, BEANSTALKD)}/{TUBE}"
