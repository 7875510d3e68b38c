"""How long things took lately, of a histogram that counts since the start. Pure: `now` comes in."""

from __future__ import annotations

from collections import deque
from typing import Final

from hitmesh.state.histogram import BOUNDS_S, Histogram

SPAN_S: Final = 5.0  # looked back: a heartbeat tells of some more than itself, and a peak is gone soon
GAP_S: Final = 0.5  # between two counts that are kept: ten of them
ENOUGH: Final = 50  # of fewer the slowest one would stand for all


class Recent:
    """The last SPAN_S of a `histogram`, as far as it was asked at least that often."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._counts: deque[tuple[float, tuple[int, ...]]] = deque()

    def p99_s(self, now: float) -> float | None:
        """Within which 99 of 100 took: a bucket's bound, or between two; None: there were too few to say."""
        counts = self._histogram.counts()
        while self._counts and now - self._counts[0][0] > SPAN_S:
            self._counts.popleft()
        before = self._counts[0][1] if self._counts else counts
        if not self._counts or now - self._counts[-1][0] >= GAP_S:
            self._counts.append((now, counts))
        lately = [after - earlier for after, earlier in zip(counts, before, strict=True)]
        return percentile(lately, 0.99)


def percentile(counts: list[int], share: float) -> float | None:
    """Within which that share of these took, evenly between a bucket's bounds; None: there are too few."""
    total = sum(counts)
    if total < ENOUGH:
        return None
    below, wanted = 0, share * total
    for index, count in enumerate(counts[:-1]):
        if below + count >= wanted:
            lowest = BOUNDS_S[index - 1] if index else 0.0
            return lowest + (BOUNDS_S[index] - lowest) * (wanted - below) / count
        below += count
    return BOUNDS_S[-1]
