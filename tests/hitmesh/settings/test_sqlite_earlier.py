"""Settings files of the release before there were other datacenters: they go on working, and that release can read ours."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hitmesh.settings import Edition
from hitmesh.settings.sqlite import SCHEMA, SqliteSettings


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A file as it was made then, with a setting in it."""
    path = tmp_path / "settings.db"
    added = SCHEMA[SCHEMA.index("CREATE TABLE deleted") :].partition(";")[0] + ";"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(SCHEMA.replace(added, ""))
        db.execute("INSERT INTO settings VALUES ('a', '1', 1, 'anna', 5.0)")
        db.execute("UPDATE last_change SET version = 4, key = 'b', author = 'anna', changed_at = 6.0, deleted = 1")
        assert not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'deleted'").fetchone()
    return path


def test_a_file_of_the_release_before_goes_on_working(earlier: Path) -> None:
    store = SqliteSettings(earlier)
    assert store.editions() == {"a": Edition("a", b"1", 1, "anna", 5.0)}
    assert store.delete("a", author="ben") is True
    assert store.editions()["a"].version == 5
    assert store.set("b", b"2", author="ben").version == 6


def test_a_file_of_the_release_before_can_be_watched(earlier: Path) -> None:
    with SqliteSettings(earlier).watch_editions() as watched:
        assert next(watched) == {"a": Edition("a", b"1", 1, "anna", 5.0)}


def test_what_the_release_before_sets_again_is_no_longer_deleted(tmp_path: Path) -> None:
    store = SqliteSettings(tmp_path / "settings.db")
    store.set("a", b"1", author="anna")
    store.delete("a", author="anna")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:  # it knows nothing of the other table
        db.execute("INSERT INTO settings VALUES ('a', '2', 3, 'ben', 7.0)")
        db.execute("UPDATE last_change SET version = 3")
    assert store.editions() == {"a": Edition("a", b"2", 3, "ben", 7.0)}
    assert store.merge([Edition("a", None, 2, "anna", 9.0)]) == 0
    assert store.delete("a", author="anna") is True
    assert store.editions()["a"].value is None
