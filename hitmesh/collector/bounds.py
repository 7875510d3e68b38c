"""How much a client's connection may hold, and for how long: as configured now. Pure.

They are the balancer's limits: what it lets in, and adds to it, is taken here, too.
"""

from __future__ import annotations

from hitmesh.config.balancer import BalancerLimits
from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS, HeadLimits


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
