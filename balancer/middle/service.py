"""A service: the backends that one route's requests may go to, and the requests that wait for one. Pure.

Owns who gets which backend, and when. The choice itself is `balancer.middle.choice`; whether a backend
works is `balancer.members.health`; bytes are the exchange's. A connection is opened by the world outside.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from balancer.measures.stats import ServiceStats
from balancer.middle.answers import PAUSE_RETRY_S, RETRY_S
from balancer.middle.backend import Backend
from balancer.middle.choice import choose, choose_sticky
from balancer.middle.passage import Passage
from balancer.middle.upstream import Upstream
from hitmesh.config import Proxy

SPARE: Final = 16  # of those that wait no more, how many are kept beside as many as wait: to find them all costs time
# One that waited or rested raised, in the middle of somebody else's affairs, who mustn't suffer from a bug in its.
FAILED: Final = "a connection's handler failed"

log = logging.getLogger(__name__)


@mypyc_attr(allow_interpreted_subclasses=True)
class World:
    """What is outside: connections, chance, and the time of day."""

    def open(self, upstream: Upstream, backend: Backend) -> None:
        """Begin to connect `upstream` to `backend`; it is told how that ends, not before this returns.

        Raises OSError when no file descriptor is left.
        """
        raise NotImplementedError

    def draw(self) -> float:
        """A number in [0, 1)."""
        raise NotImplementedError

    def wall(self) -> float:
        """Seconds since 1970."""
        raise NotImplementedError


class Service:
    """The backends of one Proxy route. `backends` is replaced as a whole, never changed in place."""

    def __init__(self, name: str, route: Proxy, *, backend_idle_s: float, world: World, now: float) -> None:
        self.name = name
        self.route = route
        self.sticky = route.sticky
        self.stats = ServiceStats(now, queue_limit=route.queue, held_limit=route.hold)
        self.backends: tuple[Backend, ...] = ()
        self.waiting: deque[Passage] = deque()  # those that were abandoned stay until their turn
        self.queued = 0  # of them, how many still wait
        self.pause_ends: float | None = None  # of a route that is paused; seconds since 1970
        self.backend_idle_s = backend_idle_s  # that a connection to a backend is kept without a request
        self._dissolved = False
        self._world = world
        self._draw = world.draw

    # --- for exchanges ----------------------------------------------------------------------

    def assign(self, passage: Passage, now: float) -> None:
        """Give `passage` a backend now, or let it wait, or refuse it."""
        backend = choose(self.backends, self._draw) if passage.sticky_key is None else self._choose(passage)
        if backend is not None:
            self._serve(backend, passage, now)
        elif self.route.hold or (backend := self._choose(passage)) is None:
            self._wait(passage, now)
        else:
            self._serve(backend, passage, now)

    def assign_again(self, passage: Passage, now: float) -> None:
        """As `assign`, for one that has failed: not with the same backend, if there is another."""
        others = [each for each in self.backends if each not in passage.refused_by]
        backend = self._of(others, passage.sticky_key)
        if backend is not None:
            self._serve(backend, passage, now)
        else:
            self.assign(passage, now)

    def done(self, backend: Backend, upstream: Upstream | None, now: float) -> None:
        """A request is no longer with `backend`; `upstream` may be used again, if there is one."""
        backend.outstanding -= 1
        if upstream is not None:
            if backend.usable:
                upstream.carried = upstream.idle
                upstream.deadline = now + self.backend_idle_s
                backend.idle.append(upstream)
            else:
                backend.drop(upstream)
        if backend.gone and not backend.in_hand and backend.when_idle is not None:
            backend.when_idle()
        if self.queued:
            self.wake(now)

    def rest(self, backend: Backend, passage: Passage, now: float) -> None:
        """The client of `passage` is behind: meanwhile another may have its place with `backend`.

        There are as many such places more as there are places; beyond that the one goes that is behind
        for the longest time.
        """
        backend.outstanding -= 1
        backend.resting[passage] = None
        if len(backend.resting) > backend.limit:
            longest = next(iter(backend.resting))
            try:
                longest.give_up(now)
            except Exception:
                log.exception(FAILED)
                longest.close_after_bug(now)
        if self.queued:
            self.wake(now)

    def resume(self, backend: Backend, passage: Passage) -> None:
        """It isn't behind any more."""
        del backend.resting[passage]
        backend.outstanding += 1

    def abandon(self, passage: Passage) -> None:
        """A waiting one waits no more."""
        passage.waiting = False
        self.queued -= 1
        if len(self.waiting) > 2 * self.queued + SPARE:
            waiting = [each for each in self.waiting if each.waiting]
            self.waiting.clear()
            self.waiting.extend(waiting)

    def wake(self, now: float) -> None:
        """Something changed: those who wait go on, in their order, as far as there is room."""
        waiting = self.waiting
        while waiting:
            passage = waiting[0]
            if not passage.waiting:
                waiting.popleft()
                continue
            backend = self._choose(passage)
            if backend is None:
                return
            waiting.popleft()
            self.queued -= 1
            passage.waiting = False
            try:
                self._serve(backend, passage, now)
            except Exception:
                log.exception(FAILED)
                passage.close_after_bug(now)

    def dissolve(self, now: float) -> None:
        """The route is no more, or another: those who wait are sent on their way anew."""
        self._dissolved = True
        waiting, self.waiting, self.queued = self.waiting, deque(), 0
        for passage in waiting:
            if passage.waiting:
                passage.waiting = False
                try:
                    passage.begin_anew(now)
                except Exception:
                    log.exception(FAILED)
                    passage.close_after_bug(now)

    def retry_s(self) -> float:
        """When another try makes sense to whoever wasn't served."""
        if self.pause_ends is None:
            return RETRY_S
        return min(max(self.pause_ends - self._world.wall(), 1.0), PAUSE_RETRY_S)

    @property
    def alive(self) -> bool:
        """Whether any backend may be sent requests."""
        return any(backend.usable for backend in self.backends)

    # --- its own ----------------------------------------------------------------------------

    def _of(self, backends: Sequence[Backend], key: bytes | None) -> Backend | None:
        return choose(backends, self._draw) if key is None else choose_sticky(backends, key)

    def _choose(self, passage: Passage) -> Backend | None:
        chosen = self._of(self.backends, passage.sticky_key)
        if chosen is None and not self.route.hold and not self.alive:
            # Nobody will wait: better one more try than a refusal without any.
            untried = [
                each for each in self.backends if each not in passage.refused_by and each.outstanding < each.limit
            ]
            return untried[int(self._draw() * len(untried))] if untried else None
        return chosen

    def _serve(self, backend: Backend, passage: Passage, now: float) -> None:
        backend.outstanding += 1
        stats = backend.stats
        stats.sessions_total += 1
        if backend.outstanding > stats.sessions_max:  # noqa: PLR1730 - once a request: a third of what max takes
            stats.sessions_max = backend.outstanding
        if backend.idle:
            stats.reuses += 1
            passage.begin(backend, backend.idle.pop(), now)
            return
        upstream = Upstream()
        try:
            self._world.open(upstream, backend)
        except OSError as error:
            backend.outstanding -= 1
            passage.refuse(503, "no descriptor", f"no connection can be opened: {error.strerror}", now)
            return
        backend.adopt(upstream)
        stats.connects += 1
        passage.connect(backend, upstream, now)

    def _wait(self, passage: Passage, now: float) -> None:
        if self._dissolved:  # it was under way when the route went, and its backend failed
            passage.begin_anew(now)
            return
        route = self.route
        alive = self.alive
        if alive:
            most, wait_s, lack = route.queue, route.queue_s, "all backends are busy"
        else:
            is_held = not route.service and not route.backends  # a route that only holds, or is paused so
            lack = "the route holds its requests" if is_held else "no backend is alive"
            if self.pause_ends is not None:
                lack = "the route is paused"
            most, wait_s = route.hold, route.hold_s
        if passage.refused_by and not most:
            passage.refuse(502, "can't connect", passage.last_error, now, passage.last_detail)
        elif self.queued >= most:
            full = f", and {self.queued} requests wait already" if most else ""
            passage.refuse(
                503, "full" if most else "no backend", lack + full, now, f"{self.name}: {lack}{full}",
                retry_s=self.retry_s(),
            )  # fmt: skip
        else:
            stats = self.stats
            if alive:
                stats.queue = self.queued
                stats.queued()
            else:
                stats.held = self.queued
                stats.hold()
            self.queued += 1
            self.waiting.append(passage)
            passage.waiting = True
            waited = f"; waited for {wait_s:g} s" if self.pause_ends is not None else f" for {wait_s:g} s"
            passage.wait(wait_s, lack + waited)
