"""Totals and books from what a store holds."""

from __future__ import annotations

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.protocol.messages import Head, LaneState, RedoRow, encode, make
from hitmesh.store import Done, Row, TotalsStore, Write
from hitmesh.store.sqlite import SqliteTotals
from hitmesh.store.totals import PartitionBooks, read_books, read_totals


def head(hits: int, *redo: RedoRow) -> bytes:
    """A head at commit 7 with two lanes."""
    lanes = {"w1": LaneState(3, (), hits - 1, 0), "w2": LaneState(1, (), 1, 0)}
    return encode(make(Head, "ledger", 2, "processor-1-x", 7, hits, lanes, redo))


def put(store: TotalsStore, partition: int, body: bytes, *rows: Row) -> None:
    """Write a partition that isn't there yet."""
    assert isinstance(store.write([Write(partition, 0, body, rows)])[0], Done)


def test_a_total_has_every_datacenters_count(store: TotalsStore) -> None:
    put(store, 1, head(5), Row("a/b", "eu", 5, 7), Row("a/b", "us", 2, 7))
    put(store, 2, head(1), Row("c/d", "eu", 1, 7))
    assert read_totals(store) == {"a/b": {"eu": 5, "us": 2}, "c/d": {"eu": 1}}


def test_a_redo_replaces_rows_that_are_not_written_yet(store: TotalsStore) -> None:
    put(store, 1, head(9, RedoRow("a/b", "eu", 7), RedoRow("new", "eu", 2)), Row("a/b", "eu", 5, 6))
    assert read_totals(store) == {"a/b": {"eu": 7}, "new": {"eu": 2}}


def test_a_redo_whose_rows_are_written_changes_nothing(store: TotalsStore) -> None:
    put(store, 1, head(7, RedoRow("a/b", "eu", 7)), Row("a/b", "eu", 7, 7))
    assert read_totals(store) == {"a/b": {"eu": 7}}


def test_a_redo_of_another_datacenters_row_leaves_ours_alone(store: TotalsStore) -> None:
    put(store, 1, head(5, RedoRow("a/b", "us", 7)), Row("a/b", "eu", 5, 7))
    assert read_totals(store) == {"a/b": {"eu": 5, "us": 7}}


def test_books_have_the_heads_hits_and_the_sum_of_our_own_rows(store: TotalsStore) -> None:
    put(store, 3, head(9, RedoRow("a/b", "eu", 7)), Row("a/b", "eu", 5, 6), Row("c", "eu", 2, 6), Row("c", "us", 99, 6))
    assert read_books(store, "eu") == [PartitionBooks(3, 2, "processor-1-x", 7, 9, {"w1": 8, "w2": 1}, 9)]


def test_rows_without_a_head_are_in_the_books(sqlite_store: SqliteTotals) -> None:
    put(sqlite_store, 1, head(5), Row("a/b", "eu", 5, 7))
    with sqlite_store._connection() as db:
        db.execute("DELETE FROM heads")
    assert read_books(sqlite_store, "eu") == [PartitionBooks(1, 0, "", 0, 0, {}, 5)]
    assert read_totals(sqlite_store) == {"a/b": {"eu": 5}}


@pytest.mark.parametrize("body", [b"garbage", b"\x93\x01\x1e\x00", head(5)[:-1], head(5) + b"\x00"])
def test_a_head_that_can_not_be_read_is_unknown_and_names_its_partition(store: TotalsStore, body: bytes) -> None:
    put(store, 1, head(5), Row("a/b", "eu", 5, 7))
    put(store, 17, body, Row("c/d", "eu", 1, 7))
    with pytest.raises(StoreUnknown, match="partition 17"):
        read_totals(store)
    with pytest.raises(StoreUnknown, match="partition 17"):
        read_books(store, "eu")


def test_an_empty_store_has_no_totals(store: TotalsStore) -> None:
    assert read_totals(store) == {}
    assert read_books(store, "eu") == []
