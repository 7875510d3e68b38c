"""Sends what is owed to one way, again and again until it is taken or GIVE_UP_S is over, in a greenlet of its own: a
server that is slow or dead holds up nobody but its own notices.

What is owed comes from the shared memory, and is bounded there. What was sent is told by `done`, until it is owed no more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import gevent
from gevent.event import Event

from hitmesh.dashboard.alerts.memory import Notice
from hitmesh.dashboard.alerts.sending import Way
from hitmesh.dashboard.status import WayStatus
from hitmesh.errors import AlertError
from hitmesh.mesh.duty import spawn

TRY_S: Final = 20.0  # that one try may take, whatever the server does; less than a claim lasts without a beat
FIRST_PAUSE_S: Final = 2.0  # after a try that failed, and twice as long after each further one
LONGEST_PAUSE_S: Final = 60.0
GIVE_UP_S: Final = 900.0  # a server that is away for longer isn't told late; what still fires is told again anyway
MAX_WHY_CHARS: Final = 200

log = logging.getLogger(__name__)


class Outbox:
    """What is owed to `way` in datacenter `dc`. `may_send` says whether that is ours to send now;
    `finished` is called when something is owed no more.
    """

    def __init__(
        self,
        dc: str,
        way: Way,
        may_send: Callable[[], bool],
        finished: Callable[[], None],
        *,
        pause_s: float = FIRST_PAUSE_S,
        try_s: float = TRY_S,
    ) -> None:
        self.name = way.name
        self._finished = finished
        self.done: frozenset[tuple[str, int, str]] = frozenset()
        """The notices, by their keys and this way's name, that needn't be sent any more."""
        self.failing_since: float | None = None
        """Since when every try has failed; monotonic."""
        self._dc, self._way, self._may_send = dc, way, may_send
        self._first_pause_s, self._try_s = pause_s, try_s
        self._owed: Sequence[Notice] = ()
        self._since: dict[tuple[str, int], float] = {}  # when we began to try
        self._wanted = Event()
        self._stopped = False
        self._sent = self._failed = self._lost = 0
        self._why = ""

    def start(self) -> None:
        """Begin to send; returns at once."""
        spawn(f"alerts to {self.name}", self._run)

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopped = True
        self._wanted.set()

    def offer(self, notices: Sequence[Notice], now: float) -> None:
        """All that is owed in the memory now."""
        mine = [each for each in notices if self.name in each.owed]
        owed = {each.key for each in mine}
        self.done = frozenset(each for each in self.done if each[:2] in owed)
        self._since = {key: self._since.get(key, now) for key in owed}
        self._owed = [each for each in mine if (*each.key, self.name) not in self.done]
        if self._owed:
            self._wanted.set()

    def shown(self) -> WayStatus:
        """How it goes."""
        return WayStatus(key=self.name, sent=self._sent, failed=self._failed, lost=self._lost, why=self._why)

    def _run(self) -> None:
        pause_s = self._first_pause_s
        while not self._stopped:
            self._wanted.wait()
            self._wanted.clear()
            owed = [each for each in self._owed if (*each.key, self.name) not in self.done]
            if not owed or not self._may_send():
                continue
            if self._try(owed):
                pause_s = self._first_pause_s
                continue
            self._give_up(owed)
            gevent.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._wanted.set()

    def _try(self, owed: Sequence[Notice]) -> bool:
        for batch in [owed] if self._way.together else [[each] for each in owed]:
            if not self._may_send():
                return True
            why = attempt(partial(self._way.send, self._dc, batch), self._try_s)
            if why:
                self._failed += 1
                if why != self._why:
                    log.warning("%s of %s doesn't take alerts: %s", self.name, self._dc, why)
                self._why = why
                if self.failing_since is None:
                    self.failing_since = time.monotonic()
                return False
            self._sent += len(batch)
            self._why, self.failing_since = "", None
            self._finish(batch)
        return True

    def _give_up(self, owed: Sequence[Notice]) -> None:
        now = time.monotonic()
        lost = [each for each in owed if now - self._since.get(each.key, now) >= GIVE_UP_S]
        if lost:
            self._lost += len(lost)
            log.error("%s of %s: %d alerts are given up: %s", self.name, self._dc, len(lost), self._why)
            self._finish(lost)

    def _finish(self, notices: Sequence[Notice]) -> None:
        self.done |= {(*each.key, self.name) for each in notices}
        self._finished()


def attempt(work: Callable[[], object], try_s: float = TRY_S) -> str:
    """Why this couldn't be done within that time; empty when it was done."""
    try:
        with gevent.Timeout(try_s):
            work()
    except gevent.Timeout:
        return f"it takes more than {try_s:g} s"
    except AlertError as error:
        return error.message[:MAX_WHY_CHARS]
    except Exception as error:
        # What a stranger's server makes a library raise is no reason to end the dashboard.
        log.exception("an alert couldn't be sent")
        return type(error).__name__
    return ""
