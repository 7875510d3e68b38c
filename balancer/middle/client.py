"""One client's connection: its requests one after the other, each answered before the next is begun. Pure.

Owns the order and the deadlines of the client's side. A request that needs a backend becomes an
Exchange; everything else is answered here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from balancer.measures.stats import FrontStats
from balancer.middle.answers import Answer, refusal, render, retry_after
from balancer.middle.client_end import ClientEnd
from balancer.middle.exchange import Exchange
from balancer.middle.forward import RequestForwarder
from balancer.middle.pace import LOOKS, behind_at, paced
from balancer.middle.service import Service
from balancer.middle.traffic import Traffic
from balancer.middle.tunnel import Tunnel
from balancer.middle.upstream import Upstream
from hitmesh.http.errors import BadMessage
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import Request, RequestReader
from hitmesh.http.wire import CLOSED, READ_BYTES, Wire

LINGER_S: Final = 2.0  # that a client has to take the last answer before its unread bytes reset the connection
LINGER_BYTES: Final = 1024 * 1024  # of them that are read and dropped meanwhile
_NO_METHODS: Final = frozenset((b"CONNECT", b"TRACE"))  # we are no way to elsewhere, and echo nobody's cookies
_ALLOW: Final = ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)

log = logging.getLogger(__name__)


class Client(ClientEnd):
    """A client at `address`, perhaps behind whoever `wire` leads to. `now` is monotonic, everywhere."""

    __slots__ = (
        "_advancing", "_closing", "_eof", "_lingered", "_partial", "_take_due", "_untaken", "exchange", "requests",
        "to_https", "traffic", "tunnelled",
    )  # fmt: skip

    def __init__(
        self, traffic: Traffic, wire: Wire, *, stats: FrontStats, address: str, scheme: str, local: str, now: float
    ) -> None:
        limits = traffic.limits
        trusted = traffic.is_trusted(address)
        super().__init__(
            wire,
            address=address,
            trusted=trusted,
            reader=RequestReader(traffic.head_limits),
            forwarder=RequestForwarder(
                peer=address, scheme=scheme, local=local, trusted=trusted, field_bytes=limits.header_bytes
            ),
            stats=stats,
            deadline=now + limits.head_s,
        )
        self.traffic = traffic
        self.to_https = scheme == "http" and traffic.https_port is not None  # every request is sent there
        self.exchange: Exchange | None = None
        self.tunnelled: Tunnel | None = None
        self.requests = 0
        self._advancing = False
        self._closing = False
        self._eof = False
        self._partial = False
        self._lingered = 0
        self._take_due = 0.0  # when patience with a slow taker ends
        self._untaken = 0  # bytes, at the last look
        traffic.client_came(self)

    # --- the wire's calls -------------------------------------------------------------------

    def received(self, data: bytes, now: float) -> None:
        """Bytes of a request, or of the next one."""
        if self._closing:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.abort()
            return
        self.stats.bytes_in += len(data)
        if self.tunnelled is not None:
            self.tunnelled.from_client(data, now)
            return
        reader = self.reader
        reader.feed(data)
        exchange = self.exchange
        if exchange is None:
            self._advance(now)
        elif not reader.body_done:
            exchange.more_body(now)
        elif reader.pending >= READ_BYTES:
            self.wire.stop_reading()

    def ended(self, now: float) -> None:
        """The client sends nothing more; it may still want its answer."""
        self._eof = True
        if self.tunnelled is not None:
            self.tunnelled.client_ended(now)
        elif self._closing or (self.exchange is None and not self.wire.kept):
            self.gone()
        elif not self.reader.body_done:
            self.lost(ConnectionResetError("ended within a request"), now)
        elif self.exchange is not None and self.exchange.waiting:
            # Whoever closes says no more than this. He may have shut one half only, but hardly anybody does
            # that, and those who have left must not take the places of those who would wait.
            self.lost(ConnectionResetError("left while it waited"), now)

    def lost(self, error: OSError, now: float) -> None:
        """The connection broke."""
        exchange, tunnelled = self.exchange, self.tunnelled
        self.exchange = None
        if tunnelled is not None:
            tunnelled.close(now)
        elif exchange is not None:
            exchange.abandon(now)
        self.gone()

    def drained(self, now: float) -> None:
        """The client took what was kept for it."""
        if self.tunnelled is not None:
            self.tunnelled.client_drained()
        elif self._closing:
            self._linger(now)
        elif self.exchange is not None:
            self.exchange.client_drained(now)
        else:
            self.finished(now)

    # --- the exchange's calls ---------------------------------------------------------------

    def answer(self, answer: Answer, request: Request | None, *, whole: bool, now: float) -> None:
        """An answer of our own, which ends the exchange. `whole`: the request was read to its end, and another may follow."""
        self.exchange = None
        keep_alive = (
            whole and request is not None and request.keep_alive and not self._eof and not self.traffic.draining
        )
        method, minor = (request.method, request.minor) if request is not None else (b"GET", 1)
        out = render(answer, method=method, minor=minor, keep_alive=keep_alive, date=self.traffic.date())
        self.stats.classes[answer.status // 100] += 1
        self.stats.bytes_out += len(out)
        self.wire.send(out)
        if self.wire.closed:
            return
        self.keep_alive = keep_alive
        self.finished(now)

    def finished(self, now: float) -> None:
        """The answer is on its way: what comes next?"""
        self.exchange = None
        if not self.keep_alive:
            self._close_gently(now)
            return
        wire = self.wire
        wire.read_bytes = READ_BYTES
        if self.gathered:
            self.traffic.gathered(self, 0)
        if wire.kept:  # the next answer isn't begun before this one is taken
            self.deadline = self.taker_deadline(now)
            wire.stop_reading()
            return
        self.deadline = now + self.traffic.idle_s
        if self.reader.pending or self._eof:
            self._advance(now)
            wire = self.wire
        if not (wire.reading or wire.kept or self._eof or self._is_under_way):
            wire.start_reading()

    def taker_deadline(self, now: float, patience: float = 1.0) -> float:
        """When to look at how much of what is there for it the client took: it has write_s in all, or a share of that."""
        write_s = self.traffic.limits.write_s
        self._untaken = self.wire.untaken()
        self._take_due = now + patience * write_s
        return now + write_s / LOOKS

    def abort(self) -> None:
        """Break off: the answer can't be finished, and the client must see that."""
        if not self.wire.closed:
            self.wire.reset()
            self.gone()

    def gone(self) -> None:
        """Close, and be forgotten."""
        if not self.wire.closed:
            self.exchange = self.tunnelled = None
            self.wire.close()
            self.wire = CLOSED
            self.traffic.client_gone(self)

    def close_after_bug(self, now: float) -> None:
        """What is done for it raised: drop the connection, and what hangs on it; it is forgotten also if that fails."""
        try:
            self.lost(ConnectionAbortedError("a bug in its handler"), now)
        except Exception:
            log.exception("a connection's handler failed once more")
        self.gone()

    def reroute(self, now: float) -> None:
        """The route that its request waited at is no more."""
        exchange = self.exchange
        assert exchange is not None
        request = exchange.request
        match = self.traffic.table.find(request.host)
        if isinstance(match.made, Service):
            exchange.move(match.made, now)
        else:
            self.exchange = None
            self._local(self.traffic.own_answer(self, request, match), request, now)

    def tunnel(self, upstream: Upstream, now: float) -> None:
        """From now on bytes only pass through."""
        assert self.exchange is not None
        self.tunnelled = Tunnel(self, upstream, self.exchange, self.traffic)
        self.tunnelled.start(now)

    # --- the traffic's calls ----------------------------------------------------------------

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        if self.tunnelled is not None:
            self.tunnelled.close(now)
        elif self.wire.kept and self._takes(now):
            pass
        elif self.exchange is not None:
            self.exchange.timed_out(now)
        elif self.wire.kept:
            self.abort()  # it takes nothing: the kernel needn't go on trying either
        elif self._closing:
            self._end(now)
        elif self.reader.pending:
            self._refuse(408, f"no whole request within {self.traffic.limits.head_s:g} s", None, now)
        elif self.wire.untaken():  # all that time
            self._closing = True
            self._linger(now, 1 / LOOKS)
        else:  # idle
            self.wire.shut()
            self.gone()

    def limit(self, head_limits: HeadLimits, field_bytes: int) -> None:
        """These count from the next head on."""
        self.reader.limit(head_limits)
        self.forwarder.field_bytes = field_bytes

    def drain(self, quiet_s: float, now: float) -> None:
        """The worker is to end: a connection that stays idle for `quiet_s` is closed; a head that has begun has its time."""
        if self.exchange is None and not (self._closing or self._partial):
            self.deadline = min(self.deadline, now + quiet_s)

    # --- its own ----------------------------------------------------------------------------

    @property
    def _is_under_way(self) -> bool:
        """An exchange is; asked where one was over, and another may have begun since."""
        return self.exchange is not None

    @property
    def _is_free(self) -> bool:
        """Nothing stands in the way of another request."""
        return not (self._closing or self.wire.closed or self.wire.kept)

    def _advance(self, now: float) -> None:
        """Begin the requests that are here, as far as they can be."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.exchange is None and self._is_free:
                try:
                    request = self.reader.next()
                except BadMessage as error:
                    self._refuse(error.status, error.message, None, now)
                    return
                if request is None:
                    break
                self.requests += 1
                self._begin(request, now)
            if self.exchange is None and self._is_free:
                self._await_head(now)
        finally:
            self._advancing = False

    def _await_head(self, now: float) -> None:
        if self._eof:
            self._close_gently(now)
        elif self.reader.pending and not self._partial:
            self._partial = True  # from its first byte on: one that comes in drops has no more time
            self.deadline = now + self.traffic.limits.head_s

    def _begin(self, request: Request, now: float) -> None:
        traffic = self.traffic
        self._partial = False
        self.stats.requests += 1
        if traffic.client_limits is not None:
            wait_s = traffic.client_limits.request(self.address, now)
            if wait_s:
                self._refuse(429, "too many requests from this address", request, now, headers=retry_after(wait_s))
                return
        if request.method in _NO_METHODS:
            self._refuse(
                405, f"{request.method.decode()} is not for servers like this one", request, now, headers=_ALLOW
            )
            return
        if self.to_https and not (self.trusted and request.fields.known.get(b"x-forwarded-proto") == [b"https"]):
            self._local(traffic.https_instead(request), request, now)
            return
        if request.length and 0 < traffic.limits.body_bytes < request.length:
            self._refuse(413, f"a body of more than {traffic.limits.body_bytes} bytes", request, now)
            return
        table = traffic.table
        match = table.memo.get(request.host) or table.find(request.host)
        service = match.made
        if isinstance(service, Service):
            self.exchange = exchange = Exchange(self, request, service, traffic, now)
            if request.length:
                exchange.gather(now)
            else:
                service.assign(exchange, now)
        else:
            self._local(traffic.own_answer(self, request, match), request, now)

    def _refuse(
        self,
        status: int,
        reason: str,
        request: Request | None,
        now: float,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.traffic.reporter.refused(self, request, status, reason)
        self._local(refusal(status, reason, headers), request, now)

    def _local(self, answer: Answer, request: Request | None, now: float) -> None:
        """Answer here; a body that isn't here whole isn't waited for."""
        whole = request is not None and request.method not in _NO_METHODS
        if not self.reader.body_done:
            try:
                self.reader.body()
            except BadMessage:
                whole = False
            else:
                whole = self.reader.body_done
        self.answer(answer, request, whole=whole, now=now)

    def _takes(self, now: float) -> bool:
        """Whether the client still has time to take what is kept for it; then there is another look."""
        limits = self.traffic.limits
        before, self._untaken = self._untaken, self.wire.untaken()
        self._take_due = paced(self._take_due, max(0, before - self._untaken), now, limits.write_s, limits.least_rate)
        if self._take_due <= now:
            return False
        self.deadline = min(self._take_due, now + limits.write_s / LOOKS)
        if self.exchange is not None:
            if behind_at(self._take_due, limits.write_s) <= now:
                self.exchange.rest(now)
            else:
                self.exchange.go_on()
        return True

    def _close_gently(self, now: float) -> None:
        """No more requests: let what is on its way to the client arrive, then close."""
        self._closing = True
        self.keep_alive = False
        if self.wire.kept:
            self.deadline = self.taker_deadline(now)
        elif self._eof:
            self.gone()
        else:
            self._linger(now)

    def _end(self, now: float) -> None:
        """It has lingered: the kernel sends on, and we see to it that it needn't for ever."""
        if not self.wire.untaken():
            self.gone()
        elif not self._takes(now):
            self.abort()

    def _linger(self, now: float, patience: float = 1.0) -> None:
        """Closing with unread bytes would reset the connection, and the client lose the answer (RFC 9112, 9.6)."""
        if self._eof:
            self.gone()
            return
        self.wire.shut()
        self.taker_deadline(now, patience)
        self.deadline = now + LINGER_S
        self.wire.start_reading()
