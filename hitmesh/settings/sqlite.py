"""The settings store in one SQLite file, shared by all processes of a datacenter on one machine.

Owns what is read and written in the file; knows nothing of what a setting means. WAL with
synchronous=FULL: a change is on disk when it is reported. Versions come from one counter for the
whole file, in the same transaction.

Changes are made by people and are few: each call opens the file and closes it again. A watch
keeps it open, and asks several times a second whether anybody has written to it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, Generic, TypeVar

from hitmesh.errors import StoreUnknown
from hitmesh.hub.blocking import call_blocking
from hitmesh.settings import Edition, Setting, limits, merging
from hitmesh.settings.watch import E, Watch, pause
from hitmesh.store.sqlite_file import Identity, Kind, SqliteFile

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 2.0  # a change holds the write lock for milliseconds
POLL_S: Final = 0.2  # a look takes some microseconds, and a change has a second to be everywhere

SCHEMA: Final = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE settings (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, author TEXT NOT NULL, changed_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE last_change (
    version INTEGER NOT NULL, key TEXT NOT NULL, author TEXT NOT NULL, changed_at REAL NOT NULL, deleted INTEGER NOT NULL
);
INSERT INTO last_change VALUES (0, '', '', 0, 0);
CREATE TABLE deleted (
    key TEXT PRIMARY KEY, version INTEGER NOT NULL, author TEXT NOT NULL, changed_at REAL NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = 1752003444;
PRAGMA user_version = 1;
COMMIT;
"""

KIND: Final = Kind(
    "settings",
    SCHEMA,
    application_id=0x686D7374,  # "hmst"; other files of ours also have a user_version of 1
    version=1,
    # What a file that was made before there were other datacenters lacks. Its older readers don't mind.
    later=SCHEMA[SCHEMA.index("CREATE TABLE deleted") : SCHEMA.index("PRAGMA application_id")].replace(
        "CREATE TABLE", "CREATE TABLE IF NOT EXISTS"
    ),
)

# The cast: a value that was set by hand may be TEXT.
_GET: Final = "SELECT key, CAST(value AS BLOB), version, author, changed_at FROM settings WHERE key = ?"
_LIST: Final = """SELECT key, CAST(value AS BLOB), version, author, changed_at
    FROM settings WHERE substr(key, 1, ?) = ? ORDER BY key"""
# A key that an older release set again stands in both tables, with the higher version where it is set.
_EDITIONS: Final = """SELECT key, CAST(value AS BLOB), version, author, changed_at FROM settings
    UNION ALL SELECT key, NULL, version, author, changed_at FROM deleted
        WHERE NOT EXISTS (SELECT 1 FROM settings WHERE settings.key = deleted.key AND settings.version >= deleted.version)
    ORDER BY key, version"""
_NEXT_VERSION: Final = """UPDATE last_change
    SET version = version + 1, key = ?, author = ?, changed_at = ?, deleted = ? RETURNING version"""
_SET: Final = """INSERT INTO settings VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET value = ?2, version = ?3, author = ?4, changed_at = ?5"""
_DELETED: Final = "INSERT OR REPLACE INTO deleted VALUES (?, ?, ?, ?)"
_MERGED: Final = """UPDATE last_change
    SET version = ?1, key = ?2, author = ?3, changed_at = ?4, deleted = ?5 WHERE version < ?1"""


class SqliteSettings:
    """A SettingsStore in the file `path`, which is made when there never was one."""

    def __init__(self, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S, poll_s: float = POLL_S) -> None:
        self.path = path
        self.endpoint = str(path)
        self._file = SqliteFile(path, KIND, busy_timeout_s)
        self._poll_s = poll_s

    def get(self, key: str) -> Setting | None:
        limits.check_key(key)
        return self._run(f"read {key}", lambda db: _get(db, key))

    def list(self, prefix: str = "") -> Mapping[str, Setting]:
        limits.check_prefix(prefix)
        return self._run("list settings", lambda db: _list(db, prefix))

    def editions(self) -> Mapping[str, Edition]:
        return self._run("list settings", _editions)

    def set(self, key: str, value: bytes, *, author: str, expect_version: int | None = None) -> Setting:
        limits.check_key(key)
        limits.check_value(key, value)
        limits.check_author(author)

        def write(db: sqlite3.Connection) -> Setting:
            # The lock comes before the look at the version, so that nobody changes it in between.
            db.execute("BEGIN IMMEDIATE")
            limits.check_version(key, _get(db, key), expect_version, self.endpoint)
            now = time.time()
            version = db.execute(_NEXT_VERSION, (key, author, now, False)).fetchall()[0][0]
            _write(db, Edition(key, value, version, author, now))
            db.execute("COMMIT")
            return Setting(key, value, version, author, now)

        return self._run(f"set {key}", write, hint="read it before trying again: it may have been written")

    def delete(self, key: str, *, author: str, expect_version: int | None = None) -> bool:
        limits.check_key(key)
        limits.check_author(author)

        def remove(db: sqlite3.Connection) -> bool:
            db.execute("BEGIN IMMEDIATE")
            found = _get(db, key)
            limits.check_version(key, found, expect_version, self.endpoint)
            if found is not None:
                now = time.time()
                version = db.execute(_NEXT_VERSION, (key, author, now, True)).fetchall()[0][0]
                _write(db, Edition(key, None, version, author, now))
            db.execute("COMMIT")
            return found is not None

        return self._run(f"delete {key}", remove, hint="read it before trying again: it may have been deleted")

    def merge(self, editions: Iterable[Edition]) -> int:
        given = list(editions)
        for each in given:
            limits.check_edition(each)

        def write(db: sqlite3.Connection) -> int:
            db.execute("BEGIN IMMEDIATE")
            newer = merging.newer(given, _editions(db))
            for each in newer:
                _write(db, each)
            if newer:
                last = merging.highest(newer)
                deleted = last.value is None
                db.execute(_MERGED, (last.version, last.key, last.author, last.changed_at, deleted))
            db.execute("COMMIT")
            return len(newer)

        return self._run("merge settings", write, hint="some may have been written")

    def watch(self, prefix: str = "") -> Watch[Setting]:
        limits.check_prefix(prefix)
        return Watch(_Polling(self._file, lambda db: _list(db, prefix), self._poll_s), self.endpoint)

    def watch_editions(self) -> Watch[Edition]:
        return Watch(_Polling(self._file, _editions, self._poll_s), self.endpoint)

    def check(self) -> None:
        self._run("read settings", lambda db: db.execute("SELECT version FROM last_change").fetchone())

    def close(self) -> None:
        pass  # nothing is kept open between calls

    def _run(self, op: str, work: Callable[[sqlite3.Connection], T], hint: str = "") -> T:
        def opened() -> T:
            with closing(self._file.open()[0]) as db:  # a transaction that didn't end is rolled back
                return work(db)

        try:
            return call_blocking(opened)
        except (sqlite3.Error, OSError) as error:
            raise _unknown(error, op, self.endpoint, hint) from error


class _Polling(Generic[E]):
    """The source of a watch: a connection of its own, whose data_version moves when another one commits."""

    def __init__(self, file: SqliteFile, read: Callable[[sqlite3.Connection], Mapping[str, E]], poll_s: float) -> None:
        self._file = file
        self._read = read
        self._poll_s = poll_s
        self._db: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._data_version = 0  # never one of SQLite's

    def look(self) -> Mapping[str, E] | None:
        if self._db is not None:
            pause(self._poll_s)
        try:
            return call_blocking(self._poll)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise _unknown(error, "watch settings", str(self._file.path)) from error

    def interrupt(self) -> None:
        pass  # the next look is soon

    def close(self) -> None:
        if self._db is not None:
            call_blocking(self._db.close)  # the last one to close a file writes its log back
            self._db = None

    def _poll(self) -> Mapping[str, E] | None:
        if self._db is None or self._file.identity() != self._identity:
            self.close()  # another file has taken its place
            self._db, self._identity = self._file.open()
            self._data_version = 0
        # Before the reading: what is committed between the two is read, and again at the next look.
        data_version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if data_version == self._data_version:
            return None
        found = self._read(self._db)
        self._data_version = data_version
        return found


def _unknown(error: Exception, op: str, endpoint: str, hint: str = "") -> StoreUnknown:
    # An error before COMMIT left nothing behind, one in COMMIT may have: not worth two answers to a person.
    return StoreUnknown(f"SQLite: {error}", op=op, endpoint=endpoint, hint=hint)


def _get(db: sqlite3.Connection, key: str) -> Setting | None:
    found = db.execute(_GET, (key,)).fetchall()
    return Setting(*found[0]) if found else None


def _list(db: sqlite3.Connection, prefix: str) -> dict[str, Setting]:
    return {row[0]: Setting(*row) for row in db.execute(_LIST, (len(prefix), prefix))}


def _editions(db: sqlite3.Connection) -> dict[str, Edition]:
    # Of two with the same version the later one, in the order of _EDITIONS, is the setting.
    return {row[0]: Edition(*row) for row in db.execute(_EDITIONS)}


def _write(db: sqlite3.Connection, edition: Edition) -> None:
    """Put an edition in place of what there is of its key."""
    key, value = edition.key, edition.value
    made = (edition.version, edition.author, edition.changed_at)
    if value is None:
        db.execute("DELETE FROM settings WHERE key = ?", (key,))
        db.execute(_DELETED, (key, *made))
    else:
        db.execute("DELETE FROM deleted WHERE key = ?", (key,))
        db.execute(_SET, (key, value, *made))
