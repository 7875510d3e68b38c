"""SQLite's files on a disk without room: whoever opens one, uses one or makes one is refused, and served later."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hitmesh.errors import HitmeshError
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.spool.sqlite import SqliteSpool
from hitmesh.store import Done, Write
from hitmesh.store.sqlite import SqliteTotals
from tests.services.disks import full, small_disk

BULK = b"x" * 60_000  # more than is left in a file's own last pages


def put(path: Path) -> Callable[[], bool]:
    spool = SqliteSpool(path, claim_s=60, longest_delay_s=60)
    return lambda: spool.put(BULK, 0) is not None


def commit(path: Path) -> Callable[[], bool]:
    store = SqliteTotals(path)

    def write() -> bool:
        head = store.read_head(1)
        (outcome,) = store.write([Write(1, head.index if head else 0, BULK, [])])
        return isinstance(outcome, Done)

    return write


def change(path: Path) -> Callable[[], bool]:
    settings = SqliteSettings(path)
    return lambda: settings.set("a", BULK, author="me").value == BULK


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "2m") as folder:
        yield folder


def is_done(work: Callable[[], bool]) -> bool:
    try:
        return work()
    except HitmeshError as error:
        print(error, file=sys.stderr)
        return False


@pytest.mark.parametrize("make", [put, commit, change])
@pytest.mark.parametrize("when", ["in use", "opened", "made"])
def test_a_full_disk_refuses_and_heals(disk: Path, make: Callable[[Path], Callable[[], bool]], when: str) -> None:
    path = disk / "a.db"
    work = make(path)
    if when != "made":
        assert is_done(work)
    if when == "opened":
        work = make(path)  # as a process that was started again
    with full(disk):
        assert not is_done(work)
        assert not is_done(work)
    assert is_done(work)
    assert is_done(make(path)), "and so is everybody else"
