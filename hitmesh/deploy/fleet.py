"""A datacenter as deploys see it: its hosts, and what runs on each. Pure."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from hitmesh.config import ROLES, Config, Placement, Role
from hitmesh.config.addresses import ssh_place
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest

# Who is changed after whom: those that count before those that take hits, and last those that only look or record.
ORDER: tuple[Role, ...] = ("nexus", "processor", "collector", "balancer", "dashboard", "recorder", "scaler")


SEES = "HITMESH_SEES"
"""Variable of an instance's program: what it sees of the datacenter's file, as `sees` says."""
# What is none of a role's business, but for that of the roles named here; nor is `deploy` anybody's.
_OWN: Mapping[str, tuple[Role, ...]] = {
    "balancer": ("balancer", "dashboard"),  # which asks the balancers' admin listeners
    "routes": ("balancer",),
    "virtual_ip": ("balancer", "dashboard"),
    "dashboard": ("dashboard",),
    "recorder": ("recorder",),
    "scaler": ("scaler",),
}


def role_of(word: str) -> Role:
    """The role of a name that somebody has typed. Raises CommandError."""
    for role in ROLES:
        if role == word:
            return role
    raise CommandError(f"{word!a} is no role; {nearest(word, list(ROLES))}")


def sees(text: str, one: Placement) -> str:
    """A digest of all that an instance sees of its datacenter's file: with another one it must be restarted.

    Not of what is said to people there, nor of what concerns other hosts alone: how many instances they run, which only
    dashboards and scalers miss, but for whether there is any recorder.
    """
    data = tomllib.loads(text)
    nodes: dict[str, dict[str, Any]] = data.pop("nodes", {})
    for table in ("deploy", *(table for table, roles in _OWN.items() if one.role not in roles)):
        data.pop(table, None)
    if one.role in ("dashboard", "scaler"):
        return _digest({"file": data, "nodes": nodes, "own": msgspec.structs.asdict(one)})
    nexuses = {
        name: {key: value for key, value in node.items() if key in ("address", "wan_address", "wan_ports", "nexus")}
        for name, node in nodes.items()
        if node.get("nexus")
    }
    known: dict[str, object] = {"file": data, "nexuses": nexuses, "own": msgspec.structs.asdict(one)}
    if any(node.get("recorder") for node in nodes.values()):
        known["recorded"] = True  # where there is nobody to send to, nobody begins to
    return _digest(known)


def _digest(known: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


class Host(Struct, frozen=True, kw_only=True):
    """A node of the datacenter's file."""

    name: str
    address: str
    ssh: tuple[str, int]
    instances: Sequence[Placement] = ()
    spares: Sequence[Placement] = ()  # that its scaler starts and stops
    has_beanstalkd: bool = False
    is_consul_server: bool = False

    def of(self, role: Role) -> list[Placement]:
        """Its instances of a role."""
        return [one for one in self.instances if one.role == role]

    def every(self, role: Role) -> list[Placement]:
        """The same with those that its scaler may start."""
        return [one for one in (*self.instances, *self.spares) if one.role == role]


class Fleet(Struct, frozen=True, kw_only=True):
    """A datacenter's hosts."""

    config: Config
    hosts: Sequence[Host]

    @classmethod
    def of(cls, config: Config) -> Fleet:
        """The fleet that a datacenter's file describes."""
        placed = [one for role in ROLES for one in config.instances(role)]
        spare = [one for role in ROLES for one in config.spares(role)]
        return cls(
            config=config,
            hosts=tuple(
                Host(
                    name=name,
                    address=node.address,
                    ssh=ssh_place(node.ssh or node.address),
                    instances=tuple(one for one in placed if one.node == name),
                    spares=tuple(one for one in spare if one.node == name),
                    has_beanstalkd=node.beanstalkd,
                    is_consul_server=node.consul_server,
                )
                for name, node in config.nodes.items()
            ),
        )

    @property
    def dc(self) -> str:
        """The datacenter's name."""
        return self.config.name

    @property
    def has_consul(self) -> bool:
        """Whether Consul is deployed with it: servers on some hosts, and agents on the others."""
        return any(host.is_consul_server for host in self.hosts)

    def host(self, name: str) -> Host:
        """The host of a name. Raises CommandError."""
        for host in self.hosts:
            if host.name == name:
                return host
        names = [host.name for host in self.hosts]
        raise CommandError(f"{self.dc} has no host {name}; {nearest(name, names)}")

    def in_order(self, spares: Collection[str] = ()) -> Iterator[tuple[Host, Placement]]:
        """Every instance with its host, in the order in which a deploy changes them; and those of the spares named."""
        for role in ORDER:
            for host in self.hosts:
                yield from ((host, one) for one in host.every(role) if one not in host.spares or one.name in spares)
