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

import logging
import time
from http import HTTPStatus
from typing import Final

from gevent.hub import get_hub

from hitmesh.collector.answers import refusal
from hitmesh.collector.body import Body
from hitmesh.collector.bounds import Taking
from hitmesh.collector.connections import NEVER
from hitmesh.collector.front import Front
from hitmesh.config.checks import COLLECTOR_KEEP_ALIVE_S
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import Request, RequestReader
from hitmesh.hub.link import Link, Stream

READ_BYTES: Final = 4 * 1024  # at once: of one-byte chunks, the most costly ones, these take a millisecond or two
LINGER_S: Final = 2.0  # that a client has to take the last answer before its unread bytes reset the connection
LINGER_BYTES: Final = 1024 * 1024  # of them that are read and dropped meanwhile
TURNS: Final = 8  # requests of one client that are answered at once, before others have a turn

_monotonic = time.monotonic
log = logging.getLogger(__name__)


class Connection(Link):
    """One of them. `peer` is the client's address and port.

    `deadline` is when what is waited for has taken too long, NEVER while the client isn't waited for; `since` is when
    that wait began. `idle`: for the next request, of which nothing has come.
    """

    __slots__ = (
        "_advancing", "_closing", "_limits", "_lingered", "_partial", "_resting", "_taking", "body", "busy", "deadline",
        "expired", "front", "has_ended", "idle", "peer", "reader", "since",
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
        self.body: Body | None = None
        """Of the request that is being carried out, if it has one."""
        self.has_ended = False
        """The client sends nothing more."""
        self._advancing = self._resting = self._closing = False
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
        self.body = None
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

    def is_read(self) -> bool:
        """Whether nothing of the request's body is to come; what of it is here is dropped."""
        return self.body is None or self.body.is_read()

    def too_slow(self, words: str) -> BadMessage:
        """Why it was waited for no longer."""
        if self.expired == HTTPStatus.SERVICE_UNAVAILABLE:
            words = "all connections are taken, and this one kept us waiting for the longest"
        return BadMessage(words, status=self.expired)

    def wait(self, for_s: float) -> None:
        """The client is waited for, from now on."""
        self.since = now = _monotonic()
        self.deadline = now + for_s

    # --- the hub's calls --------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes of a request, or of the next one."""
        if self._closing:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.gone()
            return
        self.reader.feed(data)
        if self.body is not None and self.body.came(len(data)):
            self.stop_reading()
        elif not (self.busy or self._resting):
            self.advance()
        elif self.reader.pending >= READ_BYTES:
            self.stop_reading()

    def ended(self) -> None:
        """The client sends nothing more; it may still want its answers."""
        self.has_ended = True
        if self.body is not None and self.body.wake():
            return
        if self._closing or not (self.busy or self._resting or self.kept):
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
        if self.body is not None:
            self.body.wake()

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
            if self.body is not None:
                self.body.wake()
        elif self.reader.pending and not self._closing:
            self.expired = status
            self._refuse(self.too_slow(f"no whole request within {self.front.bounds.head_s:g} s"))
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
            self.body = Body(self, expects=request.fields.expects) if request.length else None
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
        if self.has_ended:
            self.gone()
            return
        self.start_reading()
        if self._partial:
            return  # one that comes in drops has no more time
        if self.reader.pending:
            self._partial, self.idle = True, False
            self.wait(self.front.bounds.head_s)
        elif not self.idle:
            self.idle = True
            self.wait(COLLECTOR_KEEP_ALIVE_S)

    def _takes(self) -> bool:
        """Whether the client still has time to take what is kept for it; then there is another look."""
        deadline = self._taking.look(self.untaken(), _monotonic(), self.front.bounds)
        self.deadline = NEVER if deadline is None else deadline
        return deadline is not None

    def _linger(self) -> None:
        """Closing with unread bytes would reset the connection, and the client lose the answer (RFC 9112, 9.6)."""
        if self.has_ended or self.expired == HTTPStatus.SERVICE_UNAVAILABLE:
            self.gone()
            return
        self.shut()
        self.wait(LINGER_S)
        self.start_reading()
