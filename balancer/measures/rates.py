"""Rates and averages out of counters that only grow. Pure.

Both are told sums since the start, once a second or so, and work out what came in between: the
hot path pays for no window.
"""

from __future__ import annotations

from typing import Final

SAMPLES: Final = 1024  # requests in an average, as HAProxy documents its qtime, ctime, rtime and ttime
SAMPLE_S: Final = 0.5  # of time that a rate needs: over less, one request would look like thousands


class Rate:
    """How many a second: over the last second, and the most that was."""

    __slots__ = ("_at", "_total", "current", "max")

    def __init__(self, now: float, total: int = 0) -> None:
        self._at = now
        self._total = total
        self.current = 0.0
        self.max = 0.0

    def sample(self, total: int, now: float) -> None:
        """Take the rate since the last sample; `total` is what has been counted by now."""
        elapsed = now - self._at
        if elapsed >= SAMPLE_S:
            self.current = (total - self._total) / elapsed
            self.max = max(self.max, self.current)
            self._at, self._total = now, total


class Average:
    """The mean over the last SAMPLES requests, near enough: those before the last sample weigh as their mean."""

    __slots__ = ("_count", "_sum", "mean")

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self.mean = 0.0

    def sample(self, count: int, total: float) -> None:
        """Take in what came since the last sample; both arguments are sums since the start."""
        fresh = count - self._count
        if fresh > 0:
            kept = max(0, min(self._count, SAMPLES - fresh))
            self.mean = (self.mean * kept + total - self._sum) / (kept + fresh)
            self._count, self._sum = count, total
