"""Totals and books from what a store holds."""

from __future__ import annotations

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.protocol.messages import Applied, Head, LaneState, Origin, Position, RedoRow, encode, make
from hitmesh.store import Done, Row, StoredHead, TotalsStore, Write
from hitmesh.store.sqlite import SqliteTotals
from hitmesh.store.totals import PartitionBooks, Reading, read_books, read_listing, read_totals, reading_of


def head(
    hits: int, *redo: RedoRow, restoring: bool = False, lost: int = 0, as_of_s: dict[str, int] | None = None
) -> bytes:
    """A head at commit 7 with two lanes."""
    lanes = {"w1": LaneState(3, (), hits - 1, 0), "w2": LaneState(1, (), 1, 0)}
    origins = {dc: Origin(Position("theirs", 1, 4), 0, {}, at_s) for dc, at_s in (as_of_s or {}).items()}
    return encode(make(Head, "ledger", 2, "processor-1-x", 7, hits, lanes, redo, origins, restoring, lost))


def put(store: TotalsStore, partition: int, body: bytes, *rows: Row) -> None:
    """Write a partition that isn't there yet."""
    assert isinstance(store.write([Write(partition, 0, body, rows)])[0], Done)


def test_a_total_has_every_datacenters_count(store: TotalsStore) -> None:
    put(store, 1, head(5), Row("a/b", "eu", 5, 7), Row("a/b", "us", 2, 7))
    put(store, 2, head(1), Row("c/d", "eu", 1, 7))
    assert read_totals(store) == {"a/b": {"eu": 5, "us": 2}, "c/d": {"eu": 1}}


def test_a_redo_replaces_rows_that_are_not_written_yet(store: TotalsStore) -> None:
    put(store, 1, head(9, RedoRow("a/b", "eu", 7, 7), RedoRow("new", "eu", 2, 7)), Row("a/b", "eu", 5, 6))
    assert read_totals(store) == {"a/b": {"eu": 7}, "new": {"eu": 2}}


def test_a_redo_whose_rows_are_written_changes_nothing(store: TotalsStore) -> None:
    put(store, 1, head(7, RedoRow("a/b", "eu", 7, 7)), Row("a/b", "eu", 7, 7))
    assert read_totals(store) == {"a/b": {"eu": 7}}


def test_a_redo_of_another_datacenters_row_leaves_ours_alone(store: TotalsStore) -> None:
    put(store, 1, head(5, RedoRow("a/b", "us", 7, 7)), Row("a/b", "eu", 5, 7))
    assert read_totals(store) == {"a/b": {"eu": 5, "us": 7}}


def test_books_have_the_heads_hits_and_the_sum_of_our_own_rows(store: TotalsStore) -> None:
    put(
        store,
        3,
        head(9, RedoRow("a/b", "eu", 7, 7)),
        Row("a/b", "eu", 5, 6),
        Row("c", "eu", 2, 6),
        Row("c", "us", 99, 6),
    )
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


# --- partitions that are being brought back -----------------------------------------------------


def test_pages_of_a_partition_that_is_brought_back_are_unknown_and_others_aren_t(store: TotalsStore) -> None:
    put(store, 1, head(5, as_of_s={"us": 100}), Row("a/b", "eu", 5, 7), Row("a/b", "us", 2, 7))
    put(store, 2, head(9, restoring=True), Row("c/d", "us", 9, 7))
    listing = read_listing(store, partitions=4, has_peers=False)
    assert listing.totals == {"a/b": {"eu": 5, "us": 2}}
    assert (set(listing.unknown), set(listing.restoring)) == ({"c/d"}, {2})
    assert listing.as_of_s == {1: {"us": 100}}
    assert read_totals(store) == {"a/b": {"eu": 5, "us": 2}}


def test_where_there_are_other_datacenters_a_partition_without_a_head_is_still_to_be_brought_back(
    store: TotalsStore,
) -> None:
    put(store, 1, head(5), Row("a/b", "eu", 5, 7))
    assert read_listing(store, partitions=4, has_peers=True).restoring == {0, 2, 3}
    assert read_listing(store, partitions=4, has_peers=False).restoring == set()


def stored(body: bytes | None) -> StoredHead | None:
    return None if body is None else StoredHead(body, 1)


def test_a_reading_has_the_lane_the_totals_and_how_old_the_others_are() -> None:
    rows = [Row("a/b", "eu", 5, 7), Row("a/b", "us", 2, 3), Row("other", "eu", 1, 7)]
    found = reading_of(1, "w1", ["a/b", "c/d"], stored(head(5, as_of_s={"us": 100})), rows, has_peers=True)
    applied = Applied(1, 2, 7, 3, (), {"a/b": {"eu": 5, "us": 2}, "c/d": {}})
    assert found == Reading(1, ["a/b", "c/d"], applied, "ledger", {"us": 100})


def test_a_worker_without_a_lane_has_applied_nothing() -> None:
    found = reading_of(1, "w9", ["a/b"], stored(head(5)), [], has_peers=False)
    assert found.applied == Applied(1, 2, 7, 0, (), {"a/b": {}})


@pytest.mark.parametrize(
    ("body", "has_peers", "known"),
    [
        (head(5), True, True),
        (head(5), False, True),
        (head(5, restoring=True), True, False),
        (head(5, restoring=True), False, False),
        (None, True, False),
        (None, False, True),
    ],
)
def test_a_total_is_unknown_while_its_partition_is_or_has_to_be_brought_back(
    body: bytes | None, has_peers: bool, known: bool
) -> None:
    found = reading_of(1, "w1", ["a/b"], stored(body), [Row("a/b", "us", 2, 7)], has_peers=has_peers)
    if known:
        assert found.applied is not None
        assert found.applied.totals == {"a/b": {"us": 2}}
    else:
        assert (found.applied, found.pages) == (None, ["a/b"])
