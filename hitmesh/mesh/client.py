"""A role's link to the mesh: it tells every Nexus of itself, and follows what they tell.

It owns its sockets, one greenlet each, and the MeshView that they feed. It must not know what
the role does with the view.

Invariants:
- Heartbeats go out at every interval, at once after `announce`, and quickly until every Nexus
  that is heard shows this instance as alive.
- After a gap in a Nexus's Changes, or a new Nexus, a snapshot is asked for until it has come.
- None of its greenlets ends unnoticed: the process ends with it (mesh.duty).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol

import gevent
import zmq
from gevent.event import Event

from hitmesh import compiled, output
from hitmesh.compiled import COMPILED
from hitmesh.config import Config, NexusEndpoints, Role, nexus_endpoints
from hitmesh.errors import MeshError
from hitmesh.hub.rest import rest
from hitmesh.logs import Complaints
from hitmesh.mesh.connecting import Connections
from hitmesh.mesh.duty import CpuMeter, LagMeter, spawn
from hitmesh.mesh.lookup import TIMEOUT_S, Line
from hitmesh.mesh.network import Network, Socket, nexus_keys
from hitmesh.mesh.pulse import Pulse, sendable
from hitmesh.mesh.recording import of_config
from hitmesh.mesh.sockets import FrameReader, open_socket
from hitmesh.protocol import formats
from hitmesh.protocol.formats import Written
from hitmesh.protocol.messages import MAX_ENDPOINTS, MAX_FRAME_BYTES, Change, Instance
from hitmesh.state.ages import UPTIME
from hitmesh.state.dues import state_of
from hitmesh.state.keylist import Peer
from hitmesh.state.rights import SHUT_OUT
from hitmesh.state.standing import BUSY, DRAINED, UP
from hitmesh.state.view import MeshView

ANNOUNCE_GAP_S: Final = 0.02  # two announcements within it become one heartbeat
EAGER_INTERVALS: Final = 0.1  # between heartbeats while a Nexus doesn't show us yet: a PUB's first ones get lost
EAGER_TRIES: Final = 20  # then at the usual pace again: a Nexus that is full will not show us
TICKS: Final = 5  # per interval: how closely silence is noticed
ASK_GAP_S: Final = 0.02  # between two questions to one Nexus
ASK_AGAIN_MAX_S: Final = 5.0  # to a Nexus that isn't heard; one that is heard is asked at once
MESH_SHARE: Final = 4  # times as long as news took to be worked out, others have the hub before the next
LEAVE_S: Final = 3.0  # that a leaving instance waits to be forgotten by all: a busy Nexus may be slow to hear it
STOP_S: Final = 1.0  # that the greenlets have to end: more than one question takes

log = logging.getLogger(__name__)


class Registered(Protocol):
    """An entry in a catalogue outside of the mesh, by which others find the instance."""

    def run(self, state: Callable[[], str]) -> None:
        """Keep it there, with what `state` says, until it is stopped; it may wait."""

    def stop(self) -> None:
        """Take it out; gives up by itself after a moment."""


class MeshClient:
    """One instance's membership. `network` has a green context, made after any fork.

    `load`, `owns`, `late` (why it fails to do its work, or empty), `written` (the formats in force) and `drained`
    (whether an operator wants it to do no new work) are asked with every heartbeat and must not block; `on_change` is
    called, in a greenlet of its own, with the view after its version has risen. `registered` is kept up to date besides.
    `statistics` are told to recorders with the load, each minute.
    """

    def __init__(
        self,
        config: Config,
        *,
        role: Role,
        name: str,
        instance_id: str,
        endpoints: Mapping[str, str],
        network: Network,
        load: Callable[[], Mapping[str, float]],
        on_change: Callable[[MeshView], None],
        owns: Callable[[], Mapping[int, int]] = dict,
        late: Callable[[], str] = str,
        written: Callable[[], Written] = Written,
        drained: Callable[[], bool] = bool,
        registered: Registered | None = None,
        statistics: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        assert len(endpoints) <= MAX_ENDPOINTS, "a heartbeat has no room for more"
        self._heartbeat_s = config.timing.heartbeat_s
        self._nexuses = [nexus_endpoints(placement) for placement in config.instances("nexus")]
        timing = config.timing
        self.view = MeshView(
            (nexus.changes for nexus in self._nexuses),
            dc=config.name,
            timeout_s=timing.heartbeat_s * timing.missed_heartbeats,
            wan_timeout_s=timing.wan_heartbeat_s * timing.wan_missed_heartbeats,
        )
        self.instance_id = instance_id
        self._dc, self._role, self._name = config.name, role, name
        self._endpoints = dict(endpoints)
        self._started_ms = int(time.time() * 1000)
        self._began = time.monotonic()
        self._network = network
        self._keys = nexus_keys(network.keyring, config)
        self._load, self._owns, self._late, self._on_change = load, owns, late, on_change
        self._written, self._drained = written, drained
        self._registered = registered
        self._recording = of_config(
            config,
            network,
            Peer(config.name, role, name),
            instance_id,
            living=lambda: self.view.live("recorder"),
            figures=lambda: {UPTIME: int(time.monotonic() - self._began), **self.figures(), **statistics()},
        )
        self._farewell: gevent.Greenlet[[], None] | None = None
        self._lag, self._cpu = LagMeter(), CpuMeter()
        self._alone_s = self._began  # when nobody else was shown under our name
        self._namesake_s = (
            2 * timing.heartbeat_s * timing.missed_heartbeats
        )  # by then one that died isn't shown any more
        self._complaints = Complaints(log)
        self._state = "up"
        self._leaving = self._stopped = False
        self._eager = EAGER_TRIES
        self._took_s = 0.0  # to take in the last snapshot
        self._beat_due, self._news = Event(), Event()
        self._wanted = {nexus.lookups: Event() for nexus in self._nexuses}
        self._pulse: Pulse | None = None
        self._readers: list[Socket] = []
        self._connections: list[Connections] = []
        self._greenlets: list[gevent.Greenlet[[], None]] = []

    def start(self) -> None:
        """Begin to send and to listen; returns at once."""
        assert self._pulse is None, "started already"
        heartbeats = [nexus.heartbeats for nexus in self._nexuses]
        self._pulse = Pulse(
            self._network, heartbeats, keys=self._keys, heartbeat_s=self._heartbeat_s, describe=self._describe
        )
        self._spawn("heartbeats", partial(self._beat, self._pulse))
        self._spawn("clock", self._tick)
        self._spawn("news", self._tell)
        self._lag.start()
        if self._recording is not None:
            self._recording.start()
        if self._registered is not None:
            gevent.spawn(self._registered.run, self._now)  # whatever becomes of it is no matter of the mesh's
        for nexus in self._nexuses:
            self._spawn(f"changes of {nexus.changes}", partial(self._follow, nexus, self._subscribe(nexus)))
            self._spawn(f"snapshots of {nexus.lookups}", partial(self._fetch, nexus))

    def announce(self) -> None:
        """Send a heartbeat now: something changed. Many calls in a row make one heartbeat."""
        self._beat_due.set()

    def figures(self) -> dict[str, float]:
        """What heartbeats tell, but for how busy and how old this instance is."""
        return {
            COMPILED: compiled.is_compiled(),
            "log_lost": output.lost(),
            SHUT_OUT: sum(one.failing for one in self._connections) + (self._pulse.failing if self._pulse else 0),
            **self._load(),
            **(self._recording.load() if self._recording is not None else {}),
            **self._network.load(),  # at the end: what strangers do pushes nothing else out
        }

    def lag(self) -> dict[str, float]:
        """How long the hub has kept callbacks waiting since the start: a histogram's snapshot."""
        return self._lag.histogram.snapshot()

    def refresh(self) -> None:
        """Ask every Nexus for all it knows: who is to see each heartbeat needs it, since Changes tell of news only.

        Returns at once; many calls in a row make one question.
        """
        for wanted in self._wanted.values():
            wanted.set()

    def drain(self) -> None:
        """Tell everybody that this instance finishes its work and wants no more."""
        self._state = "draining"
        self.announce()
        self._say_farewell()

    def stop(self) -> None:
        """Leave the mesh: say so, wait a moment until every Nexus has heard it, close."""
        if self._pulse is None or self._stopped:
            return
        self._leaving = True
        self.announce()
        self._say_farewell()
        if self._recording is not None:
            self._recording.flush()
        deadline = time.monotonic() + LEAVE_S
        while self.view.connected and self.view.shows(self.instance_id) and time.monotonic() < deadline:
            self._pulse.leave(self.instance_id)
            gevent.sleep(ANNOUNCE_GAP_S)
        self._stopped = True
        if self._recording is not None:
            self._recording.stop()
        self._lag.stop()
        for event in (self._beat_due, self._news, *self._wanted.values()):
            event.set()
        for connections in self._connections:
            connections.close()
        for socket in self._readers:
            socket.close(linger=0)
        gevent.joinall(self._greenlets, timeout=STOP_S)
        if self._farewell is not None:
            self._farewell.join(STOP_S)
        self._pulse.close()

    # --- one greenlet each ----------------------------------------------------------------

    def _beat(self, pulse: Pulse) -> None:
        while not self._leaving:
            self._beat_due.clear()
            pulse.beat()
            gevent.sleep(ANNOUNCE_GAP_S)
            self._beat_due.wait(max(0.0, self._pause_s() - ANNOUNCE_GAP_S))
        while not self._stopped:  # the last words are being said; the socket is still needed
            gevent.sleep(ANNOUNCE_GAP_S)

    def _pause_s(self) -> float:
        if self._eager > 0 and self.view.lacks(self.instance_id):
            self._eager -= 1
            return self._heartbeat_s * EAGER_INTERVALS
        return self._heartbeat_s

    def _follow(self, nexus: NexusEndpoints, socket: Socket) -> None:
        reader = FrameReader(self._network, socket, nexus.changes, clock=time.monotonic, rest=rest)
        while (change := reader.receive(Change)) is not None:
            if self.view.change(nexus.changes, change, time.monotonic()):
                self._wanted[nexus.lookups].set()
            self._notice()

    def _fetch(self, nexus: NexusEndpoints) -> None:
        wanted = self._wanted[nexus.lookups]
        line = Line(self._network, nexus.lookups, self._keys)
        pause_s = TIMEOUT_S
        while not self._stopped:
            wanted.clear()
            if self._snapshot(nexus, line):
                pause_s = TIMEOUT_S
                wanted.wait()
                if self.view.lacks(self.instance_id):
                    self._eager = EAGER_TRIES  # a Nexus that is new to us may not know us
                    self.announce()
            else:
                wanted.wait(pause_s)
                pause_s = min(pause_s * 2, ASK_AGAIN_MAX_S)
            gevent.sleep(max(ASK_GAP_S, MESH_SHARE * self._took_s))
        line.close()

    def _snapshot(self, nexus: NexusEndpoints, line: Line) -> bool:
        try:
            answer = line.ask("snapshot", "", TIMEOUT_S)
        except MeshError:
            return False
        began = time.monotonic()
        again = self.view.answer(nexus.changes, answer, began)
        self._took_s = time.monotonic() - began
        self._notice()
        return not again

    def _tick(self) -> None:
        while not self._stopped:
            gevent.sleep(self._heartbeat_s / TICKS)
            self.view.tick(time.monotonic())
            self._notice()
            self._look_for_namesake(time.monotonic())

    def _tell(self) -> None:
        told = 0
        while not self._stopped:
            self._news.wait()
            self._news.clear()
            began = time.monotonic()
            if self.view.version != told:
                told = self.view.version
                self._on_change(self.view)
            gevent.sleep(min(MESH_SHARE * (time.monotonic() - began), self._heartbeat_s))

    # --- within ---------------------------------------------------------------------------

    def _look_for_namesake(self, now: float) -> None:
        """Say so when another process stays in the mesh under our name; one that we replace is gone at once."""
        one = self.view.namesake(self._role, self._name, self.instance_id)
        if one is None:
            self._alone_s = now
        elif now - self._alone_s > self._namesake_s:
            self._complaints.warn(
                "namesake",
                "%s of %s is another process already (%s, pid %d), which the mesh goes on with: nobody sends anything here. "
                "Stop one of the two, or give one another --name",
                self._name, self._dc, one.id, one.pid,
            )  # fmt: skip

    def _now(self) -> str:
        """Its state."""
        state = state_of(self._state, self._late() or self._written().unreadable)
        return DRAINED if state == UP and self._drained() else state

    def _say_farewell(self) -> None:
        if self._registered is not None and self._farewell is None:
            self._farewell = gevent.spawn(self._registered.stop)

    def _notice(self) -> None:
        self._news.set()

    def _spawn(self, what: str, run: Callable[[], None]) -> None:
        self._greenlets.append(spawn(f"the mesh client's {what}", self._lasting, run))

    def _lasting(self, run: Callable[[], None]) -> None:
        run()
        assert self._stopped, "it ended by itself"

    def _subscribe(self, nexus: NexusEndpoints) -> Socket:
        socket = open_socket(self._network, zmq.SUB, heartbeat_s=self._heartbeat_s, receive_bytes=MAX_FRAME_BYTES)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._connections.append(Connections(self._network, socket, [nexus.changes], what="changes", keys=self._keys))
        self._readers.append(socket)
        return socket

    def _describe(self) -> Instance:
        written = self._written()
        load, release = formats.telling(
            {
                UPTIME: int(time.monotonic() - self._began),
                "hub_lag_s": self._lag.read(),
                BUSY: self._cpu.read(),
                **self.figures(),
            },
            written.wire,
        )
        return Instance(
            self._dc, self._role, self._name, self.instance_id, self._now(), os.getpid(), self._started_ms,
            self._endpoints, sendable(load), dict(self._owns()), release,
        )  # fmt: skip
