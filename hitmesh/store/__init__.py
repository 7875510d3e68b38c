"""The totals store: partition heads and rows that outlive everybody. The interface, and the way in.

Invariants, whatever the implementation:
- A commit is atomic: the head under compare-and-set and its rows, all or nothing.
- A read answers a value or absent, or raises StoreUnknown; never a guess.
- An index belongs to the head's bytes it was read with; it changes with every write of the head.

All methods block the calling greenlet, never the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Row:
    """The absolute count of one page from one origin datacenter, and the commit that wrote it."""

    page: str
    dc: str
    count: int
    commit: int


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A partition's head as it stands in the store."""

    body: bytes
    index: int  # > 0; what a compare-and-set names


@dataclass(frozen=True, slots=True)
class Write:
    """One atomic write to one partition.

    `head` None: only check that the head still has `index` (rows of a redo). `index` 0: the head
    must not exist yet.
    """

    partition: int
    index: int
    head: bytes | None
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Done:
    """Written. `index` is the head's index now."""

    index: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Not written, and certainly so: the head's index is another one."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Perhaps written, now or a little later. Read the head again before doing anything."""

    reason: str


Outcome = Done | Refused | Unknown
HeadAndRows = tuple[StoredHead | None, list[Row]]


class TotalsStore(Protocol):
    """What a processor and a reader of totals ask of a store."""

    max_rows: int
    """Rows that one write can carry beside its head."""
    max_write_bytes: int
    """Bytes of head, page names and counts that one write with rows can carry."""
    max_head_bytes: int
    """Bytes of a head that is written without rows: one with a redo."""
    place: float
    """Where it is, as a number that another store has another of; 0 where that can't be told. For heartbeats."""

    def write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Carry out each write, atomically by itself, and say of each what became of it.

        At most one write per partition in a call. Several may share a transaction; one that is
        refused never takes another down with it; one that is unknown may leave those after it
        unknown and unsent. Raises ValueError for a write beyond the limits, before any is sent.
        """

    def read_head(self, partition: int) -> StoredHead | None:
        """The head, or None when it doesn't exist; linearizable. Raises StoreUnknown."""

    def read(self, wanted: Mapping[int, Sequence[str]]) -> dict[int, HeadAndRows]:
        """Of each partition in `wanted` the head and all datacenters' rows of those pages.

        What is said of one partition is from one moment. Raises StoreUnknown.
        """

    def load(self, partition: int) -> list[Row]:
        """All rows of a partition; linearizable. Raises StoreUnknown."""

    def scan(self) -> Iterable[tuple[int, StoredHead | None, list[Row]]]:
        """Every partition that has a head or rows, each from one moment. Raises StoreUnknown."""

    def check(self) -> None:
        """Raise StoreUnknown with the reason when the store doesn't answer."""

    def close(self) -> None:
        """Give up connections and files."""
