"""One backend: its connections, and how many requests are with it. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from balancer.choice import weight_of
from balancer.stats import BackendStats

if TYPE_CHECKING:
    from balancer.exchange import Exchange
    from balancer.upstream import Upstream


class Backend:
    """A server that requests may go to. What `balancer.choice` looks at comes first."""

    __slots__ = (
        "address", "family", "gone", "id", "idle", "limit", "name", "open", "outstanding", "resting", "share",
        "since", "stats", "usable", "weight", "when_idle",
    )  # fmt: skip

    def __init__(
        self, *, name: str, id: str, family: int, address: Any, limit: int, stats: BackendStats, since: float
    ) -> None:
        self.outstanding = 0  # requests that are with it, or on their way, but for those that rest
        self.weight = 1.0
        self.share = 1.0  # times its own weight, by an operator's word
        self.limit = limit
        self.usable = True  # requests may be sent to it
        self.name = name
        self.id = id
        self.family = family
        self.address = address
        self.stats = stats
        self.since = since  # from when on its slow start counts, monotonic
        self.gone = False  # for good: no connection is kept
        self.when_idle: Callable[[], None] | None = None  # called once, when it is gone and the last request is done
        self.idle: list[Upstream] = []  # connections without a request; the one used last is at the end
        self.open: set[Upstream] = set()  # all of them
        self.resting: dict[Exchange, None] = {}  # the one whose client is behind for the longest time first

    @property
    def in_hand(self) -> int:
        """All requests that are with it."""
        return self.outstanding + len(self.resting)

    def weigh(self, load: Mapping[str, float], now: float, slow_start_s: float) -> None:
        """Take over what its heartbeats say of load."""
        self.weight = weight_of(load, now - self.since, slow_start_s) * self.share

    def forget(self) -> None:
        """No idle connection to it is used again."""
        idle, self.idle = self.idle, []
        for upstream in idle:
            upstream.drop()
