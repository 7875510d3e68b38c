"""A server that answers what its two parsers both read in the same way, and keeps what they refuse.

Every request that it accepts gets the next serial number and a digest of what was seen; both are in
the answer's fields, so that whoever gets the answers can tell which requests were counted.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Final

from gunicorn.config import Config
from gunicorn.http import RequestParser

from tests.balancer.wire.oracle import Seen, seen_of
from tests.balancer.wire.strict import CHUNKED, Head, Refused, read_head
from tests.balancer.wire.strict_body import Body, read_body

RECV_BYTES: Final = 262_144
KEPT: Final = 100  # of what was refused or cut: enough to see what is wrong


@dataclass(slots=True)
class Counts:
    """What came in."""

    accepted: int = 0
    refused: list[tuple[str, bytes]] = field(default_factory=list)  # why, and the bytes
    cut: list[bytes] = field(default_factory=list)  # requests whose end never came
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One accepted request, whole."""

    head: Head
    body: Body
    seen: Seen
    raw: bytes


class StrictReader:
    """The requests of one connection: `feed` bytes, `take` requests."""

    def __init__(self) -> None:
        self.buffer = b""
        self._head: Head | None = None
        self._head_end = 0
        self._told_to_go_on = False

    def tell_to_go_on(self) -> bool:
        """Whether a client that expects 100 is to be told so now: once, before the end of its body."""
        if self._told_to_go_on or self._head is None or not self._head.values(b"expect"):
            return False
        self._told_to_go_on = True
        return True

    def feed(self, data: bytes) -> None:
        self.buffer += data

    def take(self) -> Record | None:
        """The next request, None while it isn't whole. Raises Refused."""
        if self._head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return None
            self._head = read_head(self.buffer[:end])
            self._head_end = end + 4
        head = self._head
        if head.length != CHUNKED and len(self.buffer) < self._head_end + head.length:
            return None
        body = read_body(self.buffer, self._head_end, head.length, extensions=False)
        if body is None:
            return None
        raw, self.buffer = self.buffer[: body.end], self.buffer[body.end :]
        self._head = None
        self._told_to_go_on = False
        check_with_gunicorn(raw, head, body)
        return Record(head, body, seen_of(head, body, target=head.target, host=head.host or b""), raw)


def _gunicorn_config() -> Any:
    config = Config()
    # Its defaults, but for what is a matter of taste (long lines, methods in small letters).
    config.set("limit_request_line", 0)
    config.set("limit_request_fields", 200)
    config.set("limit_request_field_size", 65_536)
    config.set("permit_unconventional_http_method", True)
    config.set("header_map", "dangerous")  # it would drop names with underscores, silently
    return config


GUNICORN: Final = _gunicorn_config()


def check_with_gunicorn(raw: bytes, head: Head, body: Body) -> None:
    """gunicorn must read the same request out of the same bytes; raises Refused."""
    try:
        parser = RequestParser(GUNICORN, iter([raw]), ("127.0.0.1", 1))
        message = next(parser)
        data = message.body.read()
        rest = parser.unreader.read()
    except Exception as error:  # its errors have no root of their own
        raise Refused(f"gunicorn: {type(error).__name__}: {error}") from error
    theirs = (message.method, message.uri, message.version, message.headers, message.trailers, data, rest)
    ours = (
        head.method.decode(),
        head.target.decode(),
        (1, head.minor),
        [(name.decode().upper(), value.decode("latin-1")) for name, value in head.pairs],
        [(name.decode().upper(), value.decode("latin-1")) for name, value in body.trailers],
        body.data,
        b"",
    )
    if theirs != ours:
        raise Refused(f"gunicorn reads {theirs!r}")


class StrictBackend:
    """Listens on a free loopback port, in a thread of its own.

    `close_every`: each so-many-eth answer says Connection: close. Records are kept if `records`.
    """

    def __init__(self, *, close_every: int = 0, records: bool = True) -> None:
        self.counts = Counts()
        self.records: dict[int, Record] | None = {} if records else None
        self._close_every = close_every
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._stop_read, self._stop_write = socket.socketpair()
        self._readers: dict[int, tuple[socket.socket, StrictReader]] = {}
        self._poll = select.epoll()
        self._thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self) -> StrictBackend:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the strict backend doesn't stop"

    @property
    def open_connections(self) -> int:
        """Connections that a proxy holds now."""
        return len(self._readers)

    def stop(self) -> None:
        """End `serve`."""
        self._stop_write.close()

    def serve(self) -> None:
        """Until stopped."""
        poll = self._poll
        poll.register(self._listener, select.EPOLLIN)
        poll.register(self._stop_read, select.EPOLLIN)
        try:
            while True:
                for number, _ in poll.poll():
                    if number == self._stop_read.fileno():
                        return
                    if number == self._listener.fileno():
                        self._accept()
                    else:
                        self._read(number)
        finally:
            for number in list(self._readers):
                self._close(number)
            poll.close()
            self._listener.close()
            self._stop_read.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._readers[connection.fileno()] = (connection, StrictReader())
                self.counts.connections += 1
                self._poll.register(connection, select.EPOLLIN)

    def _read(self, number: int) -> None:
        connection, reader = self._readers[number]
        try:
            data = connection.recv(RECV_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            if reader.buffer and len(self.counts.cut) < KEPT:
                self.counts.cut.append(reader.buffer)
            self._close(number)
            return
        reader.feed(data)
        try:
            while (record := reader.take()) is not None:
                if self._answer(connection, record):
                    self._close(number)
                    return
            if reader.tell_to_go_on():
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        except Refused as refused:
            if len(self.counts.refused) < KEPT:
                self.counts.refused.append((refused.why, reader.buffer))
            with contextlib.suppress(OSError):
                connection.send(
                    b"HTTP/1.1 400 Refused\r\nX-Refused: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                )
            self._close(number)
        except OSError:  # it has gone
            self._close(number)

    def _answer(self, connection: socket.socket, record: Record) -> bool:
        """Count and answer one request; whether the connection is to be closed."""
        self.counts.accepted += 1
        serial = self.counts.accepted
        if self.records is not None:
            self.records[serial] = record
        head = record.head
        close = bool(self._close_every and serial % self._close_every == 0) or not head.persists
        body = b'{"method": "%b", "body_bytes": %d}' % (head.method.replace(b'"', b""), len(record.body.data))
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nX-Serial: %d\r\n"
            b"X-Method: %b\r\nX-Seen: %b\r\n%b\r\n%b"
            % (
                len(body),
                serial,
                head.method,
                record.seen.digest.encode(),
                b"Connection: close\r\n" if close else b"",
                b"" if head.method == b"HEAD" else body,
            )
        )
        return close

    def _close(self, number: int) -> None:
        connection, _ = self._readers.pop(number)
        # A process that is being started may hold it open for a moment, and events would go on coming.
        self._poll.unregister(number)
        connection.close()
