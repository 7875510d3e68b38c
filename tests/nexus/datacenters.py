"""Datacenters of two real Nexuses each, on loopback, and processors that only heartbeat."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zmq
from msgspec.structs import replace

from hitmesh.config import Config
from hitmesh.protocol.messages import Instance, Leave, Seen, encode, make
from tests.hitmesh.mesh.instances import heartbeat, instance
from tests.services import START_S, wait_for
from tests.services.nexus import NexusProcess, endpoints, mesh_config

# A busy machine keeps a process waiting for longer than a shorter one would forgive.
HEARTBEAT_S = 0.5
MISSED = 5
WAN_HEARTBEAT_S = 1.0


class Processors:
    """Processors of a datacenter, by name; a thread of their own heartbeats for them."""

    def __init__(self, config: Config) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.linger = 0
        for nexus in endpoints(config):
            self._socket.connect(nexus.heartbeats)
        self._dc = config.name
        self._number = int(time.time() * 1000)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.alive: dict[str, Instance] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def own(self, name: str, *partitions: int, endpoints: dict[str, str] | None = None) -> None:
        """From now on this processor lives, and owns these; told at once."""
        with self._lock:
            id = f"{self._dc}-{name}-{self._number}"
            new = self.alive.get(name) or instance(
                name, id, dc=self._dc, started_ms=self._number, endpoints=endpoints
            )  # fmt: skip
            self.alive[name] = replace(new, owns=dict.fromkeys(partitions, 1))
            self._beat()

    def kill(self, name: str) -> None:
        """It falls silent."""
        with self._lock:
            del self.alive[name]

    def leave(self, name: str) -> None:
        """It stops on purpose."""
        with self._lock:
            self._socket.send(encode(make(Leave, self.alive.pop(name).id)))

    def close(self) -> None:
        """All fall silent."""
        self._closed.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _run(self) -> None:
        while not self._closed.wait(HEARTBEAT_S / 2):
            with self._lock:
                self._beat()

    def _beat(self) -> None:
        self._number += 1
        for one in self.alive.values():
            self._socket.send(encode(heartbeat(one, self._number, HEARTBEAT_S)))


class Datacenter:
    """One with its Nexuses and processors; nothing runs before `launch`."""

    def __init__(
        self, folder: Path, name: str, peers: Mapping[str, Sequence[str]] | None = None, *, partitions: int = 32,
        totals: str = "sqlite:///totals.db", node: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.config = mesh_config(
            heartbeat_s=HEARTBEAT_S,
            missed=MISSED,
            name=name,
            partitions=partitions,
            wan_heartbeat_s=WAN_HEARTBEAT_S,
            peers=peers,
            totals=totals,
            node=node,
        )
        self.state_dir = folder / name
        self.nexuses = [NexusProcess(self.state_dir, self.config, number) for number in (1, 2)]
        self.processors = Processors(self.config)

    @property
    def address(self) -> str:
        """HOST:PORT of the first Nexus's heartbeats, as `peers` has it."""
        return self.nexuses[0].endpoints.heartbeats.removeprefix("tcp://")

    def launch(self) -> None:
        """Start the Nexuses; returns at once."""
        for each in self.nexuses:
            each.launch()

    def stop(self) -> None:
        """End everything."""
        self.processors.close()
        for each in self.nexuses:
            each.stop()

    def hears(self, other: Datacenter) -> bool:
        """Whether each Nexus here knows all that live there, Nexuses and processors, with what they own."""
        expected: set[tuple[str, str, tuple[int, ...]]] = {("nexus", f"nexus-{number}", ()) for number in (1, 2)}
        expected |= {("processor", one.name, tuple(one.owns)) for one in other.processors.alive.values()}
        return all(shown(each, other.name) == expected for each in self.nexuses)


def shown(nexus: NexusProcess, dc: str) -> set[tuple[str, str, tuple[int, ...]]]:
    """Role, name and partitions of all of a datacenter that a Nexus calls alive."""
    living = [one.instance for one in everybody(nexus) if one.alive and one.instance.dc == dc]
    return {(one.role, one.name, tuple(one.owns)) for one in living}


def everybody(nexus: NexusProcess) -> tuple[Seen, ...]:
    """All that a Nexus knows, the dead included; waits for its answer."""
    return wait_for(nexus.snapshot, within_s=START_S, what=f"{nexus.name} to answer")


def wait_until_all_know_all(*datacenters: Datacenter) -> None:
    """Wait until every Nexus knows everybody elsewhere."""
    for one in datacenters:
        for other in datacenters:
            if one is not other:
                wait_for(
                    lambda one=one, other=other: one.hears(other),  # type: ignore[misc]
                    within_s=START_S,
                    what=f"{one.name} to know all of {other.name}",
                )
