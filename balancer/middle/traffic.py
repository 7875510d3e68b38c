"""What all connections of a worker share: limits, routes in force, the reporter, and who is there. Pure.

Owns the set of clients. Connections know it; it decides nothing for them, but for what no backend is needed for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from balancer.middle.answers import Answer, refusal
from balancer.middle.client_end import ClientEnd
from balancer.middle.limits import ClientLimits
from balancer.middle.networks import Networks
from balancer.middle.reporter import Reporter
from balancer.middle.routes import Match, RouteTable, location
from balancer.middle.service import Service
from hitmesh.config import Balancer, BalancerLimits, Redirect
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import Request

HTTPS_PORT: Final = 443  # which a URL leaves out
# Of small bodies that aren't whole yet, of all clients of a worker: four thousand of the default's largest.
# Past it a body streams from its first byte on.
GATHERED_BYTES: Final = 64 * 1024 * 1024
_LOW_DIGITS: Final = tuple(b"%02x" % number for number in range(256))  # of ids: formatting a number takes longer
QUIET_S: Final = 1.0  # that a client was silent when a draining worker closes its connection
_OF_CLIENTS: Final = ("client_connections", "client_rps", "client_burst")


class Traffic:
    """Shared by the connections of one worker. `wall` tells seconds since 1970; `id_prefix` is in no other worker's ids."""

    def __init__(
        self,
        settings: Balancer,
        *,
        services: Iterable[Service],
        reporter: Reporter,
        wall: Callable[[], float],
        id_prefix: bytes,
        https_port: int | None = None,
    ) -> None:
        limits = settings.limits
        self.limits = limits
        self.head_limits = _head_limits(limits)
        self.services = services
        self.reporter = reporter
        self.table = RouteTable({}, {})
        self.draining = False
        self.idle_s = limits.idle_s  # that a connection may be without a request
        self.clients: set[ClientEnd] = set()
        self.client_limits = _client_limits(limits)
        self.https_port = https_port if settings.tls.redirect else None  # where plain requests are sent instead
        self._gathered_bytes = 0  # of bodies that no backend was asked for yet, or that wait for one
        self._trusted = Networks(settings.trusted)
        self._id_prefix = id_prefix
        self._id_high = b""  # an id, but for its last two digits
        self._ids = 0
        self._wall = wall
        self._date = (0, b"")

    def limit(self, limits: BalancerLimits) -> None:
        """From now on these count; a deadline that runs already stays."""
        before, self.limits = self.limits, limits
        self.head_limits = _head_limits(limits)
        for client in self.clients:
            client.limit(self.head_limits, limits.header_bytes)
        if not self.draining:
            self.idle_s = limits.idle_s
        if any(getattr(before, name) != getattr(limits, name) for name in _OF_CLIENTS):
            self.client_limits = _client_limits(limits)
            if self.client_limits is not None:
                for client in self.clients:
                    self.client_limits.count(client.address)

    def drain(self, now: float) -> None:
        """From now on every answer is the last one of its connection."""
        self.draining = True
        self.idle_s = QUIET_S
        for client in self.clients:
            client.drain(QUIET_S, now)

    def stop(self, now: float) -> None:
        """Close everything."""
        for client in list(self.clients):
            client.lost(ConnectionAbortedError("the balancer ends"), now)

    # --- for connections --------------------------------------------------------------------

    def next_id(self) -> bytes:
        """A request's id: unique in the mesh."""
        number = self._ids
        self._ids += 1
        low = number & 255
        if not low:
            self._id_high = b"%b-%x" % (self._id_prefix, number >> 8)
        return self._id_high + _LOW_DIGITS[low]

    def is_trusted(self, address: str) -> bool:
        """Whether what a client says of those before it is believed."""
        return self._trusted.contains(address)

    def date(self) -> bytes:
        """Now, as HTTP says it."""
        now = int(self._wall())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]

    def own_answer(self, client: ClientEnd, request: Request, match: Match) -> Answer:
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

    def gathered(self, client: ClientEnd, size: int) -> bool:
        """So many bytes of a client's body are kept now; False: there is no room for all clients' together."""
        self._gathered_bytes += size - client.gathered
        client.gathered = size
        return self._gathered_bytes <= GATHERED_BYTES

    def client_came(self, client: ClientEnd) -> None:
        """A client's connection is open; the limits have let it in."""
        client.stats.opened()
        self.clients.add(client)

    def client_gone(self, client: ClientEnd) -> None:
        """A client's connection is closed."""
        self.gathered(client, 0)
        self.clients.discard(client)
        client.stats.sessions -= 1
        if self.client_limits is not None:
            self.client_limits.closed(client.address)


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
