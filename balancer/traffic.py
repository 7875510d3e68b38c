"""What all connections of a worker share: settings, routes in force, counters, the clock of deadlines.

Owns the set of clients and the sweep over them. Connections know it; it decides nothing for them.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from gevent.hub import get_hub

from balancer.accesslog import AccessLog, Stamps, line
from balancer.answers import Answer, refusal
from balancer.limits import ClientLimits
from balancer.proxy_protocol import Networks
from balancer.routes import Match, RouteTable, location
from hitmesh.config import Balancer, BalancerLimits, Redirect
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import Request
from hitmesh.logs import Complaints

if TYPE_CHECKING:
    from balancer.backend import Backend
    from balancer.client import Client
    from balancer.exchange import Exchange
    from balancer.services import Services
    from balancer.upstream import Upstream

SWEEP_S: Final = 0.25  # how closely deadlines are kept
MOST_TARGET_BYTES: Final = 2048  # of a slow request's target in the log: it may have 8 KiB
HTTPS_PORT: Final = 443  # which a URL leaves out
# Of small bodies that aren't whole yet, of all clients of a worker: four thousand of the default's largest.
# Past it a body streams from its first byte on.
GATHERED_BYTES: Final = 64 * 1024 * 1024
QUIET_S: Final = 1.0  # that a client was silent when a draining worker closes its connection
_OF_CLIENTS: Final = ("client_connections", "client_rps", "client_burst")

NEVER: Final = float("inf")

log = logging.getLogger(__name__)
_monotonic = time.monotonic


class Traffic:
    """Shared by the connections of one worker."""

    def __init__(
        self, settings: Balancer, *, services: Services, access_log: AccessLog | None, https_port: int | None = None
    ) -> None:
        limits = settings.limits
        self.limits = limits
        self.head_limits = _head_limits(limits)
        self.services = services
        self.table = RouteTable({}, {})
        self.draining = False
        self.idle_s = limits.idle_s  # that a connection may be without a request
        self.clients: set[Client] = set()
        self._gathered_bytes = 0  # of bodies that no backend was asked for yet, or that wait for one
        self.client_limits = _client_limits(limits)
        self.https_port = https_port if settings.tls.redirect else None  # where plain requests are sent instead
        self._trusted = Networks(settings.trusted)
        self._access_log = access_log
        self._complaints = Complaints(log)
        self.logs = access_log is not None
        self.slow_s = NEVER  # from which on a request is said in the log
        self._stamps = Stamps()
        self._id_prefix = os.urandom(6).hex().encode() + b"-%x"
        self._ids = itertools.count(1)
        self._date = (0, b"")
        loop: Any = get_hub().loop
        self._sweeper = loop.timer(SWEEP_S, SWEEP_S)
        self._late: list[Client | Upstream] = []
        # A turn of the hub later, and after all that came with it: what is here already is not late.
        self._judge = loop.timer(0.0, priority=loop.MINPRI)

    def start(self) -> None:
        """Begin to keep deadlines."""
        self._sweeper.start(self._sweep)

    def limit(self, limits: BalancerLimits) -> None:
        """From now on these count; a deadline that runs already stays."""
        before, self.limits = self.limits, limits
        self.head_limits = _head_limits(limits)
        for client in self.clients:
            client.limit()
        if not self.draining:
            self.idle_s = limits.idle_s
        if any(getattr(before, name) != getattr(limits, name) for name in _OF_CLIENTS):
            self.client_limits = _client_limits(limits)
            if self.client_limits is not None:
                for client in self.clients:
                    self.client_limits.count(client.address)

    def stop(self) -> None:
        """Close everything."""
        for timer in (self._sweeper, self._judge):
            timer.stop()
            timer.close()
        for client in list(self.clients):
            client.lost(ConnectionAbortedError("the balancer ends"))

    def drain(self) -> None:
        """From now on every answer is the last one of its connection."""
        self.draining = True
        self.idle_s = QUIET_S
        for client in self.clients:
            client.drain(QUIET_S)

    # --- for connections --------------------------------------------------------------------

    def next_id(self) -> bytes:
        """A request's id: unique in the mesh."""
        return self._id_prefix % next(self._ids)

    def is_trusted(self, address: str) -> bool:
        """Whether what a client says of those before it is believed."""
        return self._trusted.contains(address)

    def date(self) -> bytes:
        """Now, as HTTP says it."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]

    def own_answer(self, client: Client, request: Request, match: Match) -> Answer:
        """The answer to a request whose route needs no backend."""
        if match.made is not None:
            client.stats.intercepted += 1
            answer: Answer = match.made
            return answer
        route = match.route
        if isinstance(route, Redirect):
            client.stats.intercepted += 1
            return Answer(route.status, headers=((b"Location", location(route, request.target)),))
        return refusal(404, match.problem)

    def https_instead(self, request: Request) -> Answer:
        """Send a plain request to the same URL with https, method and body as they were."""
        host = request.host  # an IPv6 address has its brackets
        if not host:
            return refusal(400, "https is needed here, and without a Host nobody can say where that is")
        port = b"" if self.https_port == HTTPS_PORT else b":%d" % (self.https_port or 0)
        path = request.target if request.target.startswith(b"/") else b"/"
        return Answer(HTTPStatus.PERMANENT_REDIRECT, headers=((b"Location", b"https://%b%b%b" % (host, port, path)),))

    def gathered(self, client: Client, size: int) -> bool:
        """So many bytes of a client's body are kept now; False: there is no room for all clients' together."""
        self._gathered_bytes += size - client.gathered
        client.gathered = size
        return self._gathered_bytes <= GATHERED_BYTES

    def client_gone(self, client: Client) -> None:
        """A client's connection is closed."""
        self.gathered(client, 0)
        self.clients.discard(client)
        client.stats.sessions -= 1
        if self.client_limits is not None:
            self.client_limits.closed(client.address)

    def refused(self, client: Client, request: Request | None, status: int, reason: str) -> None:
        """A request was answered with an error of the client's."""
        client.stats.refused(status)
        log.debug("%s: %s %s", client.address, HTTPStatus(status).value, reason)  # strangers make as many as they like
        if self._access_log is not None:
            self._log(client, request, status, reason)

    def exchange_over(self, client: Client, exchange: Exchange, word: str = "", reason: str = "") -> None:
        """An exchange ended other than by an answer that went all the way; `reason` says how, `word` of what kind."""
        if exchange.bytes_out or exchange.status == HTTPStatus.SWITCHING_PROTOCOLS:
            client.stats.classes[exchange.status // 100] += 1
            client.stats.bytes_out += exchange.bytes_out
        if reason:
            self._complaints.warn(
                word, "%s %s: %s %s", client.address, exchange.request_id.decode("latin-1"), exchange.status, reason,
                fields={
                    "client": client.address, "request_id": exchange.request_id.decode("latin-1"),
                    "status": exchange.status,
                },
            )  # fmt: skip
        if self._access_log is not None:
            self.log_exchange(client, exchange, reason)
        total_s = _monotonic() - exchange.began
        # An upgraded connection lasts for as long as both like, and who has left waits for nothing.
        if total_s >= self.slow_s and exchange.status not in (0, HTTPStatus.SWITCHING_PROTOCOLS):
            self.slow(client, exchange, total_s)

    def say_slow(self, slow_ms: int) -> None:
        """From now on requests that take longer than this are said in the log; 0: none."""
        self.slow_s = slow_ms / 1000 if slow_ms else NEVER

    def slow(self, client: Client, exchange: Exchange, total_s: float) -> None:
        """A line about a request that took long, with its parts; of a storm of them one now and then."""
        request = exchange.request
        body_s = exchange.ready_at - exchange.began
        queued_s, connect_s, first_s = _parts(exchange)
        over_s = total_s - body_s - sum(part for part in (queued_s, connect_s, first_s) if part >= 0)
        self._complaints.warn(
            "slow", "slow request",
            fields={
                "method": request.method.decode("latin-1"),
                "host": request.host.decode("latin-1"),
                "target": request.target[:MOST_TARGET_BYTES].decode("latin-1"),
                "status": exchange.status,
                "ms": round(total_s * 1000),
                "body_ms": round(body_s * 1000),
                **_times_ms({"waiting": queued_s, "connect": connect_s, "backend": first_s, "answer": over_s}),
                "route": exchange.service.name,
                "backend": exchange.backend.name if exchange.backend else exchange.backend_name,
                "client": client.address,
                "request_id": exchange.request_id.decode("latin-1"),
            },
        )  # fmt: skip

    def connect_failed(self, backend: Backend, reason: str) -> None:
        """A backend couldn't be reached."""
        self.services.connect_failed(backend, reason)

    def answer_failed(self, backend: Backend, reason: str) -> None:
        """A backend didn't answer a request as it should."""
        self.services.answer_failed(backend, reason)

    # --- its own ----------------------------------------------------------------------------

    def _log(self, client: Client, request: Request | None, status: int, reason: str) -> None:
        assert self._access_log is not None
        text, referer, agent = _seen(request)
        self._access_log.add(
            line(
                self._stamps.at(time.time()), client=client.address, request=text, status=status, size=0,
                referer=referer, agent=agent, reason=reason,
            )
        )  # fmt: skip

    def log_exchange(self, client: Client, exchange: Exchange, reason: str) -> None:
        """A line for the access log."""
        assert self._access_log is not None
        text, referer, agent = _seen(exchange.request)
        times_s = (*_parts(exchange), _monotonic() - exchange.began)
        self._access_log.add(
            line(
                self._stamps.at(time.time()), client=client.address, request=text, status=exchange.status,
                size=exchange.bytes_out, referer=referer, agent=agent, route=exchange.service.name,
                backend=exchange.backend.name if exchange.backend else exchange.backend_name, reason=reason, times_s=times_s, request_id=exchange.request_id,
            )
        )  # fmt: skip

    def _sweep(self) -> None:
        now = _monotonic()
        late: list[Client | Upstream] = [each for each in self.clients if each.deadline < now]
        for backend in self.services.backends:
            late += [each for each in backend.open if each.deadline < now]
        if late:
            self._late = late
            self._judge.start(self._expire)

    def _expire(self) -> None:
        now = _monotonic()
        late, self._late = self._late, []
        for link in late:
            if link.closed or link.deadline >= now:
                continue
            try:
                link.expire()
            except Exception:
                log.exception("a connection's handler failed")
                link.close_after_bug()


def _parts(exchange: Exchange) -> tuple[float, float, float]:
    """For how long it waited for a backend, for a connection, for the answer's first byte; -1 for what was never reached."""
    assigned, connected = exchange.assigned_at, exchange.connected_at
    return (
        assigned - exchange.ready_at if assigned else -1.0,
        connected - assigned if connected else -1.0,
        exchange.first_byte_at - connected if exchange.first_byte_at else -1.0,
    )


def _times_ms(parts_s: Mapping[str, float]) -> dict[str, int]:
    """Those that there were."""
    return {f"{name}_ms": round(part_s * 1000) for name, part_s in parts_s.items() if part_s >= 0}


def _head_limits(limits: BalancerLimits) -> HeadLimits:
    return HeadLimits(
        line_bytes=limits.line_bytes,
        headers=limits.headers,
        header_bytes=limits.header_bytes,
        head_bytes=limits.head_bytes,
    )


def _client_limits(limits: BalancerLimits) -> ClientLimits | None:
    found = ClientLimits(connections=limits.client_connections, rps=limits.client_rps, burst=limits.client_burst)
    return found if found.enabled else None


def _seen(request: Request | None) -> tuple[bytes, bytes, bytes]:
    """The request line, Referer and User-Agent, as far as there was a request."""
    if request is None:
        return b"", b"", b""
    found = {name.lower(): value for name, value in request.fields.pairs if name.lower() in (b"referer", b"user-agent")}
    text = b"%b %b HTTP/1.%d" % (request.method, request.target, request.minor)
    return text, found.get(b"referer", b""), found.get(b"user-agent", b"")
