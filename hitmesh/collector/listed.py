"""All totals of a store as they are listed to clients, each datacenter's count with its age. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hitmesh.collector.known import Total, ages, not_after
from hitmesh.protocol.pages import partition_of
from hitmesh.state.ages import NOTHING, AsOf
from hitmesh.store.totals import Listing


class Listed:
    """A listing that was read at `read_s`, looked at at `now_s`; `dc` is the datacenter whose store it is of.

    `as_of` says of each partition how old the other datacenters' rows in it were when it was read.
    """

    def __init__(
        self, listing: Listing, as_of: Mapping[int, AsOf], *, dc: str, partitions: int, read_s: float, now_s: float
    ) -> None:
        self._listing = listing
        self._as_of = as_of
        self._dc = dc
        self._partitions = partitions
        self._read_s = read_s
        self._now_s = now_s

    @property
    def restoring(self) -> int:
        """Partitions whose rows are being brought back: pages of theirs are unknown, or not listed yet."""
        return len(self._listing.restoring)

    @property
    def unreadable(self) -> list[int]:
        """Partitions that can't be read: pages of theirs are unknown, or not listed."""
        return sorted(self._listing.unreadable)

    def __iter__(self) -> Iterator[str]:
        yield from self._listing.totals
        yield from self._listing.unknown

    def sum(self, page: str) -> int:
        """The page's total; of an unknown one -1, below all others."""
        counts = self._listing.totals.get(page)
        return -1 if counts is None else sum(counts.values())

    def total(self, page: str) -> Total:
        """The page as it is answered."""
        counts = self._listing.totals.get(page)
        if counts is None:
            return Total(None, {}, {})
        as_of = not_after(self._as_of.get(partition_of(page, self._partitions), NOTHING), self._read_s)
        every = {self._dc: 0, **dict.fromkeys(as_of, 0), **counts}
        return Total(sum(counts.values()), every, ages(every, self._dc, self._read_s, as_of, self._now_s))
