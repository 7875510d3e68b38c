"""The admin listener's connections: requests one after the other, each read whole before the app is asked.

Owns the bounds of what a client may send and how long it may take, with the traffic's own limits; knows
nothing of what the app says. The bytes are read by `hitmesh.http`, as strictly as the traffic's. TLS is the
traffic's too: a handshake is read as what comes before a request's head, and within its time.

Invariants:
- Reads and answers are steps, between which the hub has time for others: whoever sends or asks without end
  stops nobody.
- A body that nobody wants isn't read: the answer is the connection's last one then.
- Every wait for a client has an end, and so has the number of clients.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer
from gevent.socket import socket as gevent_socket
from gevent.socket import wait_read, wait_write

from balancer.accept.tls import TlsContexts
from balancer.measures.stats import FrontStats
from balancer.middle.answers import refusal, render
from balancer.middle.traffic import Traffic
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import Request, RequestReader
from hitmesh.http.wsgi import App, Environ, Headers, encoded, environ_of
from hitmesh.hub.turns import Turns

MAX_CONNECTIONS: Final = 32  # some people's browsers, and Prometheus; each may hold an answer of some MB
LEAVING: Final = 32  # beside them, those that are cut and those that came just now; nobody else is taken yet
READ_BYTES: Final = 4 * 1024  # at once: as one-byte chunks they take a millisecond to decode
BODY_BYTES: Final = 256 * 1024  # a setting's 64 KiB, with room for escapes and indentation
FRAMING_BYTES: Final = 16 * 1024  # of a body's chunks; those of one byte would cost a second to decode
# From one step to the next, whoever's: so that many clients at once take no more of the hub's turn than one, and
# all of them not more than a fraction of its time. A page of a small mesh takes a millisecond.
READ_S: Final = 0.002
REQUEST_S: Final = 0.02
# After the last answer its client has time to take it; closing with unread bytes would reset the connection
# (RFC 9112, 9.6). Slowly, so that one who comes again and again has to wait for it.
LINGER_S: Final = 2.0
LINGER_BYTES: Final = 1024 * 1024
LINGER_READ_BYTES: Final = 64 * 1024
LINGER_PAUSE_S: Final = 0.05
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger(__name__)
_monotonic = time.monotonic


class Listener:
    """Serves `app` on `listener`, over TLS with `tls`. `takes_body` says by a request's head if its body is wanted."""

    def __init__(
        self,
        listener: socket.socket,
        app: App,
        *,
        traffic: Traffic,
        stats: FrontStats,
        takes_body: Callable[[Environ], bool],
        tls: TlsContexts | None,
    ) -> None:
        self.app = app
        self.stats = stats
        self.traffic = traffic
        self.takes_body = takes_body
        self.tls = tls
        self.own: tuple[str, int] = listener.getsockname()[:2]
        self.stopping = False
        self.turns = Turns()
        self._server = StreamServer(_green(listener), self._serve, spawn=Pool(MAX_CONNECTIONS + LEAVING))
        self._connections: set[Connection] = set()

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Answer those that are there, and nobody else."""
        self.stopping = True
        self._server.close()

    def _serve(self, stream: Any, address: tuple[Any, ...]) -> None:
        connection = Connection(self, stream, address[0])
        with stream:
            if len(self._connections) >= MAX_CONNECTIONS and not self._make_room():
                return
            self._connections.add(connection)
            self.stats.opened()
            try:
                connection.run()
            except OSError as error:
                log.debug("%s: %s", connection.peer, error)  # gone, too slow to take its answer, or no TLS
            finally:
                self._connections.discard(connection)
                self.stats.sessions -= 1

    def _make_room(self) -> bool:
        """End the connection that has waited the longest. False: for all of them there is an answer being made."""
        self.stats.denied_connections += 1
        waiting = [each for each in self._connections if each.waits_since is not None]
        if not waiting:
            return False
        longest = min(waiting, key=lambda each: each.waits_since or 0.0)
        self._connections.discard(longest)
        longest.cut()
        return True


class Connection:
    """One client. `waits_since`: when the wait for its request began, or for it to take its answer; else None."""

    def __init__(self, listener: Listener, stream: Any, peer: str) -> None:
        self.peer = peer
        self.waits_since: float | None = _monotonic()
        self._is_cut = False
        self._greenlet: Any = gevent.getcurrent()
        self._listener = listener
        self._traffic = listener.traffic
        self._stats = listener.stats
        stream.setblocking(False)
        self._stream: Any = stream if listener.tls is None else listener.tls.wrap(stream)
        self._carrier = stream
        self._reader = RequestReader(self._traffic.head_limits)

    def run(self) -> None:
        """Serve it until its end. Raises OSError when it is gone."""
        wait_s = self._traffic.limits.head_s
        try:
            while self._serve(wait_s):
                wait_s = self._traffic.limits.idle_s
        except ssl.SSLError as error:
            if error.reason != "HTTP_REQUEST":
                raise
            self._stream = self._carrier  # nothing was sent on it yet
            self._stats.refused(400)
            self._send_own(400, "this port speaks TLS: write https://")
        self._linger()

    def cut(self) -> None:
        """Whatever it waits for, its client is gone: it ends now, and leaves its file and its turn to others."""
        self._is_cut = True
        self._greenlet.kill(block=False)

    def _serve(self, wait_s: float) -> bool:
        """One request, which may take `wait_s` to begin; whether there may be another."""
        try:
            request = self._head(wait_s)
            if request is None:
                return False
            environ = self._environ(request, b"")
            if request.length and self._listener.takes_body(environ):
                environ = self._environ(request, self._body(request))
        except BadMessage as error:
            log.debug("%s: %s %s", self.peer, error.status, error.message)  # strangers make as many as they like
            self._stats.refused(error.status)
            self._send_own(error.status, error.message)
            return False
        self._listener.turns.wait(REQUEST_S)
        if self._is_cut:
            return False  # its end comes in a moment, which mustn't be in the middle of the app
        self.waits_since = None
        keep_alive = request.keep_alive and self._reader.body_done and not self._listener.stopping
        self._stats.requests += 1
        try:
            answer = self._answer(environ, keep_alive)
        except Exception:
            log.exception("the admin app failed")
            self._send_own(500, "this is a fault of the balancer's; its log says more")
            return False
        self._send(answer)
        return keep_alive

    def _environ(self, request: Request, body: bytes) -> Environ:
        scheme = "http" if self._listener.tls is None else "https"
        return environ_of(request, body, peer=self.peer, own=self._listener.own, scheme=scheme)

    def _head(self, wait_s: float) -> Request | None:
        """The next request; None when its client has nothing more to ask. Raises BadMessage."""
        reader, begun = self._reader, False
        reader.limit(self._traffic.head_limits)
        deadline = _monotonic() + wait_s
        while (request := reader.next()) is None:
            if reader.pending and not begun:
                begun = True  # from its first byte on: one that comes in drops has no more time
                deadline = _monotonic() + self._traffic.limits.head_s
            try:
                data = self._receive(deadline)
            except TimeoutError:
                if not begun:
                    return None
                raise BadMessage(f"no whole request within {self._traffic.limits.head_s:g} s", status=408) from None
            if not data:
                return None
            reader.feed(data)
        return request

    def _body(self, request: Request) -> bytes:
        """All of it. Raises BadMessage, also when it is too large or too slow."""
        too_large = BadMessage(f"a body of more than {BODY_BYTES} bytes", status=413)
        if request.length > BODY_BYTES:
            raise too_large
        if request.fields.expects:
            self._send(CONTINUE)
        reader, body, coded = self._reader, bytearray(), 0
        deadline = _monotonic() + self._traffic.limits.body_s
        while True:
            coded += reader.pending
            body += reader.body()
            coded -= reader.pending
            if len(body) > BODY_BYTES:
                raise too_large
            if coded - len(body) > FRAMING_BYTES:
                raise BadMessage("a body in too many small chunks", status=413)
            if reader.body_done:
                return bytes(body)
            try:
                data = self._receive(deadline)
            except TimeoutError:
                raise BadMessage(f"no whole body within {self._traffic.limits.body_s:g} s", status=408) from None
            if not data:
                raise ConnectionResetError("ended within a request")
            reader.feed(data)

    def _answer(self, environ: Environ, keep_alive: bool) -> bytes:
        started: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, _problem: object = None) -> None:
            started.append((status, headers))

        body = b"".join(self._listener.app(environ, start))
        status, headers = started[-1]
        self._stats.classes[int(status[:1])] += 1
        return encoded(status, headers, body, environ=environ, keep_alive=keep_alive, date=self._traffic.date())

    def _receive(self, deadline: float, size: int = READ_BYTES) -> bytes:
        """What comes, nothing at the end. Raises TimeoutError."""
        stream = self._stream
        while True:
            left_s = deadline - _monotonic()
            if left_s <= 0:
                raise TimeoutError
            plain = stream is self._carrier
            if plain or not stream.pending():
                # Bytes may be there already; asking the hub all the same lets everybody else go first.
                wait_read(stream.fileno(), timeout=left_s)
            self._listener.turns.wait(READ_S if plain or stream.shaken else REQUEST_S)  # a handshake signs something
            with contextlib.suppress(BlockingIOError):  # a part of a handshake, or of a record
                data: bytes = stream.recv(size)
                self._stats.bytes_in += len(data)
                return data

    def _send(self, data: bytes) -> None:
        """Send all of it within the time that a client has to take it. Raises OSError."""
        self.waits_since = _monotonic()
        deadline, rest = self.waits_since + self._traffic.limits.write_s, memoryview(data)
        while rest:
            try:
                rest = rest[self._stream.send(rest) :]
            except BlockingIOError:
                left_s = deadline - _monotonic()
                if left_s <= 0:
                    raise TimeoutError from None
                wait_write(self._stream.fileno(), timeout=left_s)
        self._stats.bytes_out += len(data)

    def _send_own(self, status: int, reason: str) -> None:
        """The connection's last answer, which isn't the app's."""
        self._stats.classes[status // 100] += 1
        date = self._traffic.date()
        self._send(render(refusal(status, reason), method=b"GET", minor=1, keep_alive=False, date=date, public=False))

    def _linger(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_WR)
            deadline, left = _monotonic() + LINGER_S, LINGER_BYTES
            while left > 0 and (data := self._receive(deadline, LINGER_READ_BYTES)):
                left -= len(data)
                gevent.sleep(LINGER_PAUSE_S)


def _green(listener: socket.socket) -> Any:
    return gevent_socket(listener.family, listener.type, listener.proto, fileno=listener.detach())
