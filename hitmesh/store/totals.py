"""Totals and books of a datacenter, computed from what its store holds. Pure over a store.

A head's redo is what its last commit decided; the rows may be from before or after it. Laid over
them, absolute, it gives the state of that commit either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from hitmesh.errors import DecodeError, StoreUnknown
from hitmesh.protocol.messages import Applied, Head, decode
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


def read_totals(store: TotalsStore) -> dict[str, dict[str, int]]:
    """Every page's subtotals by datacenter. Raises StoreUnknown."""
    totals: dict[str, dict[str, int]] = {}
    for _, _, subtotals in _partitions(store):
        for (page, dc), count in subtotals.items():
            totals.setdefault(page, {})[dc] = count
    return totals


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


def overlay(rows: list[Row], head: Head | None) -> Subtotals:
    """The rows as of the head's commit: its redo laid over them."""
    subtotals = {(row.page, row.dc): row.count for row in rows}
    if head is not None:
        subtotals.update({(row.page, row.dc): row.count for row in head.redo})
    return subtotals


def decode_head(partition: int, stored: StoredHead) -> Head:
    """The head in the store. One that can't be read raises StoreUnknown: it is not an empty one."""
    try:
        return decode(stored.body, Head)
    except DecodeError as error:
        raise StoreUnknown(
            f"the head of partition {partition} can't be read: {error}",
            op="read totals",
            hint="is it from a newer version?",
        ) from error


def _partitions(store: TotalsStore) -> Iterator[tuple[int, Head | None, Subtotals]]:
    for partition, stored, rows in store.scan():
        head = decode_head(partition, stored) if stored is not None else None
        yield partition, head, overlay(rows, head)


def applied_of(
    partition: int, worker: str, pages: Sequence[str], stored: StoredHead | None, rows: list[Row]
) -> Applied:
    """What `TotalsStore.read` says, in the form of an ack: the worker's lane and the pages' totals.

    A page without rows has no subtotals: its total is 0. A partition without a head has no lanes.
    """
    head = decode_head(partition, stored) if stored is not None else None
    totals: dict[str, dict[str, int]] = {page: {} for page in pages}
    for (page, dc), count in overlay(rows, head).items():
        if page in totals:
            totals[page][dc] = count
    if head is None:
        return Applied(partition, 0, 0, 0, (), totals)
    lane = head.lanes.get(worker)
    mark, above = (lane.mark, lane.above) if lane else (0, ())
    return Applied(partition, head.epoch, head.commit, mark, above, totals)
