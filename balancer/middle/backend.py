"""One backend: its connections, and how many requests are with it. Decides nothing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mypy_extensions import mypyc_attr

from balancer.measures.stats import BackendStats
from balancer.middle.choice import Candidate, weight_of
from balancer.middle.upstream import Carried, Upstream


@mypyc_attr(allow_interpreted_subclasses=True)
class Suspicion:
    """Who hears what requests see of a backend; this one makes nothing of it."""

    __slots__ = ()

    def unreachable(self, reason: str) -> None:
        """No connection: a request found out before a check did."""

    def suspect(self, reason: str) -> None:
        """No answer, or no good one."""


NO_SUSPICION: Final = Suspicion()


class Backend(Candidate):
    """A server that requests may go to."""

    __slots__ = (
        "address", "family", "gone", "id", "idle", "open", "resting", "share", "since", "stats", "suspicion", "when_idle",
    )  # fmt: skip

    def __init__(
        self, *, name: str, id: str, family: int, address: Any, limit: int, stats: BackendStats, since: float
    ) -> None:
        super().__init__(name, limit)
        self.share = 1.0  # times its own weight, by an operator's word
        self.id = id
        self.family = family
        self.address = address
        self.stats = stats
        self.since = since  # from when on its slow start counts, monotonic
        self.suspicion = NO_SUSPICION
        self.gone = False  # for good: no connection is kept
        self.when_idle: Callable[[], None] | None = None  # called once, when it is gone and the last request is done
        self.idle: list[Upstream] = []  # connections without a request; the one used last is at the end
        self.open: set[Upstream] = set()  # all of them
        self.resting: dict[Carried, None] = {}  # the one whose client is behind for the longest time first

    @property
    def in_hand(self) -> int:
        """All requests that are with it."""
        return self.outstanding + len(self.resting)

    def weigh(self, load: Mapping[str, float], now: float, slow_start_s: float) -> None:
        """Take over what its heartbeats say of load."""
        self.weight = weight_of(load, now - self.since, slow_start_s) * self.share

    def adopt(self, upstream: Upstream) -> None:
        """A connection to it begins to be made."""
        upstream.idle = Idle(self, upstream)
        self.open.add(upstream)

    def drop(self, upstream: Upstream) -> None:
        """Close a connection; nobody is told."""
        self.open.discard(upstream)
        upstream.close()

    def forget(self) -> None:
        """No idle connection to it is used again."""
        idle, self.idle = self.idle, []
        for upstream in idle:
            self.drop(upstream)


class Idle(Carried):
    """No request: whatever comes, or nothing for too long, is the connection's end, and no failure."""

    __slots__ = ("_backend", "_upstream")

    def __init__(self, backend: Backend, upstream: Upstream) -> None:
        self._backend = backend
        self._upstream = upstream

    def answered(self, data: bytes, now: float) -> None:
        """Something that nobody asked for."""
        self._end()

    def backend_ended(self, now: float) -> None:
        """It has been kept for long enough, there."""
        self._end()

    def backend_lost(self, error: OSError, now: float) -> None:
        """It broke."""
        self._end()

    def backend_timed_out(self, now: float) -> None:
        """It has been kept for long enough, here."""
        self._end()

    def _end(self) -> None:
        if self._upstream in self._backend.idle:
            self._backend.idle.remove(self._upstream)
        self._backend.drop(self._upstream)
