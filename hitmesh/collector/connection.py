"""One client's connection to a collector: its bytes in, its requests out as gunicorn and WSGI want them.

Owns the socket and what was read from it. hitmesh/http says what the bytes mean; nothing of gunicorn's reads
any. It must not know what is asked for. One greenlet serves a connection; another one only ever calls `expire`.

Invariants:
- Whenever the client is waited for there is a `deadline`, whether it sends, or takes, something or not.
- A body that nobody read ends the connection: it is never read to its end for its own sake.
- However fast a client sends, others are let in between.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from http import HTTPStatus
from typing import Final

import gevent

from hitmesh.collector.bounds import Bounds
from hitmesh.config.checks import COLLECTOR_KEEP_ALIVE_S
from hitmesh.http import requests
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import RequestFields, RequestReader

READ_BYTES: Final = 4 * 1024  # at once: of one-byte chunks, the most costly ones, these take a millisecond or two
FRAMING_BYTES: Final = 8 * 1024  # by which a body may be longer on the wire than twice what is in it
LINGER_S: Final = 2.0  # that a client has to take the last answer before its unread bytes reset the connection
LINGER_BYTES: Final = 1024 * 1024  # of them that are read and dropped meanwhile
TURNS: Final = 8  # requests of one client before others have a turn; each time if the next one is here already
NEVER: Final = math.inf

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_monotonic = time.monotonic


class Connection:
    """A client's connection, which is also the socket that gunicorn writes an answer to.

    `deadline` is when what is waited for has taken too long, NEVER while the client isn't waited for;
    `since` is when that wait began. `idle`: for the next request, of which nothing has come.
    """

    __slots__ = (
        "_bounds", "_expired", "_fields", "_framing_room", "_headers", "_limits", "_reader", "_refused",
        "_requests", "_socket", "_writing", "deadline", "idle", "since",
    )  # fmt: skip

    def __init__(self, connected: socket.socket, bounds: Bounds) -> None:
        self._socket = connected
        self._bounds = bounds
        self._limits = bounds.head
        self._reader = RequestReader(bounds.head)
        self._fields: RequestFields | None = None
        self._headers: list[tuple[str, str]] = []
        self._requests = 0
        self._framing_room = 0  # bytes that may yet come before more of the body is in them
        self._refused = self._writing = False
        self._expired = 0  # the status that says why nothing is read any more
        self.idle = False
        self.since = _monotonic()
        self.deadline = self.since + bounds.head_s

    # --- what the greenlet that serves it calls -----------------------------------------------

    def next(self) -> Request | None:
        """The next request; None when there will be none. Raises BadMessage, after which only `refuse` may follow."""
        reader, bounds = self._reader, self._bounds
        if bounds.head is not self._limits:
            self._limits = bounds.head
            reader.limit(bounds.head)
        head = reader.next()
        self._requests += 1
        if head is not None or self._requests % TURNS == 0:
            gevent.sleep(0)
        if head is None:
            head = self._wait_for_head()
        self.deadline = NEVER
        if head is None:
            return None
        if head.fields is not self._fields:
            self._fields = head.fields
            # CGI can't tell X_A from X-A, nor a client's SCRIPT_NAME from gunicorn's own.
            self._headers = [
                (name.decode("latin-1").upper(), value.decode("latin-1"))
                for name, value in head.fields.pairs
                if b"_" not in name
            ]
        return Request(self, head, self._headers)

    def body(self) -> bytes:
        """The next piece of the request's body; nothing at its end. Raises BadMessage."""
        if self.deadline == NEVER and not self._reader.body_done:
            self._begin_body()
        piece = b""
        while not (piece or self._reader.body_done):
            piece = self._reader.body() or self._more_body()
        self._framing_room += 2 * len(piece)
        if self._reader.body_done:
            self.deadline = NEVER
        else:
            self._pace(len(piece), self._bounds.body_s)
        return piece

    def is_read(self) -> bool:
        """Whether nothing of the request's body is to come; what of it is here is dropped."""
        reader = self._reader
        with contextlib.suppress(BadMessage):
            while not reader.body_done and reader.body():
                pass
        return reader.body_done

    def sendall(self, data: bytes) -> None:
        """Send, as fast as the client takes it. Raises OSError."""
        self._wait(self._bounds.write_s)
        self._writing = True
        while (sent := self._socket.send(data)) < len(data):
            data = data[sent:]
            self._pace(sent, self._bounds.write_s)
        self._writing = False
        self.deadline = NEVER

    def refuse(self, answer: bytes) -> None:
        """Send the last answer, to what isn't read on."""
        self._refused = True
        with contextlib.suppress(OSError):
            self.sendall(answer)

    def close(self) -> None:
        """Close so that the client can still read the last answer, whatever it sends on (RFC 9112, 9.6)."""
        with contextlib.suppress(OSError):
            if not self._expired and (self._refused or not self._reader.body_done):
                self._socket.shutdown(socket.SHUT_WR)
                self._wait(LINGER_S)
                left = LINGER_BYTES
                while left > 0 and (data := self._receive()):
                    left -= len(data)
                    gevent.sleep(0)
        self.deadline = NEVER
        self._socket.close()

    def shutdown(self, how: int) -> None:
        """What gunicorn calls when an answer broke off; it closes the connection then."""
        self._socket.shutdown(how)

    # --- what others call ---------------------------------------------------------------------

    def expire(self, status: int) -> None:
        """Wait for the client no longer, who is told this status if a request has begun: 408, or 503 for want of room."""
        self._expired = status
        self.deadline = NEVER
        with contextlib.suppress(OSError):
            if self._writing:  # it takes nothing: the kernel needn't go on trying either
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self._socket.shutdown(socket.SHUT_RDWR)
            else:
                self._socket.shutdown(socket.SHUT_RD)

    # --- within -------------------------------------------------------------------------------

    def _wait_for_head(self) -> requests.Request | None:
        reader, bounds = self._reader, self._bounds
        if self._fields is not None:
            self.idle = not reader.pending
            self._wait(COLLECTOR_KEEP_ALIVE_S if self.idle else bounds.head_s)
        while data := self._receive():
            reader.feed(data)
            head = reader.next()
            if self.idle:
                self.idle = False
                self._wait(bounds.head_s)
            if head is not None:
                return head
        self.idle = False
        if self._expired and reader.pending:
            raise self._too_slow(f"no whole request within {bounds.head_s:g} s")
        return None

    def _too_slow(self, words: str) -> BadMessage:
        if self._expired == HTTPStatus.SERVICE_UNAVAILABLE:
            words = "all connections are taken, and this one kept us waiting for the longest"
        return BadMessage(words, status=self._expired)

    def _begin_body(self) -> None:
        self._framing_room = FRAMING_BYTES
        if self._fields is not None and self._fields.expects and not self._reader.pending:
            with contextlib.suppress(OSError):
                self.sendall(_CONTINUE)
        self._wait(self._bounds.body_s)

    def _more_body(self) -> bytes:
        """Wait for more of the body than could be decoded so far; nothing yet."""
        if self._reader.body_done:
            return b""
        if self._framing_room < 0:
            raise BadMessage("a body of which the larger part are the sizes of its chunks", status=413)
        data = self._receive()
        if data:
            self._framing_room -= len(data)
            self._reader.feed(data)
            gevent.sleep(0)
            return b""
        if self._expired:
            raise self._too_slow(f"too little of the request's body for {self._bounds.body_s:g} s")
        raise BadMessage("the client closed within the body")

    def _wait(self, for_s: float) -> None:
        self.since = now = _monotonic()
        self.deadline = now + for_s

    def _pace(self, size_bytes: int, patience_s: float) -> None:
        self.deadline = self._bounds.paced(self.deadline, size_bytes, _monotonic(), patience_s)

    def _receive(self) -> bytes:
        """What the client sent; nothing when that was all, or is to be."""
        if self._expired:
            return b""
        try:
            return self._socket.recv(READ_BYTES)
        except OSError:
            return b""


class Request:
    """A request in the words of gunicorn, whose classes make a WSGI environment and an answer of it."""

    __slots__ = ("_connection", "_keep_alive", "body", "headers", "method", "path", "query", "uri", "version")

    scheme = "http"
    proxy_protocol_info = None
    _expected_100_continue = False  # the body says it, once somebody reads it

    def __init__(self, connection: Connection, head: requests.Request, headers: list[tuple[str, str]]) -> None:
        self._connection = connection
        self._keep_alive = head.keep_alive and head.method != b"CONNECT"
        self.method = head.method.decode()
        self.uri = head.target.decode()
        self.path, _, self.query = self.uri.partition("?")
        self.version = (1, head.minor)
        self.headers = headers
        self.body = Body(connection)

    def should_close(self) -> bool:
        """Whether this request is its connection's last."""
        return not (self._keep_alive and self._connection.is_read())


class Body:
    """WSGI's `wsgi.input`."""

    __slots__ = ("_connection", "_held")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._held = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as they come; nothing at the end. Raises BadMessage."""
        held = self._held or self._connection.body()
        self._held = held[size:]
        return held[:size]
