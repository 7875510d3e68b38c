"""What Consul's catalogue says of the Nexuses elsewhere, put together from its answers. Pure.

A mesh of several datacenters is a service in Consul: each Nexus is an entry of SERVICE in its own
datacenter's catalogue, and its metadata say whose. It must not know how Consul is asked.

Invariants:
- A datacenter of Consul whose catalogue was read once keeps its entries until it says otherwise: an
  error, or a list of datacenters without it, takes nobody away.
- One whose catalogue was never read may have Nexuses: it is told as unanswered, under its own name.
- Entries of another mesh (another prefix in the KV store) aren't ours.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct, field, json

from hitmesh.config.addresses import host_port, host_port_text
from hitmesh.protocol.messages import MAX_DCS
from nexus.federation import Catalogue

SERVICE: Final = "hitmesh-nexus"


class _Agent(Struct):
    datacenter: str = field(name="Datacenter")


class _Joining(Struct):
    retried: list[str] | None = field(name="RetryJoinWAN", default=None)
    at_start: list[str] | None = field(name="StartJoinAddrsWAN", default=None)
    gateways: list[str] | None = field(name="PrimaryGateways", default=None)


class _Self(Struct):
    agent: _Agent = field(name="Config")
    joining: _Joining = field(name="DebugConfig", default_factory=_Joining)


class _Entry(Struct, rename="pascal"):
    service_address: str
    service_port: int
    address: str = ""  # the node's
    service_meta: dict[str, str] | None = None


class _Registered(Struct, rename="pascal"):
    address: str
    port: int
    meta: dict[str, str] | None = None


def registration(dc: str, name: str, endpoint: str, partitions: int, prefix: str) -> dict[str, Any]:
    """What a Nexus registers, with its heartbeats endpoint.

    Without a check: an entry says that there is such a datacenter, not that somebody is alive.
    """
    host, port = host_port(endpoint.removeprefix("tcp://"))
    return {
        "ID": f"{SERVICE}-{dc}-{name}",
        "Name": SERVICE,
        "Address": host,
        "Port": port,
        "Meta": {"dc": dc, "partitions": str(partitions), "prefix": prefix},
    }


def is_registered(wanted: dict[str, Any], body: bytes) -> bool:
    """Whether an agent's answer about this service says what is `wanted`. Raises ValueError."""
    found = json.decode(body, type=_Registered)
    return (found.address, found.port, found.meta) == (wanted["Address"], wanted["Port"], wanted["Meta"])


class Directory:
    """All that was found for the mesh with this `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._here: str | None = None  # Consul's name for the agent's datacenter
        self._joins = False  # whether the agent is configured to join others
        self._names: tuple[str, ...] = ()  # of Consul's datacenters, as they are listed now
        self._entries: dict[str, tuple[tuple[str, str], ...]] = {}  # by Consul's datacenter: (ours, endpoint)

    @property
    def blind(self) -> bool:
        """Whether there may be others of whom the agent doesn't know yet."""
        return self._here is None or not self._names or (self._joins and set(self._names) == {self._here})

    @property
    def names(self) -> tuple[str, ...]:
        """The datacenters of Consul whose entries are worth asking for."""
        return tuple(dict.fromkeys((*self._names, *self._entries)))

    def agent(self, body: bytes) -> None:
        """Take in /v1/agent/self. Raises ValueError."""
        found = json.decode(body, type=_Self)
        joining = found.joining
        self._here = found.agent.datacenter
        self._joins = bool(joining.retried or joining.at_start or joining.gateways)

    def datacenters(self, body: bytes) -> None:
        """Take in /v1/catalog/datacenters. Raises ValueError."""
        self._names = tuple(json.decode(body, type=list[str])[:MAX_DCS])

    def entries(self, name: str, body: bytes) -> None:
        """Take in /v1/catalog/service/SERVICE of one of Consul's datacenters. Raises ValueError."""
        found = []
        for entry in json.decode(body, type=list[_Entry]):
            meta = entry.service_meta or {}
            address = entry.service_address or entry.address
            if meta.get("prefix") == self._prefix and meta.get("dc"):
                found.append((meta["dc"], f"tcp://{host_port_text(address, entry.service_port)}"))
        if name in self._entries or len(self._entries) < MAX_DCS:
            self._entries[name] = tuple(found)

    def catalogue(self) -> Catalogue:
        """It all together."""
        peers: dict[str, list[str]] = {}
        for entries in self._entries.values():
            for dc, endpoint in entries:
                peers.setdefault(dc, []).append(endpoint)
        return Catalogue(peers, frozenset(self._names) - self._entries.keys(), self.blind)
