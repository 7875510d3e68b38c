"""Real Nexus processes, and instances in processes of their own, on free ports of loopback."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hitmesh.config import Config, NexusEndpoints, dump, nexus_endpoints, parse
from hitmesh.errors import MeshError
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.messages import Seen
from tests.services import PATIENCE_S, WORKER, WORKERS, Server, wait_for

HEARTBEAT_S = 0.2
ANSWER_S = 1.0  # of one of three tries: who may be down isn't waited for longer


# Below those that the kernel gives out by itself; each pytest worker has a part of both.
ROWS = range(10_000, 16_000)
MESHES = range(16_000, 32_000)


def free_ports(count: int, *, within: range = ROWS, step: int = 1) -> int:
    """The first of `count` ports in a row that the kernel calls free; a multiple of `step`."""
    part = len(within) // WORKERS
    mine = [port for port in within[part * WORKER : part * (WORKER + 1) - count] if port % step == 0]
    random.SystemRandom().shuffle(mine)  # there may be other runs on this machine
    for first in mine:
        probes = [socket.socket() for _ in range(count)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        finally:
            for probe in probes:
                probe.close()
        return first
    raise AssertionError(f"no {count} free ports in a row")


def mesh_config(
    *,
    nexuses: int = 2,
    heartbeat_s: float = HEARTBEAT_S,
    missed: int = 3,
    name: str = "dev",
    partitions: int = 32,
    wan_heartbeat_s: float = 5.0,
    peers: Mapping[str, Sequence[str]] | None = None,
    totals: str = "sqlite:///totals.db",
    node: Mapping[str, Any] | None = None,
) -> Config:
    """A datacenter on loopback whose Nexuses have free ports; `node` has what is to be said of its only one besides."""
    local = {"address": "127.0.0.1", "nexus": nexuses, "processor": 2, "collector": 1, **(node or {})}
    return parse(
        {
            "name": name,
            "partitions": partitions,
            "nodes": {"local": local},
            "ports": {"nexus": free_ports(3 * nexuses)},
            "timing": {"heartbeat_s": heartbeat_s, "missed_heartbeats": missed, "wan_heartbeat_s": wan_heartbeat_s},
            "peers": {dc: list(addresses) for dc, addresses in (peers or {}).items()},
            "stores": {"totals": totals},
        },
        source="test",
    )


def endpoints(config: Config) -> list[NexusEndpoints]:
    """Those of the configured Nexuses, in order."""
    return [nexus_endpoints(placement) for placement in config.instances("nexus")]


class NexusProcess(Server):
    """One configured Nexus."""

    def __init__(self, folder: Path, config: Config, number: int) -> None:
        super().__init__(folder)
        self.name = f"nexus-{number}"
        self.config = config
        self.endpoints = endpoints(config)[number - 1]
        self.file = folder / f"{self.name}.toml"
        self.file.write_text(dump(config))

    def command(self) -> list[str]:
        options = {"--config": str(self.file), "--name": self.name, "--state-dir": str(self.folder)}
        return [sys.executable, "-m", "nexus", *(word for pair in options.items() for word in pair)]

    def launch(self) -> None:
        """Start it without waiting, for tests whose own hub must go on."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=subprocess.STDOUT)

    def is_up(self) -> bool:
        return self.is_warm()

    def is_warm(self) -> bool:
        """Whether it answers and knows everybody."""
        with Lookups([self.endpoints.lookups], timeout_s=ANSWER_S) as lookups:
            try:
                return lookups.snapshot().warm
            except MeshError:
                return False

    def snapshot(self) -> tuple[Seen, ...]:
        """Everybody it knows; nobody when it doesn't answer."""
        with Lookups([self.endpoints.lookups], timeout_s=ANSWER_S) as lookups:
            try:
                return lookups.snapshot().seen
            except MeshError:
                return ()

    def load(self) -> Mapping[str, float]:
        """What it tells of itself."""
        own = (one.instance for one in self.snapshot() if one.alive and one.instance.endpoints)
        mine = [one.load for one in own if one.endpoints.get("lookups") == self.endpoints.lookups]
        return mine[0] if mine else {}

    def has_forgotten_all(self) -> bool:
        """Whether it knows only Nexuses; makes it forget the dead."""
        with Lookups([self.endpoints.lookups], timeout_s=PATIENCE_S) as lookups:
            known = [one for one in lookups.snapshot().seen if one.instance.role != "nexus"]
            for one in known:
                if not one.alive:
                    lookups.forget(one.instance.name)
            return not known

    def cpu_s(self) -> float:
        """What its process has used so far, user and system."""
        return cpu_s(self.pid)

    def open_files(self) -> int:
        """How many file descriptors it has."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        super().stop()


def cpu_s(pid: int) -> float:
    """The CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def two_nexuses(folder: Path, config: Config) -> Iterator[list[NexusProcess]]:
    """The two Nexuses of a datacenter, not started yet, and stopped at the end."""
    both = [NexusProcess(folder, config, number) for number in (1, 2)]
    try:
        yield both
    finally:
        for one in both:
            one.stop()


@pytest.fixture(scope="module")
def nexus_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NexusProcess]]:
    """Two Nexuses for the tests of one module: starting them anew for each takes seconds."""
    with two_nexuses(tmp_path_factory.mktemp("nexuses"), mesh_config()) as both:
        yield both


@pytest.fixture
def nexuses(nexus_processes: list[NexusProcess]) -> list[NexusProcess]:
    """The two Nexuses of a datacenter, both up and warm, which know nobody but each other."""
    for one in nexus_processes:
        if one.process is not None and one.process.poll() is None:
            one.signal(signal.SIGCONT)
        else:
            one.launch()
    for one in nexus_processes:
        wait_for(one.is_warm, what=f"{one.name} to be warm")
        wait_for(one.has_forgotten_all, what=f"{one.name} to forget those of the test before")
    return nexus_processes


@contextmanager
def peer(config: Config, name: str, role: str = "processor", **options: str) -> Iterator[subprocess.Popen[str]]:
    """An instance in a process of its own; a line of JSON on stdout for each change of its view."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.services.peer",
            role,
            name,
            *(f"{key}={value}" for key, value in options.items()),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(dump(config))
    process.stdin.close()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_for_names(config: Config, role: str, expected: set[str], *, within_s: float = PATIENCE_S) -> None:
    """Wait until every Nexus calls just these instances of a role alive."""
    for nexus in endpoints(config):
        with Lookups([nexus.lookups], timeout_s=PATIENCE_S) as lookups:
            wait_for(
                lambda lookups=lookups: {one.instance.name for one in lookups.service(role)} == expected,  # type: ignore[misc]
                within_s=within_s,
                what=f"{nexus.lookups} to know {sorted(expected)}",
            )
