"""What one look at a totals store adds up to, and the charts of its top pages. Pure.

A store may have millions of rows: partition after partition is added up, and only sums are kept, the books of
partitions, and the pages with the most hits.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hitmesh.books.audit import Book
from hitmesh.books.reading import Reading, book_of
from hitmesh.dashboard.status import MINUTES, Top

TOP_PAGES: Final = 20  # that are shown
FOLLOWED: Final = 100  # whose minutes are kept, so that who comes among the first brings its past
MINUTE_S: Final = 60


@dataclass(slots=True)
class Tally:
    """What a store of `dc` with so many partitions has."""

    dc: str
    partitions: int
    books: dict[int, Book] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)  # datacenter -> hits in its rows here
    as_of_s: dict[str, float] = field(default_factory=dict)  # other datacenter -> when its oldest partition was current
    restoring: set[int] = field(default_factory=set)
    headless: set[int] = field(default_factory=set)
    pages: int = 0
    top: list[tuple[int, str]] = field(default_factory=list)  # a heap: total and page
    followed: dict[str, int] = field(default_factory=dict)  # totals of pages that were asked for
    applied: dict[str, int] = field(default_factory=dict)  # worker -> its hits that are committed

    def __post_init__(self) -> None:
        self.headless = set(range(self.partitions))

    def take(self, each: Reading, follow: frozenset[str] = frozenset()) -> None:
        """Add one partition; the totals of the pages in `follow` are kept besides."""
        self.headless.discard(each.partition)
        if each.unreadable:
            self.unreadable[each.partition] = each.unreadable
            return
        self.books[each.partition] = book_of(each, self.dc)
        if each.head is not None:
            for dc, origin in each.head.origins.items():
                self.as_of_s[dc] = min(self.as_of_s.get(dc, float("inf")), origin.as_of_s)
            if each.head.restoring:
                self.restoring.add(each.partition)
            for worker, lane in each.head.lanes.items():
                self.applied[worker] = self.applied.get(worker, 0) + lane.hits
        totals: dict[str, int] = {}
        for (page, dc), count in each.subtotals.items():
            totals[page] = totals.get(page, 0) + count
            self.sums[dc] = self.sums.get(dc, 0) + count
        self.pages += len(totals)
        for page in follow & totals.keys():
            self.followed[page] = totals[page]
        self.top = heapq.nlargest(FOLLOWED, [*self.top, *((total, page) for page, total in totals.items())])

    def off(self) -> int:
        """By how many hits rows and heads differ, over all partitions that aren't being brought back."""
        return sum(
            abs(each.rows_sum + each.lost - each.hits) for each in self.books.values() if not each.restoring
        )  # fmt: skip


class Charts:
    """The hits of the top pages by minute, from looks at the store that come now and then."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}  # as of the last look
        self._minutes: dict[str, deque[tuple[int, int]]] = {}  # page -> minute, hits
        self._top: list[tuple[int, str]] = []
        self._seen: float | None = None

    @property
    def follow(self) -> frozenset[str]:
        """Of which pages the next look is to bring the totals."""
        return frozenset(self._totals)

    def look(self, tally: Tally, wall: float) -> None:
        """One more look has been completed."""
        minute = int(wall // MINUTE_S)
        now = {page: total for total, page in tally.top} | tally.followed
        # While all pages are followed, one that wasn't there before had no hits.
        unknown = 0 if self._seen is not None and len(self._totals) < FOLLOWED else None
        for page, total in now.items():
            before = self._totals.get(page, unknown)
            if before is not None and total > before:
                self._add(page, minute, total - before)
        self._top = tally.top[:TOP_PAGES]
        kept = {page for _, page in tally.top}
        self._totals = {page: total for page, total in now.items() if page in kept}
        self._minutes = {page: minutes for page, minutes in self._minutes.items() if page in kept}
        self._seen = wall

    def shown(self, wall: float) -> list[Top]:
        """The pages with the most hits, and their last MINUTES."""
        return [Top(key=page, page=page, total=total, minutes=self.minutes(page, wall)) for total, page in self._top]

    def minutes(self, page: str, wall: float) -> Sequence[int]:
        """Of one page, the oldest first; empty where they aren't known."""
        if page not in self._totals:
            return ()
        last = int(wall // MINUTE_S)
        known: Mapping[int, int] = dict(self._minutes.get(page, ()))
        return [known.get(minute, 0) for minute in range(last - MINUTES + 1, last + 1)]

    def _add(self, page: str, minute: int, hits: int) -> None:
        minutes = self._minutes.setdefault(page, deque(maxlen=MINUTES))
        if minutes and minutes[-1][0] == minute:
            minutes[-1] = minute, minutes[-1][1] + hits
        elif not minutes or minute > minutes[-1][0]:
            minutes.append((minute, hits))
