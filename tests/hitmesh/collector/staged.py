"""A client of an app, over a pair of sockets: both ends in this process, the hub turned by hand."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Any

import gevent

from hitmesh.collector.bounds import Bounds
from hitmesh.collector.client import Client
from hitmesh.collector.connections import Connections
from hitmesh.collector.front import Asked, Front
from hitmesh.http.heads import Heads
from hitmesh.http.held_answer import HeldAnswer
from hitmesh.http.wsgi import Environ
from tests.hitmesh.collector.test_bounds import limits_of
from tests.services import PATIENCE_S

PAUSE_S = 0.001
PEER = ("192.0.2.1", 4711)
QUIET_TURNS = 5  # of the hub, in which whatever it has to do is done


class App:
    """A WSGI app: `answers` has what is done for a path; `straight` are the paths for which it waits for nothing."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Environ, Any], Iterable[bytes]]] = {}
        self.straight: set[str] = set()
        self.asked: list[str] = []
        self.shortcuts: dict[bytes, Held] = {}
        self.shortcuts_asked: list[bytes] = []
        self.ids: list[str] = []  # of the requests that it was asked for

    def shortcut(self, method: bytes, target: bytes, asked: Asked, start_response: Any) -> HeldAnswer | None:
        self.shortcuts_asked.append(target)
        self.ids.append(asked.entry("HTTP_X_REQUEST_ID"))
        held = self.shortcuts.get(target)
        if held is not None:
            held({}, start_response)
        return held

    def never_waits(self, path: str) -> bool:
        return path in self.straight

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        self.asked.append(path)
        return self.answers.get(path, says(path.encode()))(environ, start_response)


def says(body: bytes, status: str = "200 OK") -> Callable[[Environ, Any], Iterable[bytes]]:
    """An answer that is there at once."""

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(status, [("content-length", str(len(body)))])
        return [body]

    return answer


class Held(HeldAnswer):
    """One that is there when the test says so."""

    def __init__(self) -> None:
        self.call: Callable[[], None] | None = None
        self.start_response: Any = None
        self.has_to_wait = False
        self.waited = False

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        self.start_response = start_response
        return self

    def hold(self, released: Callable[[], None]) -> None:
        self.call = released

    def waits(self) -> bool:
        return self.has_to_wait

    def __iter__(self) -> Any:
        if self.has_to_wait:
            gevent.sleep(PAUSE_S)
            self.waited = True
        return iter(says(b"held")({}, self.start_response))

    def release(self) -> None:
        assert self.call is not None
        self.call()


class Stage:
    """A client's socket, and the client as a worker has it."""

    def __init__(self, **limits: float) -> None:
        self.app = App()
        self.connections = Connections(10)
        self.observed: list[tuple[str, str]] = []  # path and status of what was answered
        self.refused = 0
        self.front = Front(
            self.app, {"SCRIPT_NAME": ""},
            bounds=Bounds(limits_of(**limits)), connections=self.connections, heads=Heads("test"),
            observe=lambda asked, status, began_s, took_s: self.observed.append((asked.environ()["PATH_INFO"], status)),
            refused=self._count_refused, used_up=lambda: None, most_requests=1_000_000,
        )  # fmt: skip
        self.socket, ours = socket.socketpair()
        self.socket.setblocking(False)
        ours.setblocking(False)
        self.client = Client(self.front, ours, PEER)
        self.connections.opened(self.client)
        self.client.start_reading()
        self.got = b""
        self.is_over = False

    def _count_refused(self) -> None:
        self.refused += 1

    def send(self, data: bytes) -> None:
        """All of it, as far as the other end lets it."""
        while data:
            try:
                data = data[self.socket.send(data) :]
            except BlockingIOError:
                gevent.sleep(PAUSE_S)

    def receive(self) -> None:
        """Take what there is."""
        try:
            while data := self.socket.recv(1 << 20):
                self.got += data
            self.is_over = True
        except BlockingIOError:
            pass
        except ConnectionError:
            self.is_over = True

    def until(self, what: Callable[[], object]) -> None:
        """Turn the hub until it is so."""
        with gevent.Timeout(PATIENCE_S):
            while not what():
                gevent.sleep(PAUSE_S)

    def until_got(self, end: bytes) -> bytes:
        """All that came, once it ends so; begins anew."""

        def has_come() -> bool:
            self.receive()
            return self.got.endswith(end)

        self.until(has_come)
        got, self.got = self.got, b""
        return got

    def until_over(self) -> bytes:
        """All that came, once the other end has closed."""

        def has_closed() -> bool:
            self.receive()
            return self.is_over

        self.until(has_closed)
        return self.got

    def settle(self) -> None:
        """Let the hub do what it has to do."""
        for _ in range(QUIET_TURNS):
            gevent.sleep(PAUSE_S)  # one of 0 s doesn't look at sockets

    def close(self) -> None:
        """Both ends."""
        self.client.gone()
        with contextlib.suppress(OSError):
            self.socket.close()
