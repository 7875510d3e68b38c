"""The clock of deadlines: looks at all connections now and then, and tells those whose time is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from gevent.hub import get_hub

from balancer.middle.backend import Backend
from balancer.middle.client_end import ClientEnd
from balancer.middle.traffic import Traffic
from balancer.middle.upstream import Upstream

SWEEP_S: Final = 0.25  # how closely deadlines are kept

log = logging.getLogger(__name__)
_monotonic = time.monotonic


class Sweeper:
    """Keeps the deadlines of `traffic`'s clients and of the connections to those that `backends` gives."""

    def __init__(self, traffic: Traffic, backends: Callable[[], Iterable[Backend]]) -> None:
        self._traffic = traffic
        self._backends = backends
        loop: Any = get_hub().loop
        self._timer = loop.timer(SWEEP_S, SWEEP_S)
        self._late: list[ClientEnd | Upstream] = []
        # A turn of the hub later, and after all that came with it: what is here already is not late.
        self._judge = loop.timer(0.0, priority=loop.MINPRI)

    def start(self) -> None:
        """Begin to keep deadlines."""
        self._timer.start(self._sweep)

    def stop(self) -> None:
        """Keep none any more."""
        for timer in (self._timer, self._judge):
            timer.stop()
            timer.close()

    def _sweep(self) -> None:
        now = _monotonic()
        late: list[ClientEnd | Upstream] = [each for each in self._traffic.clients if each.deadline < now]
        for backend in self._backends():
            late += [each for each in backend.open if each.deadline < now]
        if late:
            self._late = late
            self._judge.start(self._expire)

    def _expire(self) -> None:
        now = _monotonic()
        late, self._late = self._late, []
        for end in late:
            if end.wire.closed or end.deadline >= now:
                continue
            try:
                end.expire(now)
            except Exception:
                log.exception("a connection's handler failed")
                end.close_after_bug(now)
