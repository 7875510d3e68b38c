"""Every key of a mesh on the test bed is changed while an access log is replayed into all of its datacenters.

As docs/operations/keys.md has it for a mesh of several hosts: new keys are put on the list, put into use by restarting one
instance after the other, and the old ones are taken off. `bench/run wan --parts rotate` prints what comes of it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hitmesh.errors import MeshError
from hitmesh.mesh.keyring import read_list
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.messages import Instance
from hitmesh.protocol.names import split_key
from tests.services import wait_for
from tests.wan.clients import HITMESH, Replayed, replay_into
from tests.wan.datacenter import Datacenter
from tests.wan.mesh import Mesh

SEEN_S: Final = 2.0  # for every process to have looked at a list that was changed
LOOKUP_S: Final = 2.0  # for one Nexus's answer, before another one is asked
BACK_S: Final = 120.0  # for an instance to be back, on a busy machine
LOOK_S: Final = 0.5  # between two looks at who is alive
RELOADS: Final = ("collector", "balancer")  # which start new workers in place of the old ones on SIGHUP
Place = tuple[str, str]  # datacenter and name of an instance
HITS: Final = 500  # of the log, into each datacenter, again and again


@dataclass
class Rotated:
    """What came of it."""

    seconds: float = 0.0
    restarts: int = 0
    replays: list[Replayed] = field(default_factory=list)
    looks: int = 0
    gaps: Counter[str] = field(default_factory=Counter)  # who was missed by some datacenter, and how often
    left: set[str] = field(default_factory=set)  # former keys that are on the list, or in use


class _Replays(threading.Thread):
    """The same hits of a log into all datacenters, again and again until `stop`, all of them each time."""

    def __init__(self, mesh: Mesh, log: Path, site: str) -> None:
        super().__init__()
        self.rounds = 0
        self.replays: list[Replayed] = []
        self._mesh, self._log, self._site = mesh, log, site
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            self.replays += replay_into(self._mesh, self._log, self._site, limit=HITS).values()
            self.rounds += 1

    def stop(self) -> None:
        self._ending.set()
        self.join()


class _Watch(threading.Thread):
    """Looks, in every datacenter, whether everybody is alive whom nobody has stopped."""

    def __init__(self, mesh: Mesh, found: Rotated) -> None:
        """Looks once, so that it knows who is there; to be made when the list has everybody's new keys."""
        super().__init__()
        self.stopped: Place | None = None  # who is being restarted
        self._mesh, self._found = mesh, found
        self._ending = threading.Event()
        self._lookups: dict[str, Lookups] = {}
        self._living: dict[str, dict[Place, Instance]] = {}
        self._look()
        self._shown = {dc: set(living) for dc, living in self._living.items()}

    def run(self) -> None:
        while not self._ending.wait(LOOK_S):
            stopped = self.stopped
            self._look()
            self._found.looks += 1
            for dc, living in self._living.items():
                missed = self._shown[dc] - living.keys() - {stopped, self.stopped}
                self._found.gaps.update(f"{name} of {where}, in {dc}" for where, name in missed)

    def stop(self) -> None:
        self._ending.set()
        self.join()
        for each in self._lookups.values():
            each.close()

    def id_of(self, place: Place) -> str:
        """Of the process that runs."""
        return self._living[place[0]][place].id

    def shows_anew(self, place: Place, former: str) -> bool:
        """Whether everybody sees another process there, misses nobody, and every partition is owned."""
        for dc, living in self._living.items():
            if self._shown[dc] - living.keys() or (place in living and living[place].id == former):
                return False
            owned = {number for (where, _), one in living.items() if where == dc for number in one.owns}
            if len(owned) < self._mesh[dc].config.partitions:
                return False
        return True

    def endpoints(self) -> set[str]:
        """Where everybody says that it can be reached."""
        return {
            where for living in self._living.values() for one in living.values() for where in one.endpoints.values()
        }

    def _look(self) -> None:
        found: dict[str, dict[Place, Instance]] = {}
        for dc in self._mesh:
            with dc.client.inside():  # where its sockets are made, at first
                if dc.name not in self._lookups:
                    self._lookups[dc.name] = Lookups.of(dc.config, timeout_s=LOOKUP_S)
                try:
                    answer = self._lookups[dc.name].snapshot()
                except MeshError:  # within its time
                    answer = None
            if answer is None or not answer.warm:  # one that has just started knows few: roles go by the other one
                found[dc.name] = self._living.get(dc.name, {})
                continue
            found[dc.name] = {(one.instance.dc, one.instance.name): one.instance for one in answer.seen if one.alive}
        self._living = found


def rotate(mesh: Mesh, log: Path, site: str) -> tuple[Rotated, int]:
    """Change every key; what came of it, and how often the log's hits were replayed into each datacenter."""
    found = Rotated()
    folder = mesh.folder / "keys"
    former = {key for key, _ in read_list(folder).items()}
    replays = _Replays(mesh, log, site)
    replays.start()
    begun = time.monotonic()
    try:
        _step("add", folder)
        _step("use", folder)
        watch = _Watch(mesh, found)
        watch.start()
        try:
            for dc in mesh:
                for name in _instances(dc):
                    _restart(dc, name, watch)
                    found.restarts += 1
        finally:
            watch.stop()
        _step("drop", folder)
        found.seconds = time.monotonic() - begun
    finally:
        replays.stop()
    found.replays = replays.replays
    said = {split_key(where)[1] for where in watch.endpoints()}
    found.left = former & ({key for key, _ in read_list(folder).items()} | said)
    return found, replays.rounds


def is_balanced(dc: Datacenter) -> bool:
    """Whether the books of one datacenter balance, by its stores and spools alone, which only its hosts reach."""
    state_dir = dc.state_dir / f"audit-{dc.name}"
    state_dir.mkdir(exist_ok=True)
    if not (state_dir / dc.name).exists():
        (state_dir / dc.name).symlink_to(dc.folder)
    audit = dc.client.run([*HITMESH, "audit", "--state-dir", str(state_dir)])
    if audit.returncode:
        print(audit.stdout + audit.stderr, file=sys.stderr)
    return not audit.returncode


def _step(step: str, folder: Path) -> None:
    subprocess.run([*HITMESH, "keys", "rotate", "--step", step, "--keys", str(folder)], check=True, capture_output=True)
    time.sleep(SEEN_S)


def _instances(dc: Datacenter) -> Iterator[str]:
    """The roles' instances, in the order in which they are restarted."""
    for role in ("nexus", "processor", "collector", "balancer"):
        yield from sorted(name for name in dc.names if name.startswith(role))


def _restart(dc: Datacenter, name: str, watch: _Watch) -> None:
    place = dc.name, name
    former = watch.id_of(place)
    watch.stopped = place
    if name.startswith(RELOADS):
        dc.signal(name, signal.SIGHUP)
    else:
        dc.terminate(name)
        dc.start(name)
    wait_for(lambda: watch.shows_anew(place, former), within_s=BACK_S, what=f"{name} of {dc.name} with its new key")
    time.sleep(2 * LOOK_S)  # a look that has begun may have asked before
    watch.stopped = None
