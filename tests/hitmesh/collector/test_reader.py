"""Reads of totals, with a store that holds what the test has put there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import gevent
import pytest

from hitmesh.collector.reader import ALL_AGE_S, Reader
from hitmesh.protocol.messages import Head, Origin, Position, encode, make
from hitmesh.protocol.pages import partition_of
from hitmesh.state.ages import Ages, AsOf
from hitmesh.store import Done, HeadAndRows, Row, TotalsStore, Write
from hitmesh.store.sqlite import SqliteTotals
from hitmesh.store.totals import Reading

PARTITIONS = 8
READ_S = 30.0
OLD_S = 100  # as a head says it
WHOLE, BACK, BAD, NEW = "s/a", "s/b", "s/c", "s/d"
assert len({partition_of(page, PARTITIONS) for page in (WHOLE, BACK, BAD, NEW)}) == 4


def head(*, restoring: bool = False, as_of_s: Mapping[str, int] | None = None) -> bytes:
    origins = {dc: Origin(Position("theirs", 1, 1), 0, {}, at_s) for dc, at_s in (as_of_s or {}).items()}
    return encode(make(Head, "ledger", 1, "owner", 1, 5, {}, (), origins, restoring, 0))


def put(store: TotalsStore, page: str, body: bytes, **counts: int) -> None:
    rows = [Row(page, dc, count, 1) for dc, count in counts.items()]
    (outcome,) = store.write([Write(partition_of(page, PARTITIONS), 0, body, rows)])
    assert isinstance(outcome, Done)


class Told:
    """A reader, and what it told, by page."""

    def __init__(self, store: TotalsStore, *, has_peers: Callable[[], bool] = lambda: True) -> None:
        self.ages = Ages()
        self.readings: dict[str, tuple[Reading, AsOf]] = {}
        self.reader = Reader(
            store, partitions=PARTITIONS, worker="w", ages=self.ages, has_peers=has_peers, told=self._told
        )
        self.reader.start()

    def _told(self, reading: Reading, as_of: AsOf) -> None:
        self.readings.update(dict.fromkeys(reading.pages, (reading, as_of)))

    def read(self, *pages: str) -> dict[str, dict[str, int] | None]:
        """Wait for these pages: their counts, None for unknown ones."""
        gevent.joinall([gevent.spawn(self.reader.wait, page, READ_S) for page in pages], timeout=READ_S)
        found = {page: self.readings[page][0].applied for page in pages if page in self.readings}
        return {page: None if applied is None else applied.totals[page] for page, applied in found.items()}


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteTotals]:
    """An empty one."""
    store = SqliteTotals(tmp_path / "totals.db")
    yield store
    store.close()


@pytest.fixture
def store(sqlite_store: SqliteTotals) -> SqliteTotals:
    """One partition is whole, one is brought back, one has a head that can't be read, the others have none."""
    put(sqlite_store, WHOLE, head(as_of_s={"us": int(time.time()) - OLD_S}), eu=5, us=2)
    put(sqlite_store, BACK, head(restoring=True), us=2)
    put(sqlite_store, BAD, b"nonsense", eu=1)
    return sqlite_store


def test_partitions_that_are_brought_back_or_can_t_be_read_make_no_other_page_unknown(store: SqliteTotals) -> None:
    told = Told(store)
    assert told.read(WHOLE, BACK, BAD, NEW) == {WHOLE: {"eu": 5, "us": 2}, BACK: None, NEW: None}
    assert told.reader.want(WHOLE) is not None  # a head that can't be read is no store that is away


def test_in_a_datacenter_alone_a_partition_without_a_head_has_no_hits(store: SqliteTotals) -> None:
    assert Told(store, has_peers=lambda: False).read(NEW, BACK) == {NEW: {}, BACK: None}


def test_a_head_says_how_old_the_rows_are_where_nobody_else_does(store: SqliteTotals) -> None:
    told = Told(store)
    told.read(WHOLE)
    reading, as_of = told.readings[WHOLE]
    assert reading.ledger == "ledger"
    assert OLD_S - 1 <= time.monotonic() - as_of["us"] < OLD_S * 10
    assert told.ages.of(partition_of(WHOLE, PARTITIONS)) == as_of


class Slow(SqliteTotals):
    """While it reads, something else happens."""

    def __init__(self, store: SqliteTotals, meanwhile: Callable[[], None]) -> None:
        super().__init__(store.path)
        self._meanwhile = meanwhile

    def read(self, wanted: Mapping[int, Sequence[str]]) -> dict[int, HeadAndRows]:
        found = super().read(wanted)
        self._meanwhile()
        return found

    def scan(self):  # type: ignore[no-untyped-def]  # as its parent's
        found = list(super().scan())
        self._meanwhile()
        return found


def test_what_is_read_is_as_old_as_was_known_before_the_read(sqlite_store: SqliteTotals) -> None:
    put(sqlite_store, WHOLE, head(), eu=5)
    at = partition_of(WHOLE, PARTITIONS)
    told = Told(Slow(sqlite_store, lambda: told.ages.read(at, {"us": 7.0, "ap": 7.0})))
    told.ages.read(at, {"us": 3.0})
    told.read(WHOLE)
    assert told.readings[WHOLE][1]["us"] == 3.0
    told.ages.read(at, {"us": 3.0})
    _, as_of, _ = told.reader.all_totals()
    assert as_of[at] == {"us": 3.0}


def test_the_list_of_all_totals_is_read_again_only_after_a_while(sqlite_store: SqliteTotals) -> None:
    put(sqlite_store, WHOLE, head(), eu=5)
    told = Told(sqlite_store)
    listing, _, read_s = told.reader.all_totals()
    assert dict(listing.totals) == {WHOLE: {"eu": 5}}
    assert listing.restoring == set(range(PARTITIONS)) - {partition_of(WHOLE, PARTITIONS)}
    assert told.reader.all_totals()[2] == read_s
    assert told.reader._all is not None
    gevent.sleep(2 * ALL_AGE_S)
    assert told.reader._all is None, "a list that nobody may have any more takes memory"
    assert told.reader.all_totals()[2] > read_s


def test_who_waits_for_a_list_that_takes_long_has_that_same_list(sqlite_store: SqliteTotals) -> None:
    scans: list[float] = []

    def takes_long() -> None:
        gevent.sleep(1.5 * ALL_AGE_S)
        scans.append(time.monotonic())

    told = Told(Slow(sqlite_store, takes_long))
    askers = [gevent.spawn(told.reader.all_totals) for _ in range(3)]
    gevent.joinall(askers, timeout=READ_S)
    assert len({asker.get(block=False)[2] for asker in askers}) == len(scans) == 1


def test_a_list_names_the_partition_that_can_t_be_read_and_has_all_the_others(store: SqliteTotals) -> None:
    listing, _, _ = Told(store).reader.all_totals()
    assert dict(listing.totals) == {WHOLE: {"eu": 5, "us": 2}}
    assert list(listing.unreadable) == [partition_of(BAD, PARTITIONS)]
    assert BAD in listing.unknown
