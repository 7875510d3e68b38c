"""What Nexuses of datacenters say to each other, for the tests of those who hear it."""

from __future__ import annotations

import ipaddress
from zlib import crc32

from hitmesh.protocol.messages import Instance, Neighbours, Seen, make
from tests.hitmesh.mesh.instances import instance

PARTITIONS = 32


def at(host: str) -> str:
    """The heartbeats endpoint of a Nexus, numeric as it is told: always the same for the same host."""
    return f"tcp://{ipaddress.IPv4Address(crc32(host.encode()))}:8020"


def nexus(dc: str, number: int = 1, *, process: str = "a") -> Instance:
    """A Nexus of a datacenter; `process` tells its starts apart."""
    name = f"nexus-{number}"
    endpoints = {"heartbeats": at(f"{dc}-{number}"), "lookups": at(f"{dc}-{number}").replace("8020", "8022")}
    started_ms = 1000 + ord(process[0])
    return instance(name, f"{dc}-{name}-{process}", role="nexus", dc=dc, endpoints=endpoints, started_ms=started_ms)


def word(
    speaker: Instance,
    number: int,
    *seen: Seen,
    interval_s: float = 5.0,
    partitions: int = PARTITIONS,
    settings: str = "-",
    nexuses: dict[str, tuple[str, ...]] | None = None,
) -> Neighbours:
    """What a Nexus says: itself, who is `seen` besides, and where Nexuses are, its own endpoint among them."""
    found = {speaker.dc: (speaker.endpoints["heartbeats"],), **(nexuses or {})}
    everybody = (Seen(speaker, number, 0, True), *seen)
    return make(
        Neighbours, speaker.dc, speaker.id, number, int(interval_s * 1000), partitions, settings, found, everybody
    )
