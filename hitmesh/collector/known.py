"""The totals that a worker can answer with: what it was told, plus its own hits not in there yet. Pure.

A page's total is the sum of the datacenters' committed counts as of some commit, plus this
worker's hits whose parts that commit didn't cover. So an answer includes its own hit at once,
and counts none of them twice when the ack comes.

Each datacenter's count has an age of its own. Our own counts are as old as the telling of them; of
another datacenter they are as old as the copy in our store was at that time (`as_of`), and grow older
from there, whatever is heard of newer copies since.

Invariants:
- `pending` of a page is the sum of its counts over this worker's parts that are not settled.
- The answered total of a page never goes down. It may become unknown: while the rows of its partition
  are being brought back from other datacenters, nobody knows it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from hitmesh.protocol.messages import Applied, Part
from hitmesh.state.ages import NOTHING, AsOf

LOOKS: Final = 16  # at pages that might be forgotten, with each new one


@dataclass(slots=True)
class _Page:
    """What is known of one page."""

    counts: dict[str, int] = field(default_factory=dict)  # datacenter -> committed count
    others: AsOf = field(
        default_factory=lambda: NOTHING
    )  # other datacenter -> the moment at which its count was current
    ledger: str = ""  # the history of the partition that `counts` are from
    as_of: tuple[int, int] = (-1, -1)  # epoch and commit of `counts`; (-1, -1): never read
    settled: tuple[int, int] = (-1, -1)  # as of which own hits are settled: older counts may lack them
    told_s: float = 0.0  # when that was told
    is_stale: bool = True  # it must be read again before it counts as fresh
    pending: int = 0
    floor: int = 0  # the largest total answered


@dataclass(slots=True)
class Total:
    """An answer. `total` is None when the page's count isn't known; that isn't 0."""

    total: int | None
    counts: dict[str, int]  # of every datacenter that is in the number
    ages: dict[str, float | None]  # of each of these counts, in seconds; None: nobody says


class Known:
    """The totals known to one worker, least recently used pages forgotten first."""

    def __init__(self, *, dc: str, fresh_s: float, max_pages: int) -> None:
        self._dc = dc
        self.fresh_s = fresh_s
        self.max_pages = max_pages
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self._ledgers: dict[int, str] = {}  # partition -> the history that its store has

    def _entry(self, page: str) -> _Page:
        entry = self._pages.get(page)
        if entry is None:
            entry = self._pages[page] = _Page()
            self._forget_oldest()
        else:
            self._pages.move_to_end(page)
        return entry

    def _forget_oldest(self) -> None:
        # A page with pending hits moves to the young end: its answer must go on to include them. Of many
        # such, more than there may be, a few are looked at with each new page: all of them would be too slow.
        for _ in range(min(len(self._pages) - self.max_pages, LOOKS)):
            page, entry = self._pages.popitem(last=False)
            if entry.pending:
                self._pages[page] = entry

    def is_fresh(self, page: str, now_s: float) -> bool:
        """Whether the page's total can be answered without reading the store."""
        entry = self._pages.get(page)
        return entry is not None and not entry.is_stale and now_s - entry.told_s <= self.fresh_s

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

    def told(self, applied: Applied, now_s: float, as_of: AsOf = NOTHING, ledger: str = "") -> None:
        """Committed counts, from an ack of this worker's lane or from the store.

        The parts of this worker that they cover must be settled first. `as_of` says when the other
        datacenters' counts were current: each that is in it is in the number, be it with 0. `ledger` is
        that of the head that was read; an ack has none. Another one than before is another history, whose
        commits can't be compared with those of the last.
        """
        moment = (applied.epoch, applied.commit)
        if ledger:
            self._ledgers[applied.partition] = ledger
        else:
            ledger = self._ledgers.get(applied.partition, "")
        as_of = not_after(as_of, now_s)
        for page, counts in applied.totals.items():
            entry = self._entry(page)
            if entry.ledger and entry.ledger != ledger:
                entry.as_of = entry.settled = (-1, -1)
            if moment >= max(entry.as_of, entry.settled):
                entry.counts = {self._dc: 0, **dict.fromkeys(as_of, 0), **counts}
                entry.others, entry.ledger, entry.as_of = as_of, ledger, moment
                entry.told_s, entry.is_stale = now_s, False

    def lost(self, pages: Iterable[str]) -> None:
        """Pages whose partition is being brought back: what was known of them may be in no store any more."""
        for page in pages:
            entry = self._pages.get(page)
            if entry is not None:
                entry.counts, entry.as_of, entry.settled, entry.is_stale = {}, (-1, -1), (-1, -1), True

    def answer(self, page: str, now_s: float) -> Total:
        """The page's total, by what is known now."""
        entry = self._pages.get(page)
        if entry is None or entry.as_of == (-1, -1):
            return Total(None, {}, {})
        counts = entry.counts
        total = sum(counts.values()) + entry.pending
        if entry.pending:
            counts = {**counts, self._dc: counts.get(self._dc, 0) + entry.pending}
        entry.floor = total = max(total, entry.floor)
        return Total(total, counts, ages(counts, self._dc, entry.told_s, entry.others, max(now_s, entry.told_s)))


def not_after(as_of: AsOf, told_s: float) -> AsOf:
    """When the counts were current, by clocks that may differ: none can be younger than its telling."""
    return {dc: min(at_s, told_s) for dc, at_s in as_of.items()}


def ages(counts: Iterable[str], dc: str, told_s: float, others: AsOf, now_s: float) -> dict[str, float | None]:
    """How old each datacenter's count is that was told at `told_s`; `dc` is our own. In every hit's way."""
    found: dict[str, float | None] = dict.fromkeys(counts)
    for other, as_of in others.items():
        found[other] = now_s - as_of
    found[dc] = now_s - told_s
    return found
