"""How much a client's connection may hold, and for how long: as configured now. Pure.

They are the balancer's limits: what it lets in, and adds to it, is taken here, too.
"""

from __future__ import annotations

from typing import Final

from hitmesh.config.balancer import BalancerLimits
from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS, HeadLimits

LOOKS: Final = 4  # in `write_s`, at what a client has taken: nobody is told of each byte


class Bounds:
    """One object for all connections, so that a change holds for those that are open. `head` is replaced then."""

    __slots__ = ("body_s", "head", "head_s", "least_rate", "write_s")

    def __init__(self, limits: BalancerLimits) -> None:
        self.head = HeadLimits()
        self.follow(limits)

    def follow(self, limits: BalancerLimits) -> None:
        """Put these limits in force."""
        head = HeadLimits(
            line_bytes=limits.line_bytes,
            headers=limits.headers + ADDED_FIELDS,
            header_bytes=limits.header_bytes,
            head_bytes=limits.head_bytes + ADDED_BYTES,
        )
        if head != self.head:
            self.head = head
        self.head_s, self.body_s, self.write_s = limits.head_s, limits.body_s, limits.write_s
        self.least_rate = limits.least_rate

    def paced(self, deadline: float, size_bytes: int, now: float, patience_s: float) -> float:
        """When patience ends, after so many bytes more. A least rate of 0: any byte will do."""
        if not self.least_rate:
            return now + patience_s if size_bytes else deadline
        return min(deadline + size_bytes / self.least_rate, now + patience_s)


class Taking:
    """The patience with a client that takes an answer slowly, by what it hasn't taken each time that it is looked at."""

    __slots__ = ("_due", "_untaken")

    def __init__(self) -> None:
        self._due = 0.0  # when it ends; at once for what was never begun
        self._untaken = 0  # bytes, at the last look

    def begin(self, untaken_bytes: int, now: float, bounds: Bounds) -> float:
        """It has `write_s`; when there is to be a look."""
        self._untaken = untaken_bytes
        self._due = now + bounds.write_s
        return now + bounds.write_s / LOOKS

    def look(self, untaken_bytes: int, now: float, bounds: Bounds) -> float | None:
        """When there is to be the next look, as it takes enough; None when patience has ended."""
        taken = max(0, self._untaken - untaken_bytes)
        self._untaken = untaken_bytes
        self._due = bounds.paced(self._due, taken, now, bounds.write_s)
        return min(self._due, now + bounds.write_s / LOOKS) if self._due > now else None
