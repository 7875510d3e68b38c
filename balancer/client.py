"""One client's connection: its requests one after the other, each answered before the next is begun.

Owns the order and the deadlines of the client's side. A request that needs a backend becomes an
Exchange; everything else is answered here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from balancer.answers import Answer, refusal, render, retry_after
from balancer.exchange import Exchange
from balancer.forward import RequestForwarder
from balancer.pace import LOOKS, behind_at, paced
from balancer.service import Service
from balancer.stats import FrontStats
from balancer.tunnel import Tunnel
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import Request, RequestReader
from hitmesh.hub.link import READ_BYTES, Link, Stream

if TYPE_CHECKING:
    from balancer.traffic import Traffic
    from balancer.upstream import Upstream

LINGER_S: Final = 2.0  # that a client has to take the last answer before its unread bytes reset the connection
LINGER_BYTES: Final = 1024 * 1024  # of them that are read and dropped meanwhile
_NO_METHODS: Final = frozenset((b"CONNECT", b"TRACE"))  # we are no way to elsewhere, and echo nobody's cookies
_ALLOW: Final = ((b"Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),)
_monotonic = time.monotonic


class Client(Link):
    """A client's connection. `deadline` is when its present state has lasted too long."""

    __slots__ = (
        "_advancing", "_closing", "_eof", "_lingered", "_partial", "_take_due", "_untaken", "address", "deadline",
        "exchange", "forwarder", "gathered", "keep_alive", "reader", "requests", "stats", "to_https", "traffic", "trusted", "tunnelled",
    )  # fmt: skip

    def __init__(
        self, traffic: Traffic, stream: Stream, *, stats: FrontStats, address: str, scheme: str, local: str
    ) -> None:
        super().__init__(stream)
        self.traffic = traffic
        self.stats = stats
        self.address = address
        self.reader = RequestReader(traffic.head_limits)
        self.trusted = traffic.is_trusted(address)  # what it says of those before it is believed
        self.forwarder = RequestForwarder(
            peer=address, scheme=scheme, local=local, trusted=self.trusted, field_bytes=traffic.limits.header_bytes
        )
        self.to_https = scheme == "http" and traffic.https_port is not None  # every request is sent there
        self.exchange: Exchange | None = None
        self.tunnelled: Tunnel | None = None
        self.keep_alive = True  # after the answer that is under way
        self.requests = 0
        self.deadline = _monotonic() + traffic.limits.head_s
        self._advancing = self._closing = self._eof = self._partial = False
        self._lingered = 0
        self._take_due = 0.0  # when patience with a slow taker ends
        self._untaken = 0  # bytes, at the last look
        self.gathered = 0  # bytes of a body that count for the traffic

    # --- the hub's calls --------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes of a request, or of the next one."""
        if self._closing:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.abort()
            return
        self.stats.bytes_in += len(data)
        if self.tunnelled is not None:
            self.tunnelled.from_client(data)
            return
        reader = self.reader
        reader.feed(data)
        exchange = self.exchange
        if exchange is None:
            self._advance()
        elif not reader.body_done:
            exchange.more_body()
        elif reader.pending >= READ_BYTES:
            self.stop_reading()

    def ended(self) -> None:
        """The client sends nothing more; it may still want its answer."""
        self._eof = True
        if self.tunnelled is not None:
            self.tunnelled.client_ended()
        elif self._closing or (self.exchange is None and not self.kept):
            self.gone()
        elif not self.reader.body_done:
            self.lost(ConnectionResetError("ended within a request"))
        elif self.exchange is not None and self.exchange.waiting:
            # Whoever closes says no more than this. He may have shut one half only, but hardly anybody does
            # that, and those who have left must not take the places of those who would wait.
            self.lost(ConnectionResetError("left while it waited"))

    def lost(self, error: OSError) -> None:
        """The connection broke."""
        exchange = self.exchange
        self.exchange = None
        if self.tunnelled is not None:
            self.tunnelled.close()
        elif exchange is not None:
            exchange.abandon()
        self.gone()

    def drained(self) -> None:
        """The client took what was kept for it."""
        if self.tunnelled is not None:
            self.tunnelled.client_drained()
        elif self._closing:
            self._linger()
        elif self.exchange is not None:
            self.exchange.client_drained()
        else:
            self.finished(_monotonic())

    # --- the exchange's calls ---------------------------------------------------------------

    def answer(self, answer: Answer, request: Request | None, *, whole: bool) -> None:
        """An answer of our own. `whole`: the request was read to its end, and another may follow."""
        keep_alive = (
            whole and request is not None and request.keep_alive and not self._eof and not self.traffic.draining
        )
        method, minor = (request.method, request.minor) if request is not None else (b"GET", 1)
        out = render(answer, method=method, minor=minor, keep_alive=keep_alive, date=self.traffic.date())
        self.stats.classes[answer.status // 100] += 1
        self.stats.bytes_out += len(out)
        self.send(out)
        if self.closed:
            return
        self.keep_alive = keep_alive
        self.finished(_monotonic())

    def finished(self, now: float) -> None:
        """The answer is on its way: what comes next?"""
        if not self.keep_alive:
            self._close_gently()
            return
        self.read_bytes = READ_BYTES
        if self.gathered:
            self.traffic.gathered(self, 0)
        if self.kept:  # the next answer isn't begun before this one is taken
            self.await_taker(now)
            self.stop_reading()
            return
        self.deadline = now + self.traffic.idle_s
        if self.reader.pending or self._eof:
            self._advance()
        if not (self.reading or self.kept or self._eof) and self.exchange is None:
            self.start_reading()

    def await_taker(self, now: float, patience: float = 1.0) -> None:
        """The client has write_s, or a share of that, to take what is there for it, and more while it takes enough."""
        write_s = self.traffic.limits.write_s
        self._untaken = self.untaken()
        self._take_due = now + patience * write_s
        self.deadline = now + write_s / LOOKS

    def abort(self) -> None:
        """Break off: the answer can't be finished, and the client must see that."""
        if self.closed:
            return
        self.reset()
        self.gone()

    def gone(self) -> None:
        """Close, and be forgotten."""
        if not self.closed:
            self.close()
            self.traffic.client_gone(self)

    def close_after_bug(self) -> None:
        """The hub's call: as every link does it, and it is forgotten also if that fails."""
        super().close_after_bug()
        if self in self.traffic.clients:
            self.traffic.client_gone(self)

    def reroute(self, exchange: Exchange) -> None:
        """The route that it waited at is no more."""
        request = exchange.request
        match = self.traffic.table.find(request.host)
        if match.made.__class__ is Service:
            exchange.move(match.made)
        else:
            self.exchange = None
            self._local(self.traffic.own_answer(self, request, match), request)

    def tunnel(self, upstream: Upstream, exchange: Exchange) -> None:
        """From now on bytes only pass through."""
        self.tunnelled = Tunnel(self, upstream, exchange)
        self.tunnelled.start()

    # --- the worker's calls -----------------------------------------------------------------

    def expire(self) -> None:
        """The deadline has passed."""
        if self.tunnelled is not None:
            self.tunnelled.close()
        elif self.kept and self._takes():
            pass
        elif self.exchange is not None:
            self.exchange.timed_out()
        elif self.kept:
            self.abort()  # it takes nothing: the kernel needn't go on trying either
        elif self._closing:
            self._end()
        elif self.reader.pending:
            self._refuse(408, f"no whole request within {self.traffic.limits.head_s:g} s", None)
        elif self.untaken():  # all that time
            self._closing = True
            self._linger(1 / LOOKS)
        else:  # idle
            self.shut()
            self.gone()

    def limit(self) -> None:
        """The traffic's limits have changed."""
        self.reader.limit(self.traffic.head_limits)
        self.forwarder.field_bytes = self.traffic.limits.header_bytes

    def drain(self, quiet_s: float) -> None:
        """The worker is to end: a connection that stays idle for `quiet_s` is closed; a head that has begun has its time."""
        if self.exchange is None and not (self._closing or self._partial):
            self.deadline = min(self.deadline, _monotonic() + quiet_s)

    # --- its own ----------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begin the requests that are here, as far as they can be."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.exchange is None and not (self._closing or self.closed or self.kept):
                try:
                    request = self.reader.next()
                except BadMessage as error:
                    self._refuse(error.status, error.message, None)
                    return
                if request is None:
                    break
                self.requests += 1
                self._begin(request)
            if self.exchange is None and not (self._closing or self.closed or self.kept):
                self._await_head()
        finally:
            self._advancing = False

    def _await_head(self) -> None:
        if self._eof:
            self._close_gently()
        elif self.reader.pending and not self._partial:
            self._partial = True  # from its first byte on: one that comes in drops has no more time
            self.deadline = _monotonic() + self.traffic.limits.head_s

    def _begin(self, request: Request) -> None:
        traffic = self.traffic
        self._partial = False
        self.stats.requests += 1
        now = _monotonic()
        if traffic.client_limits is not None:
            wait_s = traffic.client_limits.request(self.address, now)
            if wait_s:
                self._refuse(429, "too many requests from this address", request, headers=retry_after(wait_s))
                return
        if request.method in _NO_METHODS:
            self._refuse(405, f"{request.method.decode()} is not for servers like this one", request, headers=_ALLOW)
            return
        if self.to_https and not (self.trusted and request.fields.known.get(b"x-forwarded-proto") == [b"https"]):
            self._local(traffic.https_instead(request), request)
            return
        if request.length and 0 < traffic.limits.body_bytes < request.length:
            self._refuse(413, f"a body of more than {traffic.limits.body_bytes} bytes", request)
            return
        self._route(request, now)

    def _route(self, request: Request, began: float) -> None:
        table = self.traffic.table
        match = table.memo.get(request.host) or table.find(request.host)
        service = match.made
        if service.__class__ is Service:
            self.exchange = exchange = Exchange(self, request, service, began)
            if request.length:
                exchange.gather()
            else:
                service.assign(exchange)
        else:
            self._local(self.traffic.own_answer(self, request, match), request)

    def _refuse(
        self, status: int, reason: str, request: Request | None, *, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.traffic.refused(self, request, status, reason)
        self._local(refusal(status, reason, headers), request)

    def _local(self, answer: Answer, request: Request | None) -> None:
        """Answer here; a body that isn't here whole isn't waited for."""
        whole = request is not None and request.method not in _NO_METHODS
        if not self.reader.body_done:
            try:
                self.reader.body()
            except BadMessage:
                whole = False
            else:
                whole = self.reader.body_done
        self.answer(answer, request, whole=whole)

    def _takes(self) -> bool:
        """Whether the client still has time to take what is kept for it; then there is another look."""
        limits, now = self.traffic.limits, _monotonic()
        before, self._untaken = self._untaken, self.untaken()
        self._take_due = paced(self._take_due, max(0, before - self._untaken), now, limits.write_s, limits.least_rate)
        if self._take_due <= now:
            return False
        self.deadline = min(self._take_due, now + limits.write_s / LOOKS)
        if self.exchange is not None:
            if behind_at(self._take_due, limits.write_s) <= now:
                self.exchange.rest()
            else:
                self.exchange.go_on()
        return True

    def _close_gently(self) -> None:
        """No more requests: let what is on its way to the client arrive, then close."""
        self._closing = True
        self.keep_alive = False
        if self.kept:
            self.await_taker(_monotonic())
        elif self._eof:
            self.gone()
        else:
            self._linger()

    def _end(self) -> None:
        """It has lingered: the kernel sends on, and we see to it that it needn't for ever."""
        if not self.untaken():
            self.gone()
        elif not self._takes():
            self.abort()

    def _linger(self, patience: float = 1.0) -> None:
        """Closing with unread bytes would reset the connection, and the client lose the answer (RFC 9112, 9.6)."""
        if self._eof:
            self.gone()
            return
        self.shut()
        now = _monotonic()
        self.await_taker(now, patience)
        self.deadline = now + LINGER_S
        self.start_reading()
