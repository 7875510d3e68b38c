"""A balancer's middle in one process: clients, backends and the clock are played, everything between them is the real thing.

Wires do what a socket would: they take as many bytes as there is room for, keep the rest, and fail when told to.
What is done on them is written down, in order, for whoever asks `did`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from balancer.measures.stats import BackendStats, FrontStats
from balancer.middle.backend import Backend, Suspicion
from balancer.middle.client import Client
from balancer.middle.reporter import Reporter
from balancer.middle.routes import RouteTable
from balancer.middle.service import Service, World
from balancer.middle.traffic import Traffic
from balancer.middle.upstream import Upstream
from hitmesh.config import Balancer, BalancerLimits, Proxy
from hitmesh.http.wire import Wire
from hitmesh.logs import Complaints

ROOM: Final = 1 << 30  # what a peer takes that isn't slow
QUIET: Final = logging.getLogger("tests.balancer.middle")
BROKEN: Final = ConnectionResetError(104, "Connection reset by peer")
BEGAN: Final = 1000.0
WALL: Final = 1_700_000_000.0


class PlayedWire(Wire):
    """A wire whose peer takes `room` bytes more. `failed` is told when the peer turns out to be gone."""

    def __init__(self, name: str, did: Callable[[str, bytes], None]) -> None:
        super().__init__()
        self.name = name
        self.room = ROOM
        self.out = b""  # what the kernel took
        self.heads: list[bytes] = []  # with what was sent behind each at once, of requests that begin on it
        self.unacknowledged = 0
        self.is_broken = False  # which the next send finds out
        self.was_reset = False
        self.was_shut = False
        self.failed: Callable[[OSError], None] = lambda error: None
        self._did = did

    def start_reading(self) -> None:
        self.reading = not self.closed

    def stop_reading(self) -> None:
        self.reading = False

    def send(self, data: bytes) -> bool:
        if self.closed:
            return False
        if self.kept:
            self.kept.append(data)
            return False
        if self.is_broken:
            self.failed(BROKEN)
            return False
        return self._put(data)

    def first_send(self, data: bytes) -> bool:
        assert not self.closed
        if self.is_broken:
            return False
        self.heads.append(data)
        self._put(data)
        return True

    def drop_kept(self) -> None:
        self.kept = None

    def untaken(self) -> int:
        return sum(map(len, self.kept or ())) + self.unacknowledged

    def shut(self) -> None:
        if not self.was_shut:
            self.was_shut = True
            self._did("shut", b"")

    def reset(self) -> None:
        self.was_reset = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.reading = False
            self.kept = None
            self._did("reset" if self.was_reset else "close", b"")

    def takes(self, size: int) -> bool:
        """The peer takes so many bytes more; whether all that was kept is gone now."""
        self.room += size
        while self.kept and self.room:
            data = self.kept.popleft()
            sent = data[: self.room]
            if len(sent) < len(data):
                self.kept.appendleft(data[len(sent) :])
            self.room -= len(sent)
            self.out += sent
            self._did("send", sent)
        return not self.kept

    def _put(self, data: bytes) -> bool:
        sent = data[: self.room]
        self.room -= len(sent)
        self.out += sent
        if sent:
            self._did("send", sent)
        if len(sent) < len(data):
            self.kept = deque([data[len(sent) :]])
            return False
        return True


class Connection:
    """One connection to a backend, as the backend has it."""

    def __init__(self, play: Play, number: int, backend: Backend, upstream: Upstream) -> None:
        self.play = play
        self.backend = backend
        self.upstream = upstream
        self.name = f"{backend.name}.{number}"
        self.wire = PlayedWire(self.name, lambda what, data: play.note(self.name, what, data))
        self.wire.failed = lambda error: upstream.cannot_send(error, play.now)
        self.is_connecting = True
        self.has_ended = False

    @property
    def alive(self) -> bool:
        return not self.wire.closed and not self.has_ended

    def connects(self) -> None:
        assert self.is_connecting
        self.is_connecting = False
        self._tell(lambda: self.upstream.connected(self.play.now))

    def refuses(self) -> None:
        assert self.is_connecting
        self.is_connecting = False
        self.has_ended = True
        self._tell(lambda: self.upstream.lost(ConnectionRefusedError(111, "Connection refused"), self.play.now))

    def says(self, data: bytes) -> None:
        assert self.wire.reading
        self._tell(lambda: self.upstream.carried.answered(data, self.play.now))

    def ends(self) -> None:
        assert self.wire.reading
        self.has_ended = True
        self.wire.stop_reading()
        self._tell(lambda: self.upstream.carried.backend_ended(self.play.now))

    def breaks(self) -> None:
        self.has_ended = True
        self.wire.is_broken = True
        self._tell(lambda: self.upstream.lost(BROKEN, self.play.now))

    def takes(self, size: int = ROOM) -> None:
        kept = bool(self.wire.kept)
        if self.wire.takes(size) and kept:
            self._tell(lambda: self.upstream.carried.backend_drained(self.play.now))

    def _tell(self, what: Callable[[], None]) -> None:
        if not self.wire.closed:
            what()


class Visitor:
    """A client, as it sees itself."""

    def __init__(self, play: Play, number: int, *, room: int) -> None:
        self.play = play
        self.name = f"client.{number}"
        self.wire = PlayedWire(self.name, lambda what, data: play.note(self.name, what, data))
        self.wire.room = room
        self.has_ended = False
        self.client = Client(
            play.traffic, self.wire, stats=play.front, address="192.0.2.1", scheme="http", local="[::1]:80", now=play.now
        )  # fmt: skip
        self.wire.failed = lambda error: self.client.lost(error, play.now)
        self.wire.start_reading()

    @property
    def alive(self) -> bool:
        return not self.wire.closed and not self.has_ended

    def says(self, data: bytes) -> None:
        assert self.wire.reading
        self.client.received(data, self.play.now)

    def ends(self) -> None:
        assert self.wire.reading
        self.has_ended = True
        self.wire.stop_reading()
        self.client.ended(self.play.now)

    def breaks(self) -> None:
        self.has_ended = True
        self.wire.is_broken = True
        if not self.wire.closed:
            self.client.lost(BROKEN, self.play.now)

    def takes(self, size: int = ROOM) -> None:
        kept = bool(self.wire.kept)
        if self.wire.takes(size) and kept and not self.wire.closed:
            self.client.drained(self.play.now)


class Suspicious(Suspicion):
    """Remembers what was seen; a refused connection takes the backend out, as a Checker does."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.said: list[str] = []

    def unreachable(self, reason: str) -> None:
        self.said.append(reason)
        if self.backend.usable:
            self.backend.usable = False
            self.backend.forget()

    def suspect(self, reason: str) -> None:
        self.said.append(reason)


class Play(World):
    """Everything together. `route` is the default's, to backends "one", "two" and so on; all may be changed meanwhile."""

    def __init__(self, route: Proxy, *, backends: int = 1, limits: BalancerLimits | None = None) -> None:
        self.now = BEGAN
        self.draws = 0.99  # of equal ones the first is chosen
        self.has_files = True
        self.connections: list[Connection] = []
        self.visitors: list[Visitor] = []
        self.forgotten: list[Backend] = []  # that had left, and have nothing in hand any more
        self.lines: list[bytes] = []  # of the access log
        self._did: list[tuple[str, str, bytes]] = []
        self._numbers = itertools.count()
        self.front = FrontStats(self.now)
        self.limits = limits or BalancerLimits()
        QUIET.disabled = True  # thousands of plays would be written
        complaints = Complaints(QUIET, clock=lambda: self.now)
        self.reporter = Reporter(self.lines.append, wall=self.wall, complaints=complaints)
        self.services: list[Service] = []  # the last one is in force
        settings = Balancer(limits=self.limits)
        self.traffic = Traffic(
            settings, services=self.services, reporter=self.reporter, wall=self.wall, id_prefix=b"play"
        )  # fmt: skip
        self.change_route(route, backends)

    # --- the world --------------------------------------------------------------------------

    def open(self, upstream: Upstream, backend: Backend) -> None:
        if not self.has_files:
            raise OSError(24, "Too many open files")
        connection = Connection(self, next(self._numbers), backend, upstream)
        self.connections.append(connection)
        upstream.wire = connection.wire
        self.note(connection.name, "open", b"")

    def draw(self) -> float:
        return self.draws

    def wall(self) -> float:
        return WALL + self.now - BEGAN

    # --- what is played ---------------------------------------------------------------------

    @property
    def service(self) -> Service:
        return self.services[-1]

    def visitor(self, *, room: int = ROOM) -> Visitor:
        self.visitors.append(Visitor(self, len(self.visitors), room=room))
        return self.visitors[-1]

    def change_route(self, route: Proxy, backends: int = 1) -> None:
        """Another service is in force from now on."""
        before = self.services[-1:]
        name = f"route-{len(self.services)}"
        self.services.append(Service(name, route, backend_idle_s=self.limits.backend_idle_s, world=self, now=self.now))
        for number in range(backends):
            self.join(("one", "two", "three")[number])
        table = RouteTable({"default": route}, {})
        for match in table:
            match.made = self.service
        self.traffic.table = table
        for service in before:
            for backend in list(service.backends):
                self.leave(backend)
            service.dissolve(self.now)

    def join(self, name: str) -> Backend:
        service = self.service
        stats = service.stats.backends.setdefault(name, BackendStats(name, self.now))
        backend = Backend(
            name=name, id=name, family=0, address=name, limit=service.route.backend_connections, stats=stats, since=0.0
        )  # fmt: skip
        backend.suspicion = Suspicious(backend)
        service.backends = (*service.backends, backend)
        service.wake(self.now)
        return backend

    def leave(self, backend: Backend) -> None:
        """As `Services` lets one go."""
        for service in self.services:
            if backend in service.backends:
                service.backends = tuple(each for each in service.backends if each is not backend)
        backend.gone = True
        backend.usable = False
        backend.forget()
        backend.when_idle = lambda: self.forgotten.append(backend)
        if not backend.in_hand:
            self.forgotten.append(backend)

    def use(self, backend: Backend, usable: bool) -> None:
        """As a Checker says."""
        was, backend.usable = backend.usable, usable and not backend.gone
        if was and not usable:
            backend.forget()
        elif backend.usable and not was:
            self.service.wake(self.now)

    def pass_time(self, seconds: float) -> None:
        """Later; and what is late then is swept."""
        self.now += seconds
        late: list[Any] = [each.client for each in self.visitors if each.client.deadline < self.now]  # in a known order
        late += [each.upstream for each in self.connections if each.upstream.deadline < self.now]
        for end in late:
            if not end.wire.closed and end.deadline < self.now:
                end.expire(self.now)

    def note(self, who: str, what: str, data: bytes) -> None:
        self._did.append((who, what, data))

    def did(self) -> list[str]:
        """What was done since the last time."""
        did, self._did = self._did, []
        return [f"{who} {what} {shown(data)}".rstrip() for who, what, data in did]


def shown(data: bytes) -> str:
    """Of a message its first line's essence and its body, of anything else the beginning."""
    head, found, body = data.partition(b"\r\n\r\n")
    if found:
        first = head.partition(b"\r\n")[0].decode("latin-1")
        words = first.split(" ")
        first = " ".join(words[1:2] if words[0].startswith("HTTP/") else words[:2])
        return f"{first} {_text(body)}".rstrip()
    return _text(data)


def _text(data: bytes) -> str:
    if data.startswith(b'{"title":'):  # an answer of our own
        with contextlib.suppress(ValueError):  # some of one
            return str(json.loads(data)["description"])
    text = data.decode("latin-1").replace("\r\n", "|")
    return text if len(text) <= 60 else f"{text[:20]}... ({len(data)} bytes)"
