"""One datacenter's configuration: a TOML file, typed and checked. Owns every setting's type,
default, unit and help; knows nothing of what the roles do with it.

Each setting is declared once, below. `load` reads a file; every mistake is a ConfigError that
names the file, the key, and the nearest right one.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from hitmesh.errors import ConfigError
from hitmesh.mistakes import mistakes, nearest
from hitmesh.protocol.messages import MAX_PARTITIONS

Role = Literal["nexus", "processor", "collector"]
ROLES: tuple[Role, ...] = get_args(Role)

_Name = Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
_Instances = Annotated[int, Meta(ge=0, le=64)]


class _Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class Node(_Section, frozen=True):
    """One host of the datacenter: its address and how many instances of each role it runs."""

    address: Annotated[str, Meta(description="IP address or name by which the others reach this host")]
    nexus: Annotated[_Instances, Meta(description="Nexus instances; two in all is the rule")] = 0
    processor: Annotated[_Instances, Meta(description="processor instances")] = 0
    collector: Annotated[_Instances, Meta(description="collector instances, each one worker process")] = 0


class Ports(_Section, frozen=True):
    """The first port of each role on a node; the n-th instance there takes the next ones."""

    collector: Annotated[_Port, Meta(description="HTTP; one port an instance")] = 8010
    nexus: Annotated[_Port, Meta(description="heartbeats, changes, lookups; three ports an instance")] = 8020


class Stores(_Section, frozen=True):
    """Where things are kept, by URL; a relative sqlite path is below the state folder."""

    totals: Annotated[str, Meta(description="sqlite:///PATH or consul://HOST:PORT[,HOST:PORT...]/PREFIX")] = (
        "sqlite:///totals.db"
    )
    spools: Annotated[
        tuple[str, ...],
        Meta(min_length=1, max_length=4, description="sqlite:///PATH or beanstalk://HOST:PORT/TUBE; two make a pair"),
    ] = ("sqlite:///spool.db",)
    spool_copies: Annotated[
        int,
        Meta(ge=0, le=4, description="copies that must be on disk before a hit is answered; 0: on all that are up"),
    ] = 0


class Timing(_Section, frozen=True):
    """Intervals, in seconds."""

    heartbeat_s: Annotated[float, Meta(ge=0.05, le=60, description="between two heartbeats of an instance")] = 1.0
    missed_heartbeats: Annotated[int, Meta(ge=2, le=60, description="missed in a row before an instance is dead")] = 3
    commit_s: Annotated[float, Meta(ge=0.01, le=60, description="between two commits of a processor with news")] = 0.25
    resend_s: Annotated[float, Meta(ge=0.1, le=60, description="before a collector sends an unacked batch again")] = 1.0
    retry_delay_s: Annotated[
        float, Meta(ge=1, le=3600, description="before any collector may claim an unacked job from the spool")
    ] = 5.0
    claim_s: Annotated[float, Meta(ge=2, le=3600, description="for which a claimed job belongs to its claimer")] = 10.0
    fresh_s: Annotated[float, Meta(ge=0, le=60, description="for which a known total is answered unread")] = 0.5
    read_s: Annotated[float, Meta(ge=0.05, le=60, description="that an answer waits for a total to be read")] = 1.0
    drain_s: Annotated[float, Meta(ge=0, le=600, description="that a stopping role has to finish its work")] = 8.0


class Limits(_Section, frozen=True):
    """What one request, batch or process may hold."""

    hit_body_bytes: Annotated[int, Meta(ge=0, description="body of a single hit, which is ignored")] = 16 * 1024
    batch_body_bytes: Annotated[int, Meta(ge=1, le=1024 * 1024, description="body of POST /hits")] = 1024 * 1024
    batch_pages: Annotated[int, Meta(ge=1, le=10_000, description="pages in one POST /hits")] = 10_000
    forming_pages: Annotated[int, Meta(ge=1, le=10_000, description="pages that close a forming batch")] = 10_000
    forming_bytes: Annotated[
        int, Meta(ge=1024, le=2 * 1024 * 1024, description="page bytes that close a forming batch")
    ] = 1024 * 1024
    unacked_bytes: Annotated[
        int, Meta(ge=1024 * 1024, description="memory for unacked batches; the spool keeps what is beyond")
    ] = 64 * 1024 * 1024
    connections: Annotated[int, Meta(ge=1, description="client connections of one collector")] = 10_000
    known_pages: Annotated[int, Meta(ge=100, description="pages whose totals a collector remembers")] = 100_000


class Config(_Section, frozen=True):
    """A datacenter."""

    name: Annotated[_Name, Meta(description="the datacenter's name, such as eu-west")]
    nodes: Annotated[dict[_Name, Node], Meta(min_length=1, description="the hosts, by name")]
    partitions: Annotated[
        int, Meta(ge=1, le=MAX_PARTITIONS, description="the same in every datacenter, and never changed later")
    ] = 32
    insecure: Annotated[bool, Meta(description="allow sockets beyond loopback without keys")] = False
    ports: Ports = Ports()
    stores: Stores = Stores()
    timing: Timing = Timing()
    limits: Limits = Limits()

    def instances(self, role: Role) -> list[Placement]:
        """Where each configured instance of `role` runs; numbered over the nodes in file order."""
        placements: list[Placement] = []
        for node_name, node in self.nodes.items():
            for index in range(getattr(node, role)):
                number = len(placements) + 1
                port = None
                if role == "collector":
                    port = self.ports.collector + index
                elif role == "nexus":
                    port = self.ports.nexus + 3 * index
                placements.append(Placement(role, f"{role}-{number}", node_name, node.address, port))
        return placements

    def placement(self, role: Role, name: str) -> Placement:
        """Where the instance `name` runs. One that isn't configured runs on the first node, on any port."""
        for placement in self.instances(role):
            if placement.name == name:
                return placement
        node_name, node = next(iter(self.nodes.items()))
        return Placement(role, name, node_name, node.address, None)


class Placement(Struct, frozen=True):
    """One instance's place. `port` is its first one; None lets the kernel choose."""

    role: Role
    name: str
    node: str
    address: str
    port: int | None


class NexusEndpoints(Struct, frozen=True):
    """The three sockets of one Nexus, as ZeroMQ endpoints."""

    heartbeats: str
    changes: str
    lookups: str


def nexus_endpoints(placement: Placement) -> NexusEndpoints:
    """The endpoints of a configured Nexus: its three ports in a row."""
    assert placement.port is not None, "a Nexus has fixed ports"
    host, port = placement.address, placement.port
    return NexusEndpoints(*(f"tcp://{host}:{port + offset}" for offset in range(3)))


def load(path: Path) -> Config:
    """Read and check one datacenter's file. Raises ConfigError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return parse(data, source=str(path))


def parse(data: dict[str, Any], *, source: str) -> Config:
    """Check the tables of a file; `source` is the file's name for errors."""
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        problem = next(mistakes(data, Config), str(error))
        raise ConfigError(f"{source}: {problem}") from error
    for problem in _contradictions(config):
        raise ConfigError(f"{source}: {problem}")
    return config


def dump(config: Config) -> str:
    """The TOML text of a configuration, which `load` reads back to an equal one."""
    lines: list[str] = []
    tables: list[tuple[str, Struct]] = []
    for key in config.__struct_fields__:
        value = getattr(config, key)
        if key == "nodes":
            tables += [(f"nodes.{name}", node) for name, node in value.items()]
        elif isinstance(value, Struct):
            tables.append((key, value))
        else:
            lines.append(f"{key} = {_toml(value)}")
    for title, table in tables:
        lines += ["", f"[{title}]"]
        lines += [f"{key} = {_toml(getattr(table, key))}" for key in table.__struct_fields__]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    # JSON's strings, numbers, booleans and arrays are TOML's too.
    return msgspec.json.encode(value).decode()


def _contradictions(config: Config) -> list[str]:
    problems = []
    timing = config.timing
    if timing.commit_s >= timing.retry_delay_s:
        problems.append(
            f"timing.commit_s ({timing.commit_s}) must be below timing.retry_delay_s ({timing.retry_delay_s}), "
            "or every batch is claimed before it can be committed"
        )
    if timing.resend_s >= timing.retry_delay_s:
        problems.append(
            f"timing.resend_s ({timing.resend_s}) must be below timing.retry_delay_s ({timing.retry_delay_s})"
        )
    if config.stores.spool_copies > len(config.stores.spools):
        problems.append(
            f"stores.spool_copies ({config.stores.spool_copies}) is more than the spools ({len(config.stores.spools)})"
        )
    if len(set(config.stores.spools)) < len(config.stores.spools):
        problems.append("stores.spools names the same spool twice")
    problems += _url_problems("stores.totals", [config.stores.totals], ("sqlite", "consul"), "hitmesh.stores")
    problems += _url_problems("stores.spools", config.stores.spools, ("sqlite", "beanstalk"), "hitmesh.spools")
    for role in ROLES:
        if not config.instances(role):
            problems.append(f"no node runs a {role}; set nodes.<node>.{role}")
    if not config.insecure:
        for name, node in config.nodes.items():
            if not is_loopback(node.address):
                problems.append(
                    f"nodes.{name}.address ({node.address}) is beyond loopback, where sockets need encryption; "
                    "say insecure = true on a network that you trust"
                )
    problems += _clashes(config)
    return problems


def _clashes(config: Config) -> list[str]:
    taken: dict[tuple[str, int], str] = {}
    for role, width in (("collector", 1), ("nexus", 3)):
        for placement in config.instances(role):  # type: ignore[arg-type]
            assert placement.port is not None
            for port in range(placement.port, placement.port + width):
                other = taken.setdefault((placement.address, port), placement.name)
                if other != placement.name:
                    return [f"{placement.name} and {other} both want port {port} of {placement.address}; see ports"]
                if port > 65_535:
                    return [f"{placement.name} would get port {port}; lower ports.{role}"]
    return []


def _url_problems(key: str, urls: Sequence[str], own: tuple[str, ...], group: str) -> list[str]:
    foreign = {url: url.partition("://")[0] for url in urls if not url.startswith(tuple(f"{name}://" for name in own))}
    if not foreign:
        return []
    # Slow to import, and seldom needed: only a store of somebody else's is registered there.
    from importlib.metadata import entry_points

    known = [*own, *(point.name for point in entry_points(group=group))]
    return [
        f"{key}: {url!r} is not a URL of a known kind; {nearest(scheme, known)}"
        for url, scheme in foreign.items()
        if "://" not in url or scheme not in known
    ]


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
