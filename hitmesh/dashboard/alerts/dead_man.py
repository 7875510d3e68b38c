"""The dead man's URL: it is asked for while all is well, so that somebody else misses it when nothing is sent any more.

Each dashboard asks by itself: one call too many tells nobody anything, one too few wakes somebody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import gevent

from hitmesh.dashboard.alerts import http
from hitmesh.dashboard.alerts.outbox import attempt
from hitmesh.dashboard.status import WayStatus
from hitmesh.mesh.duty import spawn

NAME: Final = "dead man"
STEP_S: Final = 0.5  # between two looks at whether all is well, when it wasn't

log = logging.getLogger(__name__)


class DeadMan:
    """Asks for `url` each `every_s` while `is_well`."""

    def __init__(self, url: str, every_s: float, is_well: Callable[[], bool]) -> None:
        self._url, self._every_s, self._is_well = url, every_s, is_well
        self._stopped = False
        self._sent = self._failed = 0
        self._why = ""

    def start(self) -> None:
        """Begin; returns at once."""
        spawn("the dead man's URL", self._run)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True

    def shown(self) -> WayStatus:
        """How it goes."""
        return WayStatus(key=NAME, sent=self._sent, failed=self._failed, why=self._why)

    def _run(self) -> None:
        while not self._stopped:
            if not self._is_well():
                gevent.sleep(STEP_S)
                continue
            why = attempt(partial(http.ask, "GET", self._url))
            if why and why != self._why:
                log.warning("the dead man's URL at %s can't be called: %s", http.place_of(self._url), why)
            self._why = why
            self._sent, self._failed = self._sent + (not why), self._failed + bool(why)
            gevent.sleep(self._every_s)
