"""What one settings file does when it is shared, locked, removed, replaced, or not ours."""

from __future__ import annotations

import logging
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.settings import Setting
from hitmesh.settings import sqlite as sqlite_settings
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.store.sqlite import SqliteTotals
from hitmesh.store.sqlite_file import SqliteFile
from tests.hitmesh.settings.conftest import Follow
from tests.services import START_S, require, wait_for

PUT = """
import os, sys
from pathlib import Path
from hitmesh.settings.sqlite import SqliteSettings
store = SqliteSettings(Path(sys.argv[1]), busy_timeout_s=30)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "settings.db"


@pytest.fixture
def store(path: Path) -> SqliteSettings:
    """A store that looks often."""
    return SqliteSettings(path, poll_s=0.02)


@pytest.fixture
def hasty(path: Path) -> SqliteSettings:
    """Another one, that waits for no lock for long."""
    return SqliteSettings(path, busy_timeout_s=0.3, poll_s=0.02)


@pytest.fixture
def other(path: Path, store: SqliteSettings) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection to the file."""
    store.check()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def put(store: SqliteSettings, value: str = "1", key: str = "routes/a") -> int:
    return store.set(key, value.encode(), author="anna").version


def remove(path: Path) -> None:
    """The file, its log and its index."""
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        each.unlink(missing_ok=True)


def test_a_file_that_is_removed_is_unknown_and_a_watch_keeps_the_last_known(
    store: SqliteSettings, path: Path, follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hitmesh.settings")
    put(store)
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    remove(path)
    assert "is gone" in following.wait_for_trouble()
    for call in (store.list, store.check, lambda: store.get("routes/a"), lambda: put(store)):
        with pytest.raises(StoreUnknown, match="is gone"):
            call()
    assert not path.exists()
    assert following.values() == [{"routes/a": "1"}]
    put(SqliteSettings(path), "2")  # a process that never saw one begins anew, and is followed
    following.wait_for({"routes/a": "2"})  # for a moment there may have been nothing
    assert put(store, "3") == 2
    following.wait_for({"routes/a": "2"}, {"routes/a": "3"})
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_file_that_comes_back_is_followed_and_not_handed_out_again(
    store: SqliteSettings, path: Path, follow: Follow
) -> None:
    put(store)
    aside = path.with_name("aside")
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    shutil.copytree(path.parent, aside)
    remove(path)
    following.wait_for_trouble()
    for each in aside.iterdir():
        each.rename(path.parent / each.name)
    following.wait_for_answers()
    put(store, "2")
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"})
    assert len(following.seen) == 2


def test_a_file_that_is_replaced_is_followed(store: SqliteSettings, path: Path, follow: Follow) -> None:
    put(store)
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    backup = path.with_name("backup.db")
    put(SqliteSettings(backup), "from a backup")
    backup.rename(path)
    following.wait_for({"routes/a": "1"}, {"routes/a": "from a backup"})


def test_a_log_without_its_file_is_never_taken_for_a_new_files(path: Path) -> None:
    code = PUT + 'watch = store.watch(); next(watch); store.set("a", b"old", author="anna"); os._exit(0)'
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert Path(f"{path}-wal").stat().st_size > 0
    path.unlink()
    with pytest.raises(StoreUnknown, match=r"is gone, but settings\.db-wal is there"):
        SqliteSettings(path).list()
    assert not path.exists()


def test_a_file_that_is_removed_while_it_is_opened_is_not_made_again_empty(
    store: SqliteSettings, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    identity = SqliteFile.identity

    def identity_and_remove(file: SqliteFile) -> tuple[int, int]:
        found = identity(file)
        remove(path)
        return found

    monkeypatch.setattr(SqliteFile, "identity", identity_and_remove)
    with pytest.raises(StoreUnknown, match="unable to open"):
        store.list()
    assert not path.exists()


def test_a_locked_file_makes_changes_unknown_and_nothing_else(
    store: SqliteSettings, hasty: SqliteSettings, other: sqlite3.Connection, follow: Follow
) -> None:
    put(store)
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnknown, match="locked"):
        put(hasty, "2")
    with pytest.raises(StoreUnknown, match="locked"):
        hasty.delete("routes/a", author="anna")
    assert store.list()["routes/a"].value == b"1"
    assert following.watch.trouble == ""
    other.execute("COMMIT")
    assert put(store, "2") == 2
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"})


def test_a_file_that_is_locked_whole_is_unknown_until_it_is_free(
    store: SqliteSettings, hasty: SqliteSettings, path: Path, follow: Follow
) -> None:
    put(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as owner:
        owner.execute("PRAGMA locking_mode = EXCLUSIVE")
        owner.execute("UPDATE settings SET value = 'by hand'")
        following = follow(hasty.watch())
        assert "locked" in following.wait_for_trouble()
        with pytest.raises(StoreUnknown):
            hasty.list()
    following.wait_for({"routes/a": "by hand"})
    assert len(following.seen) == 1


def test_a_watch_looks_again_well_before_the_second_that_a_change_may_take(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(sqlite_settings, "pause", waited.append)
    store = SqliteSettings(path)
    with store.watch() as watch:
        next(watch)
        put(store)
        assert list(next(watch)) == ["routes/a"]
    assert waited == [sqlite_settings.POLL_S]
    assert sqlite_settings.POLL_S <= 0.5


def test_a_value_that_was_set_by_hand_is_followed(
    store: SqliteSettings, other: sqlite3.Connection, follow: Follow
) -> None:
    put(store)
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    other.execute("UPDATE settings SET value = 'text' WHERE key = 'routes/a'")
    following.wait_for({"routes/a": "1"}, {"routes/a": "text"})


def test_a_change_that_is_made_while_a_watch_reads_is_not_missed(
    store: SqliteSettings, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = sqlite_settings._list
    meanwhile = [b"2"]

    def read_and_change(db: sqlite3.Connection, prefix: str) -> dict[str, Setting]:
        found = read(db, prefix)
        while meanwhile:
            store.set("routes/a", meanwhile.pop(), author="anna")
        return found

    put(store)
    monkeypatch.setattr(sqlite_settings, "_list", read_and_change)
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"}, {"routes/a": "2"})


def test_a_change_that_waits_for_a_lock_leaves_the_hub_free(path: Path) -> None:
    code = (
        PUT
        + """
import gevent, sqlite3
store.check()
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
def turn():
    for _ in range(20):
        gevent.sleep(0.01)
    other.execute("COMMIT")
gevent.spawn(turn)
assert store.set("a", b"v", author="anna").version == 1
"""
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=START_S)


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000], ids=["empty", "garbage"])
def test_a_file_that_holds_no_settings_is_unknown_and_left_alone(
    store: SqliteSettings, path: Path, content: bytes, follow: Follow
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for call in (store.list, store.check, lambda: store.get("routes/a"), lambda: put(store)):
        with pytest.raises(StoreUnknown):
            call()
    following = follow(store.watch())
    following.wait_for_trouble()
    assert following.seen == []
    assert path.read_bytes() == content


def test_a_file_that_is_cut_to_nothing_is_unknown_to_a_watch(store: SqliteSettings, path: Path, follow: Follow) -> None:
    put(store)
    following = follow(store.watch())
    following.wait_for({"routes/a": "1"})
    empty = path.with_name("empty")
    empty.touch()
    empty.rename(path)
    following.wait_for_trouble()
    assert len(following.seen) == 1


def test_a_totals_file_is_not_taken_for_one_of_settings(store: SqliteSettings, path: Path) -> None:
    totals = SqliteTotals(path)
    totals.check()
    with pytest.raises(StoreUnknown, match="not settings of version"):
        put(store)
    totals.check()
    totals.close()


def test_a_folder_that_can_not_be_made_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnknown):
        SqliteSettings(tmp_path / "file" / "settings.db").list()


def test_processes_that_start_at_once_and_race_lose_no_change(path: Path) -> None:
    code = (
        PUT
        + """
for number in range(10):
    store.set(f"p{os.getpid()}/{number}", b"v", author="anna")
"""
    )
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate(timeout=2 * START_S)[1], process.returncode) for process in processes] == [("", 0)] * 4
    found = SqliteSettings(path).list()
    assert sorted(setting.version for setting in found.values()) == list(range(1, 41))
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".new")] == []


def test_a_change_is_synced_before_it_is_reported(path: Path) -> None:
    code = (
        PUT
        + """
store.check()
os.write(1, b"before\\n")
store.set("a", b"v", author="anna")
os.write(1, b"after\\n")
"""
    )
    trace = path.parent.parent / "trace"
    command = [require("strace"), "-f", "-o", str(trace), "-e", "trace=fsync,fdatasync,write"]
    subprocess.run([*command, sys.executable, "-c", code, str(path)], check=True, capture_output=True)
    calls = re.findall(r'(fsync|fdatasync)\(|write\(1, "(before|after)', trace.read_text())
    order = "".join({"before": "<", "after": ">"}.get(mark, "s") for _, mark in calls)
    assert re.search("<s+>", order)


def test_a_watch_keeps_no_file_open_when_it_is_left(store: SqliteSettings, path: Path) -> None:
    def opened() -> list[str]:
        return [name for each in Path("/proc/self/fd").iterdir() if (name := _target(each)).startswith(str(path))]

    put(store)
    with store.watch() as watch:
        next(watch)
        assert opened()
    assert opened() == []
    watch = store.watch()
    next(watch)
    watch.stop()
    assert list(watch) == []
    wait_for(lambda: opened() == [], what="the file to be closed")


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # the folder's own, of a moment ago
        return ""
