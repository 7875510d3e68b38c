"""Totals and books of a datacenter, computed from what its store holds. Pure over a store.

A head's redo is what its last commit decided; the rows may be from before or after it. Laid over
them, absolute, it gives the state of that commit either way.

A partition whose rows are being brought back from other datacenters has no totals: those of its
pages are unknown until all of them are there. So it is where there is no head yet, but other
datacenters that may have rows, and where a head or a row can't be read. It makes nothing else unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from hitmesh.errors import DecodeError, StoreUnknown
from hitmesh.protocol import messages
from hitmesh.protocol.messages import Applied, Head
from hitmesh.store import Row, StoredHead, TotalsStore

Subtotals = dict[tuple[str, str], int]
"""(page, datacenter) -> count."""


class PartitionBooks(Struct, frozen=True):
    """One partition's hits, counted twice: in its head, and in the rows.

    They balance when `rows_sum`, less the starting values, is `hits`. A partition of which there
    are only rows has epoch 0.
    """

    partition: int
    epoch: int
    owner: str  # the owner's instance id
    commit: int
    hits: int  # applied in all, as the head counts them
    lanes: dict[str, int]  # worker -> hits applied
    rows_sum: int  # of this datacenter's own rows, as of `commit`


class Reading(Struct, frozen=True):
    """What a store says of some pages of one partition, from one moment."""

    partition: int
    pages: Sequence[str]
    applied: Applied | None  # as in an ack: a worker's lane, the pages' totals; None: these are being brought back
    ledger: str  # the history that this is a moment of; empty before there is one
    as_of_s: Mapping[str, float]  # other datacenter -> when its rows were current, wall clock


class Listing(Struct, frozen=True):
    """All totals that a store has."""

    totals: Mapping[str, Mapping[str, int]]  # page -> datacenter -> count
    unknown: frozenset[str]  # pages of which some rows are back, of partitions that are being brought back
    restoring: frozenset[int]  # those partitions, and
    headless: frozenset[int]  # of them those of which nothing is there yet
    as_of_s: Mapping[int, Mapping[str, float]]  # partition -> as in a Reading
    unreadable: Mapping[int, str] = {}  # partitions that can't be read, and why; of their pages some are in `unknown`


def read_totals(store: TotalsStore) -> dict[str, dict[str, int]]:
    """Every page's subtotals by datacenter, but for partitions that are being brought back. Raises StoreUnknown."""
    listing = read_listing(store, partitions=0, has_peers=False)
    for reason in listing.unreadable.values():
        raise StoreUnknown(reason, op="read totals")
    return {page: dict(counts) for page, counts in listing.totals.items()}


def read_listing(store: TotalsStore, *, partitions: int, has_peers: bool) -> Listing:
    """Every page's subtotals by datacenter. Raises StoreUnknown.

    `has_peers` says that there are other datacenters, so that of `partitions` those without a head are
    still to be brought back.
    """
    return listing_of(store.scan(), partitions=range(partitions), has_peers=has_peers)


def listing_of(
    found: Iterable[tuple[int, StoredHead | None, list[Row]]], *, partitions: Iterable[int], has_peers: bool
) -> Listing:
    """The same of what was read of some partitions."""
    totals: dict[str, dict[str, int]] = {}
    unknown: set[str] = set()
    restoring: set[int] = set()
    headless = set(partitions) if has_peers else set()
    as_of_s: dict[int, Mapping[str, float]] = {}
    unreadable: dict[int, str] = {}
    for partition, stored, rows in found:
        if stored is not None:
            headless.discard(partition)
        try:
            head, subtotals = read_partition(partition, stored, rows)
        except StoreUnknown as error:
            headless.discard(partition)
            unreadable[partition] = error.message
            unknown.update(row.page for row in rows if is_row(row))
            continue
        if _is_restoring(head, has_peers=has_peers):
            restoring.add(partition)
            unknown.update(page for page, _ in subtotals)
            continue
        as_of_s[partition] = _as_of_s(head)
        for (page, dc), count in subtotals.items():
            totals.setdefault(page, {})[dc] = count
    return Listing(
        totals, frozenset(unknown), frozenset(restoring | headless), frozenset(headless), as_of_s, unreadable
    )


def read_books(store: TotalsStore, dc: str) -> list[PartitionBooks]:
    """The books of every partition, in their order; `dc` is the datacenter whose store it is. Raises StoreUnknown."""
    books = []
    for partition, head, subtotals in _partitions(store):
        rows_sum = sum(count for (_, origin), count in subtotals.items() if origin == dc)
        if head is None:
            books.append(PartitionBooks(partition, 0, "", 0, 0, {}, rows_sum))
            continue
        lanes = {worker: lane.hits for worker, lane in head.lanes.items()}
        books.append(PartitionBooks(partition, head.epoch, head.owner, head.commit, head.hits, lanes, rows_sum))
    return books


def read_partition(partition: int, stored: StoredHead | None, rows: list[Row]) -> tuple[Head | None, Subtotals]:
    """A partition's head and counts. Raises StoreUnknown for a head, or a row, that can't be read."""
    head = decode_head(partition, stored) if stored is not None else None
    for row in rows:
        if not is_row(row):
            raise StoreUnknown(f"a row of partition {partition} can't be read: {row!a:.300}", op="read totals")
    return head, overlay(rows, head)


def is_row(row: Row) -> bool:
    """Whether this can be a row that somebody has written: a store's file takes in anything."""
    return (
        type(row.count) is int
        and type(row.commit) is int
        and 0 <= row.count <= messages.MAX_TOTAL
        and 0 <= row.commit <= messages.MAX_TOTAL
        and type(row.page) is str
        and type(row.dc) is str
    )


def overlay(rows: list[Row], head: Head | None) -> Subtotals:
    """The rows as of the head's commit: its redo laid over them."""
    subtotals = {(row.page, row.dc): row.count for row in rows}
    if head is not None:
        subtotals.update({(row.page, row.dc): row.count for row in head.redo})
    return subtotals


def decode_head(partition: int, stored: StoredHead) -> Head:
    """The head in the store. One that can't be read raises StoreUnknown: it is not an empty one."""
    try:
        return messages.decode_head(stored.body)
    except DecodeError as error:
        raise StoreUnknown(
            f"the head of partition {partition} can't be read: {error}",
            op="read totals",
            hint="is it from a newer version?",
        ) from error


def _partitions(store: TotalsStore) -> Iterator[tuple[int, Head | None, Subtotals]]:
    for partition, stored, rows in store.scan():
        yield partition, *read_partition(partition, stored, rows)


def reading_of(
    partition: int,
    worker: str,
    pages: Sequence[str],
    stored: StoredHead | None,
    rows: list[Row],
    *,
    has_peers: bool,
) -> Reading:
    """What `TotalsStore.read` says of a partition. Raises StoreUnknown for a head that can't be read.

    A page without rows has no subtotals: its total is 0. A partition without a head has no lanes.
    """
    head, subtotals = read_partition(partition, stored, rows)
    ledger = head.ledger if head is not None else ""
    if _is_restoring(head, has_peers=has_peers):
        return Reading(partition, pages, None, ledger, {})
    totals: dict[str, dict[str, int]] = {page: {} for page in pages}
    for (page, dc), count in subtotals.items():
        if page in totals:
            totals[page][dc] = count
    if head is None:
        return Reading(partition, pages, Applied(partition, 0, 0, 0, (), totals), ledger, {})
    lane = head.lanes.get(worker)
    mark, above = (lane.mark, lane.above) if lane else (0, ())
    applied = Applied(partition, head.epoch, head.commit, mark, above, totals)
    return Reading(partition, pages, applied, ledger, _as_of_s(head))


def _is_restoring(head: Head | None, *, has_peers: bool) -> bool:
    return has_peers if head is None else head.restoring


def _as_of_s(head: Head | None) -> Mapping[str, float]:
    return {dc: origin.as_of_s for dc, origin in head.origins.items()} if head is not None else {}
