"""The processes that were told to end, until they are reaped; one that takes too long is killed.

Knows nothing of what they did. They are children that nobody else reaps, so that no pid here can
have become another process's.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Iterable

from balancer.process.handover import Leaver
from balancer.process.processes import ending

log = logging.getLogger(__name__)


class Leaving:
    """Those processes, by pid."""

    def __init__(self, handed: Iterable[Leaver] = ()) -> None:
        self._kill_at = {each.pid: each.kill_at for each in handed}

    def __bool__(self) -> bool:
        return bool(self._kill_at)

    def add(self, pids: Iterable[int], *, kill_at: float) -> None:
        """They were told to end."""
        self._kill_at.update(dict.fromkeys(pids, kill_at))

    def ended(self, pid: int, status: int) -> bool:
        """Whether the process, which has been reaped, was one of them."""
        if self._kill_at.pop(pid, None) is None:
            return False
        log.info("pid %s, which was to end, %s", pid, ending(status))
        return True

    def kill_overdue(self, now: float) -> None:
        """Kill those whose time is over."""
        for pid, kill_at in self._kill_at.items():
            if kill_at <= now:
                log.warning("pid %s has not ended in time, and is killed", pid)
                os.kill(pid, signal.SIGKILL)
                self._kill_at[pid] = math.inf  # once

    def kill_all(self) -> None:
        """Kill them now."""
        for pid in self._kill_at:
            os.kill(pid, signal.SIGKILL)

    def next_at(self) -> float:
        """When the next one is to be killed."""
        return min(self._kill_at.values(), default=math.inf)

    def hand_over(self) -> tuple[Leaver, ...]:
        """What their next parent must know; one that was killed is killed once more."""
        return tuple(Leaver(pid, at if math.isfinite(at) else 0.0) for pid, at in self._kill_at.items())
