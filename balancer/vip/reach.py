"""Whether a worker reaches a collector: by the answers that it gets anyway, and when there are none, by asking.

Owns `reached_at`, when one last answered. A collector that has been asked and hasn't answered yet keeps nobody from
asking the next one; whoever answered last is asked first, so that one dead collector of two is nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

import gevent

from balancer.members.checks import probe
from balancer.middle.backend import Backend
from balancer.middle.service import Service
from balancer.vip.word import TICK_S

QUIET_S: Final = 0.09  # without an answer, until one is asked for
ASK_S: Final = 0.4  # for an answer: not as long as what makes the address move
MAX_ASKED: Final = 4  # at a time
LATE_S: Final = 0.1  # of the hub, with the next look


class Reach:
    """Of one worker."""

    def __init__(self, services: Iterable[Service], *, now: float) -> None:
        self.reached_at = now
        self._looked_at = now
        self.is_cut_off = False  # no other host is heard of: what answers then is on this one alone
        self._services = services
        self._answers = 0
        self._asked = 0  # under way
        self._last: Backend | None = None  # that answered when asked, until it doesn't

    def look(self, now: float, *, may_ask: bool) -> None:
        """Take note of what has been answered; from the hub, each TICK_S. Never waits."""
        late_s, self._looked_at = now - self._looked_at - TICK_S, now
        if late_s > LATE_S:
            self.reached_at += late_s  # answers may be there that the hub had no time for
        services = [service for service in self._services if service.route.service]
        answers = sum(sum(backend.stats.classes[1:5]) for service in services for backend in service.backends)
        is_news, self._answers = answers > self._answers, answers
        if self.is_cut_off:
            return
        if is_news or not services:  # without a service there is nobody to reach
            self.reached_at = now
        elif may_ask and now - self.reached_at >= QUIET_S and self._asked < MAX_ASKED:
            known = [(service, backend) for service in services for backend in service.backends]
            if known:
                self._asked += 1
                gevent.spawn(self._ask, *self._next(known), now)

    def _next(self, known: list[tuple[Service, Backend]]) -> tuple[Service, Backend]:
        last, self._last = self._last, None
        for each in known:
            if each[1] is last:
                return each
        usable = [each for each in known if each[1].usable and each[1] is not last]
        return random.choice(usable or known)

    def _ask(self, service: Service, backend: Backend, now: float) -> None:
        try:
            outcome = probe(backend, service.route.check_path, backend.stats.address, ASK_S)
        finally:
            self._asked -= 1
        if outcome is not None and outcome.ok and not self.is_cut_off:
            self.reached_at = max(self.reached_at, now + outcome.duration_s)
            self._last = backend
