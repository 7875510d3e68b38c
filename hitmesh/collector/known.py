"""The totals that a worker can answer with: what it was told, plus its own hits not in there yet. Pure.

A page's total is the sum of the datacenters' committed counts as of some commit, plus this
worker's hits whose parts that commit didn't cover. So an answer includes its own hit at once,
and counts none of them twice when the ack comes.

Invariants:
- `pending` of a page is the sum of its counts over this worker's parts that are not settled.
- The answered total of a page never goes down.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from msgspec import Struct

from hitmesh.protocol.messages import Applied, Part


@dataclass(slots=True)
class _Page:
    """What is known of one page."""

    counts: dict[str, int] = field(default_factory=dict)  # datacenter -> committed count
    as_of: tuple[int, int] = (-1, -1)  # epoch and commit of `counts`; (-1, -1): never read
    settled: tuple[int, int] = (-1, -1)  # as of which own hits are settled: older counts may lack them
    told_s: float = 0.0  # when that was told
    is_stale: bool = True  # it must be read again before it counts as fresh
    pending: int = 0
    floor: int = 0  # the largest total answered


class Total(Struct):
    """An answer. `total` is None when the page's count was never known; that isn't 0."""

    total: int | None
    counts: dict[str, int]
    age_s: float


class Known:
    """The totals known to one worker, least recently used pages forgotten first."""

    def __init__(self, *, dc: str, fresh_s: float, max_pages: int) -> None:
        self._dc = dc
        self._fresh_s = fresh_s
        self._max_pages = max_pages
        self._pages: OrderedDict[str, _Page] = OrderedDict()

    def _entry(self, page: str) -> _Page:
        entry = self._pages.get(page)
        if entry is None:
            entry = self._pages[page] = _Page()
            self._forget_oldest()
        else:
            self._pages.move_to_end(page)
        return entry

    def _forget_oldest(self) -> None:
        # A page with pending hits moves to the young end: its answer must go on to include them.
        for _ in range(len(self._pages) - self._max_pages):
            page, entry = self._pages.popitem(last=False)
            if entry.pending:
                self._pages[page] = entry

    def is_fresh(self, page: str, now_s: float) -> bool:
        """Whether the page's total can be answered without reading the store."""
        entry = self._pages.get(page)
        return entry is not None and not entry.is_stale and now_s - entry.told_s <= self._fresh_s

    def added(self, part: Part) -> None:
        """Hits that were just accepted and aren't committed yet."""
        for page, count in part.counts.items():
            self._entry(page).pending += count

    def settled(self, part: Part, applied: Applied) -> None:
        """A part that `applied` covers; of its pages that have no totals there the count is moved over."""
        for page, count in part.counts.items():
            entry = self._pages.get(page)
            if entry is None:
                continue
            entry.pending -= count
            entry.settled = max(entry.settled, (applied.epoch, applied.commit))
            if page not in applied.totals and entry.as_of != (-1, -1):
                entry.counts = {**entry.counts, self._dc: entry.counts.get(self._dc, 0) + count}
                entry.is_stale = True

    def told(self, applied: Applied, now_s: float) -> None:
        """Committed counts, from an ack of this worker's lane or from the store.

        The parts of this worker that they cover must be settled first.
        """
        as_of = (applied.epoch, applied.commit)
        for page, counts in applied.totals.items():
            entry = self._entry(page)
            if as_of >= max(entry.as_of, entry.settled):
                entry.counts, entry.as_of, entry.told_s, entry.is_stale = counts, as_of, now_s, False

    def answer(self, page: str, now_s: float) -> Total:
        """The page's total, by what is known now."""
        entry = self._pages.get(page)
        if entry is None or entry.as_of == (-1, -1):
            return Total(None, {}, 0.0)
        counts = entry.counts
        total = sum(counts.values()) + entry.pending
        if entry.pending:
            counts = {**counts, self._dc: counts.get(self._dc, 0) + entry.pending}
        entry.floor = total = max(total, entry.floor)
        return Total(total, counts, max(0.0, now_s - entry.told_s))
