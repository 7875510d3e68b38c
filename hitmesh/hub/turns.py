"""Turns: what many clients ask for is done one after the other, with time for others between.

So many clients at once take no more of the hub's time than one, and all of them not more than a fraction of it.
"""

from __future__ import annotations

import time

import gevent
from gevent.lock import BoundedSemaphore


class Turns:
    """The turns of one listener."""

    def __init__(self) -> None:
        self._turn = BoundedSemaphore(1)  # one after the other; who is killed while it waits takes no turn
        self._next_at = 0.0  # monotonic: when the next step may be done

    def wait(self, then_s: float) -> None:
        """Return when a step may be done; `then_s` later it is the next one's turn."""
        with self._turn:
            left_s = self._next_at - time.monotonic()
            if left_s > 0:
                gevent.sleep(left_s)
            self._next_at = time.monotonic() + then_s
