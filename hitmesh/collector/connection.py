"""One client's connection to a collector, on hub callbacks: its bytes in, its requests one after the other, answers out.

Owns the socket, what was read from it, and how long the client is waited for. It must not know what is asked for: `begin`
is a subclass's, which calls `reply` for each request, now or later.

Invariants:
- Whenever the client is waited for there is a `deadline`, whether it sends, or takes, something or not.
- A body that nobody read ends the connection: it is never read to its end for its own sake.
- The next request isn't begun before the answer to the last one has been taken.
- However fast a client sends, others are let in between.
"""

from __future__ import annotations

import contextlib
import logging
import time
from http import HTTPStatus
from typing import Final

from gevent.event import Event
from gevent.hub import get_hub

from hitmesh.collector.answers import refusal
from hitmesh.collector.bounds import Taking
from hitmesh.collector.connections import NEVER
from hitmesh.collector.front import Front
from hitmesh.config.checks import COLLECTOR_KEEP_ALIVE_S
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import Request, RequestReader
from hitmesh.hub.link import Link, Stream

READ_BYTES: Final = 4 * 1024  # at once: of one-byte chunks, the most costly ones, these take a millisecond or two
FRAMING_BYTES: Final = 8 * 1024  # by which a body may be longer on the wire than twice what is in it
LINGER_S: Final = 2.0  # that a client has to take the last answer before its unread bytes reset the connection
LINGER_BYTES: Final = 1024 * 1024  # of them that are read and dropped meanwhile
TURNS: Final = 8  # requests of one client that are answered at once, before others have a turn

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_monotonic = time.monotonic
log = logging.getLogger(__name__)


class Connection(Link):
    """One of them. `peer` is the client's address and port.

    `deadline` is when what is waited for has taken too long, NEVER while the client isn't waited for; `since` is when
    that wait began. `idle`: for the next request, of which nothing has come.
    """

    __slots__ = (
        "_advancing", "_closing", "_eof", "_expects", "_framing_room", "_is_broken", "_limits", "_lingered", "_more", "_partial",
        "_resting", "_taking", "busy", "deadline", "expired", "front", "idle", "peer", "reader", "since",
    )  # fmt: skip

    def __init__(self, front: Front, stream: Stream, peer: tuple[str, int]) -> None:
        super().__init__(stream)
        self.read_bytes = READ_BYTES
        self.front = front
        self.peer = peer
        self._limits = front.bounds.head
        self.reader = RequestReader(self._limits)
        self.busy = False
        """A request is being carried out."""
        self.expired = 0
        """The status that says why nothing is read any more."""
        self._advancing = self._resting = self._closing = self._eof = self._expects = self._is_broken = False
        self._more: Event | None = None  # somebody waits for more of the body
        self._framing_room = 0  # bytes that may yet come before more of the body is in them
        self._lingered = 0
        self._taking = Taking()
        self._partial = True  # a head is waited for that has to come within `head_s`
        self.idle = False
        self.since = _monotonic()
        self.deadline = self.since + front.bounds.head_s

    # --- what a subclass does, and may call ---------------------------------------------------

    def begin(self, request: Request) -> None:
        """Carry a request out: `reply` to it, and then `advance`; here, or from a greenlet, or another callback."""
        raise NotImplementedError

    def reply(self, answer: bytes, *, is_last: bool) -> None:
        """Send the answer to the request that was begun. `is_last`: nothing more will be read."""
        self.busy = False
        if is_last:
            self._closing, self.idle = True, False
        self.send(answer)
        if self.closed:
            return
        if self.kept:
            self.stop_reading()
            self.since = now = _monotonic()
            self.deadline = self._taking.begin(self.untaken(), now, self.front.bounds)
        elif is_last:
            self._linger()

    def advance(self) -> None:
        """Begin the requests that are here, as far as they can be."""
        if self._advancing:
            return  # whoever does it goes on
        self._advancing = True
        try:
            self._begin_all()
        except Exception:
            log.exception("a connection's handler failed")
            self.close_after_bug()
        finally:
            self._advancing = False

    def body(self) -> bytes:
        """The next piece of the request's body; nothing at its end. Raises BadMessage.

        In a greenlet it may wait. In the hub it mustn't be called unless all of the body is here.
        """
        reader = self.reader
        if self.deadline == NEVER and not reader.body_done:
            self._begin_body()
        piece = b""
        while not (piece or reader.body_done):
            piece = self._decode()
            if not (piece or reader.body_done):
                self._await_more()
        self._framing_room += 2 * len(piece)
        if reader.body_done:
            self.deadline = NEVER
        else:
            bounds = self.front.bounds
            self.deadline = bounds.paced(self.deadline, len(piece), _monotonic(), bounds.body_s)
        return piece

    def is_read(self) -> bool:
        """Whether nothing of the request's body is to come; what of it is here is dropped."""
        reader = self.reader
        if not reader.body_done:
            with contextlib.suppress(BadMessage):
                while self._decode() and not reader.body_done:
                    pass
        return reader.body_done and not self._is_broken

    def _decode(self) -> bytes:
        """What is here of the body. Raises BadMessage; nothing may be read after that, whatever it looks like."""
        try:
            return self.reader.body()
        except BadMessage:
            self._is_broken = True
            raise

    # --- the hub's calls --------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes of a request, or of the next one."""
        if self._closing:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.gone()
            return
        self.reader.feed(data)
        if self._more is not None:
            self._framing_room -= len(data)
            self.stop_reading()
            self._more.set()
        elif not (self.busy or self._resting):
            self.advance()
        elif self.reader.pending >= READ_BYTES:
            self.stop_reading()

    def ended(self) -> None:
        """The client sends nothing more; it may still want its answers."""
        self._eof = True
        if self._more is not None:
            self._more.set()
        elif self._closing or not (self.busy or self._resting or self.kept):
            self.gone()

    def lost(self, error: OSError) -> None:
        """The connection broke."""
        self.gone()

    def drained(self) -> None:
        """The client took what was kept for it."""
        if self._closing:
            self._linger()
        elif not self.busy:
            self.advance()

    def gone(self) -> None:
        """Close, and be forgotten."""
        if not self.closed:
            self.close()
        self.front.connections.closed(self)
        if self._more is not None:
            self._more.set()

    # --- what others call -------------------------------------------------------------------

    def expire(self, status: int) -> None:
        """Wait for the client no longer, who is told this status if a request has begun: 408, or 503 for want of room."""
        try:
            if not self.closed:
                self._expire(status)
        except Exception:
            log.exception("a connection's handler failed")
            self.close_after_bug()

    # --- within -----------------------------------------------------------------------------

    def _expire(self, status: int) -> None:
        if self.kept:
            if status != HTTPStatus.REQUEST_TIMEOUT or not self._takes():
                self.reset()  # it takes nothing: the kernel needn't go on trying either
                self.gone()
        elif self.busy:  # with a body that doesn't come
            self.expired, self.deadline = status, NEVER
            if self._more is not None:
                self._more.set()
        elif self.reader.pending and not self._closing:
            self.expired = status
            self._refuse(self._too_slow(f"no whole request within {self.front.bounds.head_s:g} s"))
        else:
            self.gone()

    def _begin_all(self) -> None:
        reader = self.reader
        turns = 0
        while not (self.busy or self._closing or self.closed or self.kept):
            if self.front.bounds.head is not self._limits:
                self._limits = self.front.bounds.head
                reader.limit(self._limits)
            if turns == TURNS and reader.pending:
                self._resting = True
                get_hub().loop.run_callback(self._go_on)
                return
            try:
                request = reader.next() if reader.pending else None
            except BadMessage as error:
                self._refuse(error)
                return
            if request is None:
                self._await_head()
                return
            turns += 1
            self.busy = True
            self._partial = self.idle = False
            self.deadline = NEVER
            self._expects = request.fields.expects
            self.begin(request)

    def _go_on(self) -> None:
        """Others have had a turn."""
        self._resting = False
        self.advance()

    def _refuse(self, error: BadMessage) -> None:
        """Our form of error for a request that can't be read, and nothing of it back."""
        self.front.refuse(self.peer[0], error)
        self.reply(refusal(HTTPStatus(error.status), str(error)), is_last=True)

    def _await_head(self) -> None:
        if self._eof:
            self.gone()
            return
        self.start_reading()
        if self._partial:
            return  # one that comes in drops has no more time
        if self.reader.pending:
            self._partial, self.idle = True, False
            self._wait(self.front.bounds.head_s)
        elif not self.idle:
            self.idle = True
            self._wait(COLLECTOR_KEEP_ALIVE_S)

    def _begin_body(self) -> None:
        self._framing_room = FRAMING_BYTES
        if self._expects and not self.reader.pending:
            self.send(_CONTINUE)
        self._wait(self.front.bounds.body_s)

    def _await_more(self) -> None:
        """Wait, in a greenlet, for more of the body than could be decoded so far. Raises BadMessage."""
        if self._framing_room < 0:
            raise BadMessage("a body of which the larger part are the sizes of its chunks", status=413)
        before = self.reader.pending
        if not (self._eof or self.expired or self.closed):
            self._more = Event()
            self.start_reading()
            self._more.wait()
            self._more = None
        if self.reader.pending > before:
            return
        if self.expired:
            raise self._too_slow(f"too little of the request's body for {self.front.bounds.body_s:g} s")
        raise BadMessage("the client closed within the body")

    def _too_slow(self, words: str) -> BadMessage:
        if self.expired == HTTPStatus.SERVICE_UNAVAILABLE:
            words = "all connections are taken, and this one kept us waiting for the longest"
        return BadMessage(words, status=self.expired)

    def _wait(self, for_s: float) -> None:
        self.since = now = _monotonic()
        self.deadline = now + for_s

    def _takes(self) -> bool:
        """Whether the client still has time to take what is kept for it; then there is another look."""
        deadline = self._taking.look(self.untaken(), _monotonic(), self.front.bounds)
        self.deadline = NEVER if deadline is None else deadline
        return deadline is not None

    def _linger(self) -> None:
        """Closing with unread bytes would reset the connection, and the client lose the answer (RFC 9112, 9.6)."""
        if self._eof or self.expired == HTTPStatus.SERVICE_UNAVAILABLE:
            self.gone()
            return
        self.shut()
        self._wait(LINGER_S)
        self.start_reading()
