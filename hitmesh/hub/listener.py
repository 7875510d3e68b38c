"""An HTTP listener beside a role's work: one greenlet for each connection, and a WSGI app that answers.

Owns the bounds of what a client may send, hold and how long it may take; knows nothing of what the app says. The bytes
are read by `hitmesh.http`, as strictly as the balancer's and the collectors'.

Invariants:
- No body is read: a request that has one is refused, and was its connection's last.
- Every wait for a client has an end. Of those that are waited for the one that waits for the longest goes when half of
  the places are taken, and with all of them taken an answer is its connection's last one: so whoever asks is answered.
- With `turn_s` all clients together get one answer in that time: asking without end takes little from the role's work.
- A stream ends when its client takes nothing for WRITE_S, or when the process stops.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import time
from collections.abc import Iterable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import gevent
import msgspec
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

from hitmesh.config.checks import COLLECTOR_KEEP_ALIVE_S
from hitmesh.http.errors import BadMessage
from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS, FIELDS, HEAD_BYTES, HeadLimits
from hitmesh.http.requests import Request, RequestReader
from hitmesh.http.wsgi import App, Environ, Headers, encoded, environ_of
from hitmesh.hub.turns import Turns

PLACES: Final = 200  # connections beside the streams: what browsers and balancers keep for their next request
HEAD_S: Final = 10.0  # to a whole head
IDLE_S: Final = COLLECTOR_KEEP_ALIVE_S  # longer than a balancer keeps a connection without a request
WRITE_S: Final = 30.0  # that a client has to take what it is sent
SEND_BYTES: Final = 128 * 1024  # that the kernel keeps of it: it would grow to megabytes of a slow taker's
READ_BYTES: Final = 8 * 1024
BACKLOG: Final = 256
STOP_S: Final = 2.0  # that answers under way have to be taken when the process stops
OTHER_FILES: Final = 100  # sockets to other roles, stores, logs

log = logging.getLogger(__name__)
_monotonic = time.monotonic
_LIMITS: Final = HeadLimits(headers=FIELDS + ADDED_FIELDS, head_bytes=HEAD_BYTES + ADDED_BYTES)


class Listener:
    """Serves `app` at an address: `places` connections at a time, and `streams` others that are streams.

    `headers` are those of the answers that aren't the app's. Raises OSError when it can't listen there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        headers: Sequence[tuple[str, str]],
        places: int = PLACES,
        streams: int = 0,
        turn_s: float = 0.0,
    ) -> None:
        self.app: App
        self.headers = headers
        self.stopping = False
        self._turns, self._turn_s = Turns(), turn_s
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        info = socket.getaddrinfo(host, port, family if ":" in host else 0, socket.SOCK_STREAM)[0]
        listening = socket.socket(info[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)  # its connections have it, too
        try:
            listening.bind(info[4])
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
        self.own: tuple[str, int] = listening.getsockname()[:2]
        self.streams = _places(streams, places) if streams else 0
        self._places = places
        self._pool = Pool(self.streams + places)
        self._server = StreamServer(listening, self._serve, spawn=self._pool)
        self._waiting: dict[_Connection, float] = {}  # for their client's next request, and since when
        self._open: set[_Connection] = set()

    def start(self, app: App) -> None:
        """Begin to answer."""
        self.app = app
        self._server.start()

    def stop(self) -> None:
        """Take no more connections; those that are there are answered, and then closed."""
        self.stopping = True
        self._server.close()
        for connection in list(self._waiting):
            connection.cut()
        deadline = _monotonic() + STOP_S
        while self._open and _monotonic() < deadline:
            gevent.sleep(0.01)

    @property
    def is_full(self) -> bool:
        """Whether somebody may wait for a place."""
        return bool(self._pool.full())

    def await_turn(self) -> None:
        """Return when there may be an answer."""
        if self._turn_s:
            self._turns.wait(self._turn_s)

    def waits(self, connection: _Connection) -> None:
        """It waits for a request."""
        self._waiting[connection] = _monotonic()
        if len(self._waiting) > self._places // 2:
            longest = min(self._waiting, key=self._waiting.__getitem__)
            del self._waiting[longest]
            longest.cut()

    def has_come(self, connection: _Connection) -> None:
        """It waits no more."""
        self._waiting.pop(connection, None)

    def _serve(self, stream: Any, address: tuple[Any, ...]) -> None:
        connection = _Connection(self, stream, address[0])
        self._open.add(connection)
        try:
            connection.run()
        except OSError as error:
            log.debug("%s: %s", address[0], error)  # gone, or too slow
        finally:
            self._open.discard(connection)
            self.has_come(connection)
            stream.close()


class _Connection:
    """One client."""

    def __init__(self, listener: Listener, stream: Any, peer: str) -> None:
        self._listener = listener
        self._stream = stream
        self._peer = peer
        self._reader = RequestReader(_LIMITS)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        """Answer its requests, one after the other. Raises OSError when it is gone."""
        wait_s = HEAD_S
        try:
            while (request := self._next(wait_s)) is not None and self._answer(request):
                wait_s = IDLE_S
                gevent.sleep(0)  # whoever asks without end stops nobody
        except BadMessage as error:
            self._listener.await_turn()
            self._refuse(error.status, str(error))

    def cut(self) -> None:
        """Wait for it no more."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RD)

    def _next(self, wait_s: float) -> Request | None:
        """The next request; None when there will be none. Raises BadMessage."""
        reader = self._reader
        deadline = _monotonic() + (HEAD_S if reader.pending else wait_s)
        self._listener.waits(self)
        begun = bool(reader.pending)
        try:
            while (request := reader.next()) is None:
                if reader.pending and not begun:
                    begun = True  # from its first byte on: one that comes in drops has no more time
                    deadline = _monotonic() + HEAD_S
                data = self._receive(deadline)
                if not data:
                    if begun and _monotonic() >= deadline:
                        raise BadMessage(f"no whole request within {HEAD_S:g} s", status=408)
                    return None
                reader.feed(data)
        finally:
            self._listener.has_come(self)
        return request

    def _receive(self, deadline: float) -> bytes:
        """What comes; nothing at the end, or when it is late."""
        self._stream.settimeout(max(0.001, deadline - _monotonic()))
        try:
            data: bytes = self._stream.recv(READ_BYTES)
        except TimeoutError:
            return b""
        return data

    def _answer(self, request: Request) -> bool:
        """Whether the connection goes on after it."""
        if not self._reader.body_done:
            raise BadMessage("nothing is taken here: a request may have no body", status=413)
        self._listener.await_turn()
        environ = environ_of(request, b"", peer=self._peer, own=self._listener.own, scheme="http")
        started: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, _problem: object = None) -> None:
            started.append((status, headers))

        try:
            body = self._listener.app(environ, start)
        except Exception:
            log.exception("a fault in a request of %s", self._peer)
            self._refuse(500, "this is a fault of the server's; its log says more")
            return False
        status, headers = started[-1]
        if _is_stream(headers) and request.method == b"GET":
            self._send_stream(status, headers, body, environ)
            return False
        keep_alive = request.keep_alive and not (self._listener.stopping or self._listener.is_full)
        self._send(encoded(status, headers, b"".join(body), environ=environ, keep_alive=keep_alive, date=_date()))
        return keep_alive

    def _send_stream(self, status: str, headers: Headers, pieces: Iterable[bytes], environ: Environ) -> None:
        """One whose end is that of the connection: it has no length, and no next request."""
        try:
            as_head = {**environ, "REQUEST_METHOD": "HEAD"}
            self._send(encoded(status, headers, b"", environ=as_head, keep_alive=False, date=_date()))
            for piece in pieces:
                self._send(piece)
        finally:
            if close := getattr(pieces, "close", None):
                close()

    def _send(self, data: bytes) -> None:
        self._stream.settimeout(WRITE_S)
        self._stream.sendall(data)

    def _refuse(self, status: int, description: str) -> None:
        """The connection's last answer, which isn't the app's."""
        phrase = HTTPStatus(status)
        body = msgspec.json.encode({"title": phrase.phrase, "description": description})
        headers = [*self._listener.headers, ("Cache-Control", "no-store"), ("Content-Type", "application/json")]
        environ = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"}
        self._send(encoded(f"{status} {phrase.phrase}", headers, body, environ=environ, keep_alive=False, date=_date()))
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)  # with its unread bytes a close would reset it, answer and all
            self._stream.settimeout(STOP_S)
            self._stream.recv(READ_BYTES)


def _is_stream(headers: Headers) -> bool:
    return any(name.lower() == "content-type" and value.startswith("text/event-stream") for name, value in headers)


def _date() -> bytes:
    return formatdate(usegmt=True).encode()


def _places(streams: int, others: int) -> int:
    """For how many streams there are files, of so many that are wanted; raises this process's limit first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return streams
    wanted = streams + others + OTHER_FILES
    most = max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, min(streams, most - others - OTHER_FILES))
