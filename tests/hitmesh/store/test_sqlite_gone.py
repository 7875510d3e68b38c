"""The file of totals is removed, or another one put in its place, under a process that uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.store import Done, Refused, Row, Unknown, Write
from hitmesh.store import sqlite as sqlite_store_module
from hitmesh.store.sqlite import SqliteTotals
from hitmesh.store.sqlite_file import SqliteFile

ROWS = [Row("a/b", "eu", 3, 1)]


def remove(path: Path) -> None:
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        each.unlink(missing_ok=True)


def test_a_file_that_is_gone_is_neither_written_to_nor_made_anew(sqlite_store: SqliteTotals) -> None:
    (first,) = sqlite_store.write([Write(1, 0, b"one", ROWS)])
    assert isinstance(first, Done)
    remove(sqlite_store.path)
    (outcome,) = sqlite_store.write([Write(1, first.index, b"two", ROWS)])
    assert isinstance(outcome, Unknown)
    assert "the file is gone" in outcome.reason
    with pytest.raises(StoreUnknown, match="the file is gone"):
        sqlite_store.load(1)
    assert not sqlite_store.path.exists()


def test_a_file_in_its_place_is_another_one(sqlite_store: SqliteTotals) -> None:
    (first,) = sqlite_store.write([Write(1, 0, b"one", ROWS)])
    assert isinstance(first, Done)
    remove(sqlite_store.path)
    other = SqliteTotals(sqlite_store.path)
    assert other.load(1) == []
    assert sqlite_store.write([Write(1, first.index, b"two", ROWS)]) == [Refused()]
    assert sqlite_store.load(1) == []
    other.close()


def test_what_was_written_into_a_file_that_went_meanwhile_is_unknown(
    sqlite_store: SqliteTotals, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_store.check()
    apply = sqlite_store_module._apply

    def apply_and_remove(*arguments: object) -> object:
        remove(sqlite_store.path)
        return apply(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite_store_module, "_apply", apply_and_remove)
    (outcome,) = sqlite_store.write([Write(1, 0, b"one", ROWS)])
    assert isinstance(outcome, Unknown)


def test_a_log_without_its_file_is_not_taken_for_that_of_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "totals.db"
    before = SqliteTotals(path)
    before.write([Write(1, 0, b"one", ROWS)])
    assert Path(f"{path}-wal").stat().st_size > 0
    path.unlink()
    with pytest.raises(StoreUnknown, match=r"the file is gone, but totals\.db-wal is there"):
        SqliteTotals(path).load(1)
    before.close()


def test_a_file_that_goes_while_it_is_opened_is_not_made_anew_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "totals.db"
    SqliteTotals(path).check()
    identity = SqliteFile.identity

    def identity_and_remove(file: SqliteFile) -> tuple[int, int]:
        found = identity(file)
        file.path.unlink()
        return found

    monkeypatch.setattr(SqliteFile, "identity", identity_and_remove)
    with pytest.raises(StoreUnknown, match="unable to open"):
        SqliteTotals(path).check()
    assert not path.exists()
