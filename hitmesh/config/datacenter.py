"""A datacenter: its tables together, and where each configured instance runs. Pure."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from hitmesh.config.addresses import host_port_text
from hitmesh.config.alerts import Alerts
from hitmesh.config.balancer import Balancer
from hitmesh.config.deploy import Deploy, VirtualIp
from hitmesh.config.pages import Counting, Pages
from hitmesh.config.recorder import RecorderTable
from hitmesh.config.routes import DEFAULT_ROUTES, HostPattern, Route
from hitmesh.config.scaler import SCALED, Scaler
from hitmesh.config.sections import (
    Dashboard,
    Limits,
    Log,
    Metrics,
    Name,
    Node,
    Ports,
    Role,
    Section,
    Stores,
    Timing,
)
from hitmesh.protocol.messages import MAX_PARTITIONS

NEXUS_PORTS = 3  # heartbeats, changes, lookups
DASHBOARD_PORTS = 2  # HTTP, news
RECORDER_PORTS = 2  # records, logs
PORTS_EACH: dict[Role, int] = {
    "nexus": NEXUS_PORTS,
    "dashboard": DASHBOARD_PORTS,
    "recorder": RECORDER_PORTS,
}  # of others one


class Config(Section, frozen=True):
    """A datacenter."""

    name: Annotated[Name, Meta(description="the datacenter's name, such as eu-west")]
    nodes: Annotated[dict[Name, Node], Meta(min_length=1, description="the hosts, by name")]
    partitions: Annotated[
        int, Meta(ge=1, le=MAX_PARTITIONS, description="the same in every datacenter, and never changed later")
    ] = 32
    insecure: Annotated[bool, Meta(description="allow sockets beyond loopback without keys")] = False
    insecure_until: Annotated[
        str,
        Meta(
            description="with keys: until when others are spoken to that have none yet, in UTC, such as 2026-12-24T12:00Z; "
            "empty: never"
        ),
    ] = ""
    keys: Annotated[
        str,
        Meta(
            description="folder with the mesh's keys, relative to this file: with them every socket between processes is "
            "encrypted, and nobody unknown is heard"
        ),
    ] = ""
    ports: Ports = Ports()
    stores: Stores = Stores()
    timing: Timing = Timing()
    limits: Limits = Limits()
    pages: Pages = Pages()
    counting: Counting = Counting()
    balancer: Balancer = Balancer()
    dashboard: Dashboard = Dashboard()
    metrics: Metrics = Metrics()
    log: Log = Log()
    alerts: Alerts = Alerts()
    recorder: RecorderTable = RecorderTable()
    scaler: Scaler = Scaler()
    peers: Annotated[
        dict[Name, tuple[str, ...]],
        Meta(
            description="the other datacenters: HOST:PORT of Nexuses' heartbeats there, one at least of any of them; "
            "none where Consul's catalogue has them"
        ),
    ] = msgspec.field(default_factory=dict)
    virtual_ip: VirtualIp = VirtualIp()
    deploy: Deploy = Deploy()
    routes: dict[HostPattern, Route] = msgspec.field(default_factory=dict)

    def instances(self, role: Role) -> list[Placement]:
        """Where each configured instance of `role` runs; numbered over the nodes in file order."""
        placements: list[Placement] = []
        for node_name, node in self.nodes.items():
            for index in range(getattr(node, role)):
                name = f"{role}-{len(placements) + 1}"
                placements.append(self._placed(role, name, node_name, node, index))
        return placements

    def spares(self, role: Role) -> list[Placement]:
        """Where there is a place for an instance of `role` that a scaler starts and stops; numbered after the others.

        On nodes with a scaler, which run as many as scaler.<role>.node_max.
        """
        placements: list[Placement] = []
        kind = next((each for each in SCALED if each == role), None)
        if kind is None:
            return placements
        first = len(self.instances(role)) + 1
        for node_name, node in self.nodes.items():
            most = self.scaler.most_on_a_node(kind) if node.scaler else 0
            for index in range(getattr(node, role), most):
                name = f"{role}-{first + len(placements)}"
                placements.append(self._placed(role, name, node_name, node, index))
        return placements

    def placement(self, role: Role, name: str) -> Placement:
        """Where the instance `name` runs. One that isn't configured runs on the first node, on any port."""
        for placement in (*self.instances(role), *self.spares(role)):
            if placement.name == name:
                return placement
        node_name, node = next(iter(self.nodes.items()))
        admin = 0 if self._first_admin_port(role) else None
        if role != "balancer":
            return Placement(role, name, node_name, node.address, None, admin_port=admin, wan_address=node.wan_address)
        tls = 0 if self.ports.balancer_tls else None
        return Placement(role, name, node_name, node.address, None, tls, admin)

    def behind_virtual_ip(self) -> list[Placement]:
        """The balancers that serve the virtual IP: the first one of each host, which has ports.balancer there."""
        return [each for each in self.instances("balancer") if each.port == self.ports.balancer]

    def route_table(self) -> dict[str, Route]:
        """The routes by pattern; those of a file without any pass everything on to the collectors."""
        return dict(self.routes or DEFAULT_ROUTES)

    def _placed(self, role: Role, name: str, node_name: str, node: Node, index: int) -> Placement:
        ports, address = self.ports, node.address
        first_admin = self._first_admin_port(role)
        admin = first_admin + index if first_admin else None
        if role == "balancer":
            tls = ports.balancer_tls + index if ports.balancer_tls else None
            return Placement(role, name, node_name, address, ports.balancer + index, tls, admin)
        if role == "collector":
            return Placement(role, name, node_name, address, ports.collector + index, admin_port=admin)
        if role == "scaler":
            return Placement(role, name, node_name, address, None, admin_port=admin)
        first, seen = ports.rows, node.wan_ports.rows
        if role == "nexus":
            first, seen = ports.nexus, node.wan_ports.nexus
        elif role == "dashboard":
            first, seen = ports.dashboard, node.wan_ports.dashboard
        elif role == "recorder":
            first, seen = ports.recorder, 0
        width = PORTS_EACH.get(role, 1)
        return Placement(
            role, name, node_name, address, first + width * index if first else None, admin_port=admin,
            wan_address=node.wan_address, wan_shift=seen - first if seen else 0,
        )  # fmt: skip

    def _first_admin_port(self, role: Role) -> int:
        """Of a role's admin listeners on a node; 0: it has none of its own."""
        return 0 if role == "dashboard" else int(getattr(self.ports, f"{role}_admin"))


class Placement(Struct, frozen=True):
    """One instance's place. `port` is its first one, a processor's that of its rows; None lets the kernel choose.

    The other listeners: None is none, 0 lets the kernel choose. A dashboard answers at its first port. For other datacenters (Nexuses, processors
    and dashboards): the address, empty where it is the same, and what its ports there are above those here.
    """

    role: Role
    name: str
    node: str
    address: str
    port: int | None
    tls_port: int | None = None
    admin_port: int | None = None
    wan_address: str = ""
    wan_shift: int = 0


class NexusEndpoints(NamedTuple):
    """The three sockets of one Nexus, as ZeroMQ endpoints."""

    heartbeats: str
    changes: str
    lookups: str


def nexus_endpoints(placement: Placement) -> NexusEndpoints:
    """The endpoints of a configured Nexus: its three ports in a row."""
    assert placement.port is not None, "a Nexus has fixed ports"
    host, port = placement.address, placement.port
    return NexusEndpoints(*(f"tcp://{host_port_text(host, port + offset)}" for offset in range(NEXUS_PORTS)))


def ports_of(placement: Placement) -> list[int]:
    """Every port that an instance is configured to take."""
    return served_ports(placement) + [port for port in (placement.tls_port, placement.admin_port) if port]


def served_ports(placement: Placement) -> list[int]:
    """Those of its work: without HTTPS and the admin port."""
    if placement.port is None:
        return []
    return [placement.port + offset for offset in range(PORTS_EACH.get(placement.role, 1))]
