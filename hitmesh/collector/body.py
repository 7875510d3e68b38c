"""A request's body as its app reads it, on a connection that hub callbacks feed: WSGI's `wsgi.input`.

Owns how much may come and who waits for it. One greenlet reads; in the hub it may be read if all of it is here already.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from gevent.event import Event

from hitmesh.collector.connections import NEVER
from hitmesh.http.errors import BadMessage

if TYPE_CHECKING:
    from hitmesh.collector.connection import Connection

PIECE_BYTES: Final = 4 * 1024  # of those that `read` gathers when it is asked for all
FRAMING_BYTES: Final = 8 * 1024  # by which a body may be longer on the wire than twice what is in it

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_monotonic = time.monotonic


class Body:
    """One. `expects`: its client waits to be told that it is wanted."""

    __slots__ = ("_connection", "_expects", "_held", "_is_broken", "_more", "_room")

    def __init__(self, connection: Connection, *, expects: bool) -> None:
        self._connection = connection
        self._expects = expects
        self._held = b""  # what was decoded and not taken
        self._is_broken = False
        self._more: Event | None = None  # somebody waits for more
        self._room = 0  # bytes that may yet come before more of the body is in them

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, as they come, and nothing at the end; without a size all of them. Raises BadMessage."""
        if size < 0:
            pieces = []
            while piece := self.read(PIECE_BYTES):
                pieces.append(piece)
            return b"".join(pieces)
        held = self._held or self._piece()
        self._held = held[size:]
        return held[:size]

    def is_read(self) -> bool:
        """Whether nothing of it is to come; what is here is dropped."""
        reader = self._connection.reader
        if not reader.body_done:
            with contextlib.suppress(BadMessage):
                while self._decode() and not reader.body_done:
                    pass
        return reader.body_done and not self._is_broken

    # --- the connection's calls -----------------------------------------------------------------

    def came(self, size_bytes: int) -> bool:
        """So many bytes were fed to the reader; whether somebody waited for them."""
        if self._more is None:
            return False
        self._room -= size_bytes
        self._more.set()
        return True

    def wake(self) -> bool:
        """Nothing more will come; whether somebody waited."""
        if self._more is None:
            return False
        self._more.set()
        return True

    # --- within ---------------------------------------------------------------------------------

    def _piece(self) -> bytes:
        """The next one; nothing at the end."""
        connection = self._connection
        reader, bounds = connection.reader, connection.front.bounds
        if connection.deadline == NEVER and not reader.body_done:
            self._begin()
        piece = b""
        while not (piece or reader.body_done):
            piece = self._decode()
            if not (piece or reader.body_done):
                self._await_more()
        self._room += 2 * len(piece)
        if reader.body_done:
            connection.deadline = NEVER
        else:
            connection.deadline = bounds.paced(connection.deadline, len(piece), _monotonic(), bounds.body_s)
        return piece

    def _decode(self) -> bytes:
        """What is here. Raises BadMessage; nothing may be read after that, whatever it looks like."""
        try:
            return self._connection.reader.body()
        except BadMessage:
            self._is_broken = True
            raise

    def _begin(self) -> None:
        connection = self._connection
        self._room = FRAMING_BYTES
        if self._expects and not connection.reader.pending:
            connection.send(_CONTINUE)
        connection.wait(connection.front.bounds.body_s)

    def _await_more(self) -> None:
        """Wait for more than could be decoded so far. Raises BadMessage."""
        connection = self._connection
        if self._room < 0:
            raise BadMessage("a body of which the larger part are the sizes of its chunks", status=413)
        before = connection.reader.pending
        if not (connection.has_ended or connection.expired or connection.closed):
            self._more = Event()
            connection.start_reading()
            self._more.wait()
            self._more = None
        if connection.reader.pending > before:
            return
        if connection.expired:
            raise connection.too_slow(f"too little of the request's body for {connection.front.bounds.body_s:g} s")
        raise BadMessage("the client closed within the body")


class NoBody:
    """That of a request without one."""

    __slots__ = ()

    def read(self, size: int = -1) -> bytes:
        """Its end."""
        return b""


NO_BODY: Final = NoBody()
