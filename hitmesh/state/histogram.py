"""How long things took, in a form that costs next to nothing to keep. Pure.

A fixed few counters: where many things happen, one is a search among fourteen bounds and two additions. What Prometheus
makes of it is `hitmesh.metrics.families`'.
"""

from __future__ import annotations

from typing import Final

# Seconds: from a hit on an idle machine to what nobody waits for any more. All histograms have the same, so that they
# can be added up and compared.
BOUNDS_S: Final[tuple[float, ...]] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
LABELS: Final = (*map(str, BOUNDS_S), "+Inf")
"""What a bucket is called: its upper bound, which belongs to it."""


class Histogram:
    """Times of one kind, in seconds."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * len(LABELS)
        self._sum_s = 0.0

    def observe(self, took_s: float) -> None:
        """One more has taken so long."""
        bucket = 0
        for bound_s in BOUNDS_S:  # most take little: compiled, that is faster than a bisection
            if took_s <= bound_s:
                break
            bucket += 1
        self._counts[bucket] += 1
        self._sum_s += took_s

    def counts(self) -> tuple[int, ...]:
        """How many are in each bucket, and in no smaller one, in the order of LABELS."""
        return tuple(self._counts)

    def snapshot(self) -> dict[str, float]:
        """How many are in each bucket, and in no smaller one, by its label; and under "sum" the sum of all, in seconds."""
        return {**dict(zip(LABELS, self._counts, strict=True)), "sum": round(self._sum_s, 6)}
