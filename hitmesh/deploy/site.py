"""A datacenter as deploys see it: its hosts, and what runs on each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from hitmesh.config import ROLES, Config, Placement, Role
from hitmesh.config.addresses import ssh_place
from hitmesh.errors import CommandError
from hitmesh.mistakes import nearest

# Who is changed after whom: those that count before those that take hits, and balancers last.
ORDER: tuple[Role, ...] = ("nexus", "processor", "collector", "balancer")


class Host(Struct, frozen=True, kw_only=True):
    """A node of the datacenter's file."""

    name: str
    address: str
    ssh: tuple[str, int]
    instances: Sequence[Placement] = ()
    has_beanstalkd: bool = False
    is_consul_server: bool = False

    def of(self, role: Role) -> list[Placement]:
        """Its instances of a role."""
        return [one for one in self.instances if one.role == role]


class Site(Struct, frozen=True, kw_only=True):
    """A datacenter's hosts."""

    config: Config
    hosts: Sequence[Host]

    @classmethod
    def of(cls, config: Config) -> Site:
        """The site that a datacenter's file describes."""
        placed = [one for role in ROLES for one in config.instances(role)]
        return cls(
            config=config,
            hosts=tuple(
                Host(
                    name=name,
                    address=node.address,
                    ssh=ssh_place(node.ssh or node.address),
                    instances=tuple(one for one in placed if one.node == name),
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

    def in_order(self) -> Iterator[tuple[Host, Placement]]:
        """Every instance with its host, in the order in which a deploy changes them."""
        for role in ORDER:
            for host in self.hosts:
                yield from ((host, one) for one in host.of(role))
