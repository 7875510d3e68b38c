"""Rates from counters that come with heartbeats. Pure: every moment comes in, by one clock.

Invariants:
- A process that begins anew counts from 0 under another id: nothing negative, nothing huge.
- Whoever isn't heard any more has a rate of 0 after WINDOW_S.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

WINDOW_S: Final = 5.0  # over which a rate is taken: some heartbeats, so that it neither jumps nor lags
SAMPLES: Final = 64  # of one counter: announcements come between heartbeats
LEAST_S: Final = 0.2  # two samples closer than this say nothing: a few hits would be thousands a second


class Rates:
    """The rates of many counters, by the id of the process that counts."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, float]]] = {}

    def tell(self, id: str, count: float, heard: float) -> None:
        """A counter's value, as of a heartbeat that was heard at that moment."""
        samples = self._samples.setdefault(id, deque(maxlen=SAMPLES))
        if samples and count < samples[-1][1]:
            samples.clear()  # no counter goes back: it is another one
        if samples and heard <= samples[-1][0]:
            return
        samples.append((heard, count))

    def keep(self, ids: Collection[str]) -> None:
        """Forget all others."""
        self._samples = {id: samples for id, samples in self._samples.items() if id in ids}

    def of(self, id: str, now: float) -> float:
        """One counter's rate in the last seconds."""
        samples = self._samples.get(id)
        if not samples or now - samples[-1][0] > WINDOW_S:
            return 0.0
        recent = [each for each in samples if now - each[0] <= WINDOW_S + LEAST_S]
        (first_at, first), (last_at, last) = recent[0], recent[-1]
        return (last - first) / (last_at - first_at) if last_at - first_at >= LEAST_S else 0.0

    def total(self, now: float) -> float:
        """Of all together."""
        return sum(self.of(id, now) for id in self._samples)
