"""A dashboard's looks at a totals store: what they find, how soon, and that they leave no trace."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from hitmesh.books.audit import Spooled, Worker
from hitmesh.config import Config, Node
from hitmesh.dashboard import counting
from hitmesh.dashboard.counting import Counters, Counting
from hitmesh.dashboard.spooled import Look
from hitmesh.protocol.messages import Head, LaneState, Origin, Position, encode, make
from hitmesh.store import Row, TotalsStore, Write
from hitmesh.store.sqlite import SqliteTotals

CONFIG = Config(name="eu", nodes={"here": Node(address="127.0.0.1")}, partitions=2)
CLEAN = Look(spooled=Spooled(None, 0), whole=True)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats aren't waited for: the collectors here send none."""
    monkeypatch.setattr(counting, "NEWER", 0)


def head(hits: int, *, restoring: bool = False) -> bytes:
    lanes = {"w1": LaneState(9, (), hits, 0)}
    origin = Origin(Position("l", 1, 1), 3, {}, 1000)
    return encode(make(Head, "ledger", 2, "processor-1-x", 7, hits, lanes, (), {"us": origin}, restoring, 0))


def fill(store: TotalsStore, partition: int, hits: int, *rows: Row) -> None:
    store.write([Write(partition, 0, head(hits), rows)])


def counting_of(store: TotalsStore, base: Path, *, accepted: int = 0, look: Look = CLEAN) -> Counting:
    workers = {"w1": Worker("collector-1", accepted, 0, 0, 0)} if accepted else {}
    counters = Counters(workers, dict.fromkeys(workers, 1))
    made = Counting(CONFIG, base, counters=lambda: counters, spooled=lambda: look, store=store)
    made._cooperates = not isinstance(store, SqliteTotals)
    return made


def test_a_look_finds_the_books_the_sums_and_the_pages(store: TotalsStore, tmp_path: Path) -> None:
    fill(store, 0, 9, Row("a/b", "eu", 5, 7), Row("c/d", "eu", 4, 7), Row("a/b", "us", 30, 7))
    fill(store, 1, 1, Row("e/f", "eu", 1, 7))
    watched = counting_of(store, tmp_path, accepted=12)
    watched.look()
    found = watched.ledger
    assert found.tally is not None
    assert (found.tally.sums, found.tally.pages, found.tally.as_of_s) == ({"eu": 10, "us": 30}, 3, {"us": 1000})
    books = found.books(time.monotonic())
    assert books is not None
    assert (books.balanced, books.accepted, books.committed, books.in_flight) == (True, 12, 10, 2)
    assert [(top.page, top.total) for top in watched.charts.shown(time.time())] == [("a/b", 35), ("c/d", 4), ("e/f", 1)]
    assert watched.read_page(0, "a/b") == {"eu": 5, "us": 30}


def test_rows_that_somebody_changed_by_hand_are_found_by_the_next_look(
    sqlite_store: SqliteTotals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sqlite_store, 0, 9, Row("a/b", "eu", 9, 7))
    watched = counting_of(sqlite_store, tmp_path, accepted=9)
    watched.look()
    assert watched.ledger.verdict is not None
    assert watched.ledger.verdict.balanced
    with sqlite3.connect(sqlite_store.path) as db:
        db.execute("UPDATE rows SET count = count + 40")
    db.close()
    # Not even the heartbeats that a whole judgement needs are waited for.
    seen: list[bool] = []

    def newer(_: Counters) -> None:
        assert watched.ledger.verdict is not None
        seen.append(watched.ledger.verdict.balanced)

    monkeypatch.setattr(watched, "_newer", newer)
    watched.look()
    assert seen == [False]
    books = watched.ledger.books(time.monotonic())
    assert books is not None
    assert (books.balanced, books.off) == (False, 40)
    assert books.problems == ["partition 0: its rows sum to 49, its head says 9 hits"]


def test_a_partition_that_cannot_be_read_hides_no_other(store: TotalsStore, tmp_path: Path) -> None:
    store.write([Write(0, 0, b"nonsense", [Row("a/b", "eu", 5, 7)])])
    fill(store, 1, 1, Row("e/f", "eu", 1, 7))
    watched = counting_of(store, tmp_path)
    watched.look()
    assert watched.ledger.tally is not None
    assert list(watched.ledger.tally.unreadable) == [0]
    assert watched.ledger.tally.sums == {"eu": 1}
    assert isinstance(watched.read_page(0, "a/b"), str)


def test_a_store_that_is_not_there_is_a_reason_and_what_was_known_stays(tmp_path: Path) -> None:
    writer = SqliteTotals(tmp_path / "totals.db")
    fill(writer, 0, 9, Row("a/b", "eu", 9, 7))
    watched = counting_of(SqliteTotals(tmp_path / "totals.db", read_only=True), tmp_path)
    watched.look()
    writer.close()
    for file in tmp_path.glob("totals.db*"):
        file.unlink()
    watched.look()
    assert "the file is gone" in watched.ledger.store_why
    assert watched.ledger.tally is not None
    assert watched.ledger.tally.sums == {"eu": 9}
    assert not list(tmp_path.glob("totals.db*")), "whoever only reads makes no file"


def contents(folder: Path) -> Mapping[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


@pytest.mark.parametrize("alive", [True, False])
def test_reading_leaves_the_file_and_its_log_as_they_are(tmp_path: Path, alive: bool) -> None:
    """With the writer there, and with one that was killed: then whoever writes first would put the log into the file."""
    there = tmp_path / "there"
    writer = SqliteTotals(there / "totals.db")
    fill(writer, 0, 9, Row("a/b", "eu", 9, 7))
    folder = there
    if not alive:
        folder = tmp_path / "killed"
        shutil.copytree(there, folder)
        for shared in folder.glob("*-shm"):
            shared.unlink()
    before = contents(folder)
    assert len(before["totals.db-wal"]) > 0
    reader = SqliteTotals(folder / "totals.db", read_only=True)
    watched = counting_of(reader, folder)
    watched.look()
    reader.close()
    assert watched.ledger.store_why == ""
    assert watched.ledger.tally is not None
    assert watched.ledger.tally.sums == {"eu": 9}
    assert contents(folder) == before
    writer.close()


def test_minutes_are_what_came_between_looks(sqlite_store: SqliteTotals, tmp_path: Path) -> None:
    fill(sqlite_store, 0, 9, Row("a/b", "eu", 9, 7))
    watched = counting_of(sqlite_store, tmp_path)
    watched.look()
    (top,) = watched.charts.shown(time.time())
    assert set(top.minutes) == {0}, "what was there before isn't of this minute"
    stored = sqlite_store.read_head(0)
    assert stored is not None
    sqlite_store.write([Write(0, stored.index, head(16), [Row("a/b", "eu", 16, 8)])])
    watched.look()
    (top,) = watched.charts.shown(time.time())
    assert (top.total, sum(top.minutes)) == (16, 7)


def test_a_store_that_never_was_is_not_made_by_looking(tmp_path: Path) -> None:
    watched = counting_of(SqliteTotals(tmp_path / "totals.db", read_only=True), tmp_path)
    watched.look()
    assert "the file is gone" in watched.ledger.store_why
    assert list(tmp_path.iterdir()) == []
