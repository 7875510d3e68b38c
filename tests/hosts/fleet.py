"""Datacenters of whole hosts: who they are, what runs where, and the file that an operator would write for each.

us-west, VIP 10.2.0.100          eu-west, VIP 10.1.0.100
app-1, app-2: every role         app-1, app-2: every role, Consul, beanstalkd
store-1, store-2: Consul, beanstalkd
store-3: Consul                  app-3: Consul

pair, VIP 10.3.0.100, alone: a, b: every role, beanstalkd, a scaler; a: Consul, a dashboard

north, VIP 10.4.0.100            south, VIP 10.5.0.100
a: every role, Consul, beanstalkd
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from hitmesh.config import dump, parse
from tests.hosts.bed import Bed
from tests.hosts.host import Host

ROLES: Final = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
CONSUL: Final = {"consul_server": True}
STORES: Final = {"consul_server": True, "beanstalkd": True}
# The number of a datacenter's network, and its nodes: their addresses' last numbers, and what they run.
FLEETS: Final[Mapping[str, tuple[int, Mapping[str, tuple[int, Mapping[str, Any]]]]]] = {
    "us-west": (
        2,
        {
            "app-1": (11, ROLES),
            "app-2": (12, ROLES),
            "store-1": (21, STORES),
            "store-2": (22, STORES),
            "store-3": (23, CONSUL),
        },
    ),
    # The smallest that has a pair of everything that hits go through; a mesh of its own.
    "pair": (
        3,
        {
            "a": (11, ROLES | STORES | {"dashboard": 1, "scaler": 1}),
            "b": (12, ROLES | {"beanstalkd": True, "scaler": 1}),
        },
    ),
    # The smallest mesh of two.
    "north": (4, {"a": (11, ROLES | STORES)}),
    "south": (5, {"a": (11, ROLES | STORES)}),
    "eu-west": (1, {"app-1": (11, ROLES | STORES), "app-2": (12, ROLES | STORES), "app-3": (13, CONSUL)}),
}
MESH: Final = ("us-west", "eu-west")
POLES: Final = ("north", "south")
VIP: Final = 100
NEXUS: Final = 8020
DASHBOARD: Final = 8040
BAKE_S: Final = 3.0
READY_S: Final = 120.0  # on a busy machine


class Fleet:
    """A datacenter's hosts, without power yet, and its file in a folder."""

    def __init__(self, bed: Bed, dc: str, folder: Path, *, settings: Mapping[str, Any] | None = None) -> None:
        """`settings` are the file's, table by table, instead of those here."""
        self.dc, self.vip, self.file = dc, address(dc, VIP), folder / f"{dc}.toml"
        self.url = f"http://{self.vip}"
        self.hosts: dict[str, Host] = {
            name: bed.host(f"{dc}-{name}", address(dc, number), dc=dc) for name, (number, _) in FLEETS[dc][1].items()
        }
        self.file.write_text(text(dc, settings or {}))

    def holders(self) -> list[Host]:
        """The hosts that have the virtual IP: one, but for a host that is cut off from those that could tell it."""
        up = [host for host in self.hosts.values() if host.pid]
        return [host for host in up if f" {self.vip}/" in host.run(["ip", "-o", "addr", "show", "dev", "eth0"]).stdout]

    def moves(self) -> int:
        """How often a host has taken the virtual IP, by what keepalived says on those that have power."""
        runs = {name for name, (_, each) in FLEETS[self.dc][1].items() if each.get("balancer")}
        path = f"/var/log/hitmesh/{self.dc}-keepalived-1.log"
        logs = (host.read(path) for name, host in self.hosts.items() if name in runs and host.pid)
        return sum(log.count("Entering MASTER STATE") for log in logs)


def text(dc: str, settings: Mapping[str, Any]) -> str:
    """The file of a datacenter."""
    nodes = {name: {"address": address(dc, number), **runs} for name, (number, runs) in FLEETS[dc][1].items()}
    others = [other for mesh in (MESH, POLES) if dc in mesh for other in mesh if other != dc]
    wanted: dict[str, Any] = {
        "name": dc,
        "partitions": 8,
        "keys": "keys",
        "nodes": nodes,
        "peers": {other: [f"{each}:{NEXUS}" for each in _those(other, "nexus")] for other in others},
        "ports": {
            "balancer": 80,
            "balancer_admin": 0,
            "collector": 8010,
            "nexus": NEXUS,
            "rows": 8030,
            "dashboard": DASHBOARD,
        },
        "stores": {
            "totals": "consul://127.0.0.1:8500/hitmesh",
            "settings": "consul://127.0.0.1:8500/hitmesh-settings",
            "spools": [f"beanstalk://{each}:11300/hitmesh" for each in _those(dc, "beanstalkd")],
        },
        "balancer": {"workers": 1},
        "dashboard": {"open": True},
        "virtual_ip": {"address": f"{address(dc, VIP)}/24"},
        "deploy": {
            "packages": False,  # the bed has no way to a mirror; its hosts see those of the machine
            "ready_s": READY_S,
            "bake_s": BAKE_S,
            "consul": {"join_wan": [each for other in others for each in _those(other, "consul_server")]},
        },
        "routes": {"default": {"action": "proxy", "service": "collector"}},
    }
    for table, given in settings.items():
        both = isinstance(given, Mapping) and isinstance(wanted.get(table), Mapping)
        wanted[table] = {**wanted[table], **given} if both else given
    return dump(parse(wanted, source=dc))


def address(dc: str, number: int) -> str:
    """Of a host there, or of what else has that number."""
    return f"10.{FLEETS[dc][0]}.0.{number}"


def _those(dc: str, what: str) -> Iterable[str]:
    return [address(dc, number) for number, runs in FLEETS[dc][1].values() if runs.get(what)]
