"""The past on disk: kept over restarts, bounded, and never a reason to fail."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hitmesh.dashboard import keeping
from hitmesh.dashboard.keeping import Kept, Past

WALL = 1_000_000.0


def kept(path: Path) -> Kept:
    past = Past(path)
    try:
        return past.load()
    finally:
        past.close()


def save(path: Path, bars: dict[str, bytes], events: list[tuple[int, bytes]], wall: float = WALL) -> str:
    past = Past(path)
    try:
        return past.save(bars, events, wall)
    finally:
        past.close()


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.db"
    assert kept(path) == Kept()
    assert save(path, {"c-1": b"one"}, [(1, b"a"), (2, b"b")]) == ""
    assert save(path, {"c-1": b"two", "c-2": b"x"}, [(3, b"c")]) == ""
    assert kept(path) == Kept({"c-1": b"two", "c-2": b"x"}, {1: b"a", 2: b"b", 3: b"c"})


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "BAR_ROWS", 3)
    monkeypatch.setattr(keeping, "EVENT_ROWS", 4)
    path = tmp_path / "dashboard.db"
    for number in range(10):
        save(path, {f"c-{number}": b"x"}, [(number, b"e")], WALL + number)
    with sqlite3.connect(path) as db:
        assert [name for (name,) in db.execute("SELECT name FROM bars ORDER BY name")] == ["c-7", "c-8", "c-9"]
        assert [number for (number,) in db.execute("SELECT number FROM events")] == [6, 7, 8, 9]
    db.close()


@pytest.mark.parametrize("what", ["damaged", "newer", "another"])
def test_a_file_that_cannot_be_used_is_set_aside_in_words(tmp_path: Path, what: str) -> None:
    path = tmp_path / "dashboard.db"
    save(path, {"c-1": b"one"}, [])
    if what == "damaged":
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    else:
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 2" if what == "newer" else "PRAGMA application_id = 7")
        db.close()
    before = path.read_bytes()
    found = kept(path)
    assert not found.bars
    assert found.why.endswith("it is dashboard.db.unusable now, and the past begins anew")
    assert (tmp_path / "dashboard.db.unusable").read_bytes() == before
    assert save(path, {"c-1": b"two"}, []) == ""
    assert kept(path).bars == {"c-1": b"two"}


def test_one_that_is_damaged_while_it_is_used_is_set_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.db"
    past = Past(path)
    assert past.save({"c-1": b"one"}, [], WALL) == ""
    past.close()
    path.write_bytes(b"nothing of the kind" * 300)
    assert "it is dashboard.db.unusable now" in past.save({"c-1": b"two"}, [], WALL)
    assert past.save({"c-1": b"two"}, [], WALL) == ""
    past.close()


def test_a_full_disk_costs_the_past_only_and_room_mends_it(tmp_path: Path) -> None:
    past = Past(tmp_path / "dashboard.db")
    assert past.save({"c-1": b"one"}, [], WALL) == ""
    assert past._db is not None
    past._db.execute("PRAGMA max_page_count = 5")
    assert past.save({"c-2": b"x" * 100_000}, [], WALL) == "database or disk is full"
    assert past.save({"c-2": b"x" * 100_000}, [], WALL) == "", "by a connection without that bound"
    assert past.load().bars.keys() == {"c-1", "c-2"}
    past.close()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "dashboard.db"
    assert kept(path).why
    assert save(path, {"c-1": b"x"}, [])
