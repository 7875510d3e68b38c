"""What one partition can tell other datacenters: its rows as committed, the newest from memory. Pure.

Rows are absolute, so a page that changes again only moves: memory is bounded by pages, whatever the
time for which nobody asked. Who is further behind than this memory reaches is told from the store.

Invariants:
- Every own row whose commit is above `floor` is in the memory, with its count as committed.
- A chunk is whole commits: whoever has applied it has every row up to the chunk's position.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from hitmesh.protocol.messages import MAX_CHUNK_ROWS, OriginRow, Wanted

MAX_RECENT: Final = 2 * MAX_CHUNK_ROWS  # pages of one partition in memory: two commits of the largest kind
MAX_CHUNK_BYTES: Final = 192 * 1024  # of page names, as many as a commit has: the receiver commits it whole


@dataclass(frozen=True, slots=True)
class Held:
    """A question that waits for news."""

    dc: str  # who asks
    reply_to: str
    wanted: Wanted
    since_s: float  # monotonic


class Feed:
    """One partition's own rows, for others."""

    def __init__(self) -> None:
        self.commit = 0
        """The last commit that changed a row of this datacenter."""
        self.held: dict[tuple[str, str], Held] = {}
        """The questions that wait, by who asks and whose rows are wanted."""
        self._askers: dict[tuple[str, str], str] = {}  # the instance that asked last, by the same
        self._floor = 0
        self._recent: OrderedDict[str, tuple[int, int]] = (
            OrderedDict()
        )  # page -> commit, count; the oldest commit first

    @property
    def floor(self) -> int:
        """Up to which commit the rows are in the store only."""
        return self._floor

    def loaded(self, commit: int) -> None:
        """The rows are as the store has them, the newest of `commit`; a redo comes by `wrote`."""
        self.commit = self._floor = commit
        self._recent.clear()

    def wrote(self, commit: int, rows: Mapping[str, int]) -> None:
        """A commit changed these rows of this datacenter."""
        if not rows:
            return
        self.commit = commit
        for page, count in rows.items():
            self._recent.pop(page, None)
            self._recent[page] = (commit, count)
        while len(self._recent) > MAX_RECENT:
            _, (self._floor, _) = self._recent.popitem(last=False)

    def meets(self, dc: str, origin: str, owner: str) -> bool:
        """Whether this instance asks for the first time, or again after another one."""
        is_first = self._askers.get((dc, origin)) != owner
        self._askers[dc, origin] = owner
        return is_first

    def above(self, commit: int) -> list[OriginRow] | None:
        """The rows above `commit`, the oldest first; None when memory doesn't reach back so far."""
        if commit < self._floor:
            return None
        found = []
        for page, (written, count) in reversed(self._recent.items()):
            if written <= commit:
                break
            found.append(OriginRow(page, count, written))
        found.reverse()
        return found


def by_commit(rows: Iterable[OriginRow]) -> list[OriginRow]:
    """The rows in the order of their commits."""
    return sorted(rows, key=lambda row: row.commit)


def cut(rows: Sequence[OriginRow]) -> tuple[Sequence[OriginRow], bool]:
    """The first whole commits of `rows`, as many as fit into a chunk, one at least; and whether that is all of them."""
    taken = size_bytes = 0
    for _, group in groupby(rows, key=lambda row: row.commit):
        together = list(group)
        size_bytes += sum(len(row.page.encode()) for row in together)
        if taken and (taken + len(together) > MAX_CHUNK_ROWS or size_bytes > MAX_CHUNK_BYTES):
            return rows[:taken], False
        taken += len(together)
    return rows, True
