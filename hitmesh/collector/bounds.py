"""How much a client's connection may hold, and for how long: as configured now. Pure.

They are the balancer's limits: what it lets in, and adds to it, is taken here, too.
"""

from __future__ import annotations

from typing import Final

from hitmesh.config import Config
from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS, HeadLimits

LEAST_RATE: Final = 500  # bytes a second: less of a body, or an answer, is too little


class Bounds:
    """One object for all connections, so that a change holds for those that are open. `head` is replaced then."""

    __slots__ = ("body_s", "head", "head_s", "write_s")

    def __init__(self, config: Config) -> None:
        self.head = HeadLimits()
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Put this configuration in force."""
        limits = config.balancer.limits
        head = HeadLimits(
            line_bytes=limits.line_bytes,
            headers=limits.headers + ADDED_FIELDS,
            header_bytes=limits.header_bytes,
            head_bytes=limits.head_bytes + ADDED_BYTES,
        )
        if head != self.head:
            self.head = head
        self.head_s, self.body_s, self.write_s = limits.head_s, limits.body_s, limits.write_s

    def paced(self, deadline: float, size_bytes: int, now: float, patience_s: float) -> float:
        """When patience ends, after so many bytes more."""
        return min(deadline + size_bytes / LEAST_RATE, now + patience_s)
