"""A service: the backends that one route's requests may go to, and the requests that wait for one.

Owns who gets which backend, and when. The choice itself is `balancer.choice`; whether a backend
works is `balancer.health`; bytes are the exchange's.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from balancer.answers import PAUSE_RETRY_S, RETRY_S
from balancer.backend import Backend
from balancer.choice import choose, choose_sticky
from balancer.stats import ServiceStats
from balancer.upstream import Upstream
from hitmesh.config import Proxy

if TYPE_CHECKING:
    from balancer.exchange import Exchange

SPARE: Final = 16  # of those that wait no more, how many are kept beside as many as wait: to find them all costs time
_draw = random.random
log = logging.getLogger(__name__)


class Service:
    """The backends of one Proxy route. `backends` is replaced as a whole, never changed in place."""

    def __init__(self, name: str, route: Proxy, *, backend_idle_s: float) -> None:
        self.name = name
        self.route = route
        self.sticky = route.sticky
        self.stats = ServiceStats(time.monotonic(), queue_limit=route.queue, held_limit=route.hold)
        self.backends: tuple[Backend, ...] = ()
        self.waiting: deque[Exchange] = deque()  # those that were abandoned stay until their turn
        self.queued = 0  # of them, how many still wait
        self.pause_ends: float | None = None  # of a route that is paused; seconds since 1970
        self._dissolved = False
        self.backend_idle_s = backend_idle_s  # that a connection to a backend is kept without a request

    # --- for exchanges ----------------------------------------------------------------------

    def assign(self, exchange: Exchange) -> None:
        """Give `exchange` a backend now, or let it wait, or refuse it."""
        backend = choose(self.backends, _draw) if exchange.sticky_key is None else self._choose(exchange)
        if backend is not None:
            self._serve(backend, exchange)
        elif self.route.hold or (backend := self._choose(exchange)) is None:
            self._wait(exchange)
        else:
            self._serve(backend, exchange)

    def assign_again(self, exchange: Exchange) -> None:
        """As `assign`, for one that has failed: not with the same backend, if there is another."""
        others = [each for each in self.backends if each not in exchange.refused_by]
        backend = _of(others, exchange.sticky_key)
        if backend is not None:
            self._serve(backend, exchange)
        else:
            self.assign(exchange)

    def done(self, backend: Backend, upstream: Upstream | None, now: float) -> None:
        """A request is no longer with `backend`; `upstream` may be used again, if there is one."""
        backend.outstanding -= 1
        if upstream is not None:
            if backend.usable:
                upstream.exchange = None
                upstream.deadline = now + self.backend_idle_s
                backend.idle.append(upstream)
            else:
                upstream.drop()
        if backend.gone and not backend.in_hand and backend.when_idle is not None:
            backend.when_idle()
        if self.queued:
            self.wake()

    def rest(self, backend: Backend, exchange: Exchange) -> None:
        """The client of `exchange` is behind: meanwhile another may have its place with `backend`.

        There are as many such places more as there are places; beyond that the one goes that is behind
        for the longest time.
        """
        backend.outstanding -= 1
        backend.resting[exchange] = None
        if len(backend.resting) > backend.limit:
            longest = next(iter(backend.resting))
            _go_on(longest, longest.give_up)
        if self.queued:
            self.wake()

    def resume(self, backend: Backend, exchange: Exchange) -> None:
        """It isn't behind any more."""
        del backend.resting[exchange]
        backend.outstanding += 1

    def dissolve(self) -> None:
        """The route is no more, or another: those who wait are sent on their way anew."""
        self._dissolved = True
        waiting, self.waiting, self.queued = self.waiting, deque(), 0
        for exchange in waiting:
            if exchange.waiting:
                _go_on(exchange, exchange.begin_anew)

    def abandon(self, exchange: Exchange) -> None:
        """A waiting exchange waits no more."""
        self.queued -= 1
        if len(self.waiting) > 2 * self.queued + SPARE:
            waiting = [each for each in self.waiting if each.waiting]
            self.waiting.clear()
            self.waiting.extend(waiting)

    def wake(self) -> None:
        """Something changed: those who wait go on, in their order, as far as there is room."""
        waiting = self.waiting
        while waiting:
            exchange = waiting[0]
            if not exchange.waiting:
                waiting.popleft()
                continue
            backend = self._choose(exchange)
            if backend is None:
                return
            waiting.popleft()
            self.queued -= 1
            exchange.waiting = False
            _go_on(exchange, self._serve, backend, exchange)

    def retry_s(self, wall: float) -> float:
        """When another try makes sense to whoever wasn't served."""
        if self.pause_ends is None:
            return RETRY_S
        return min(max(self.pause_ends - wall, 1.0), PAUSE_RETRY_S)

    @property
    def alive(self) -> bool:
        """Whether any backend may be sent requests."""
        return any(backend.usable for backend in self.backends)

    # --- its own ----------------------------------------------------------------------------

    def _choose(self, exchange: Exchange) -> Backend | None:
        chosen = _of(self.backends, exchange.sticky_key)
        if chosen is None and not self.route.hold and not self.alive:
            # Nobody will wait: better one more try than a refusal without any.
            untried = [
                each for each in self.backends if each not in exchange.refused_by and each.outstanding < each.limit
            ]
            return random.choice(untried) if untried else None
        return chosen

    def _serve(self, backend: Backend, exchange: Exchange) -> None:
        backend.outstanding += 1
        stats = backend.stats
        stats.sessions_total += 1
        if backend.outstanding > stats.sessions_max:  # noqa: PLR1730 - once a request: a third of what max takes
            stats.sessions_max = backend.outstanding
        if backend.idle:
            stats.reuses += 1
            exchange.begin(backend, backend.idle.pop())
            return
        try:
            upstream = Upstream(backend)
        except OSError as error:  # no file descriptor is left
            backend.outstanding -= 1
            exchange.refuse(503, "no descriptor", f"no connection can be opened: {error.strerror}")
            return
        stats.connects += 1
        exchange.connect(backend, upstream)

    def _wait(self, exchange: Exchange) -> None:
        if self._dissolved:  # it was under way when the route went, and its backend failed
            exchange.begin_anew()
            return
        route = self.route
        if self.alive:
            most, wait_s, lack = route.queue, route.queue_s, "all backends are busy"
        else:
            is_held = not route.service and not route.backends  # a route that only holds, or is paused so
            lack = "the route holds its requests" if is_held else "no backend is alive"
            if self.pause_ends is not None:
                lack = "the route is paused"
            most, wait_s = route.hold, route.hold_s
        if exchange.refused_by and not most:
            exchange.refuse(502, "can't connect", exchange.last_error, exchange.last_detail)
        elif self.queued >= most:
            full = f", and {self.queued} requests wait already" if most else ""
            exchange.refuse(
                503, "full" if most else "no backend", lack + full, f"{self.name}: {lack}{full}",
                retry_s=self.retry_s(time.time()),
            )  # fmt: skip
        else:
            stats = self.stats
            if self.alive:
                stats.queue = self.queued
                stats.queued()
            else:
                stats.held = self.queued
                stats.hold()
            self.queued += 1
            self.waiting.append(exchange)
            waited = f"; waited for {wait_s:g} s" if self.pause_ends is not None else f" for {wait_s:g} s"
            exchange.wait(wait_s, lack + waited)


def _of(backends: Sequence[Backend], key: bytes | None) -> Backend | None:
    return choose(backends, _draw) if key is None else choose_sticky(backends, key)


def _go_on(exchange: Exchange, step: Callable[..., None], *args: object) -> None:
    """Let one that waited go on. We are in the middle of somebody else's affairs, who mustn't suffer from a bug in its."""
    try:
        step(*args)
    except Exception:
        log.exception("a connection's handler failed")
        exchange.client.close_after_bug()
