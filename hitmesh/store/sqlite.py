"""The totals store in one SQLite file, shared by all processes of a datacenter on one machine.

Owns the file, its schema and its connections; knows nothing of what is in a head. WAL with
synchronous=FULL: a commit is on disk when it is reported. All writes of one call share one
transaction, and so one sync. Indexes come from one counter for the whole file, in the same
transaction, so that no head ever gets an index that any head has had.

A connection is used by one thread at a time: taken from a free list, or opened. The file is
opened with the first call, so a store may be made before a fork, but not used.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from hitmesh.errors import StoreUnknown
from hitmesh.hub.blocking import call_blocking
from hitmesh.store import Done, HeadAndRows, Outcome, Refused, Row, StoredHead, Unknown, Write
from hitmesh.store.limits import check_writes
from hitmesh.store.sqlite_file import Identity, Kind, SqliteFile

S = TypeVar("S")
T = TypeVar("T")
Raw = list[tuple[str, str, int, int]]

MAX_ROWS = 5000  # a redo of 4,096 rows fits, and the write lock is held for some 20 ms
MAX_WRITE_BYTES = 4 * 1024 * 1024  # as large as a frame; SQLite itself would take far more
BUSY_TIMEOUT_S = 5.0  # the write lock is held for milliseconds; who waits for this long waits for a stuck disk
MAX_FREE_CONNECTIONS = 4  # one call of each kind at a time is the rule; more are opened and closed again

SCHEMA = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE heads (partition INTEGER PRIMARY KEY, head_index INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE rows (
    partition INTEGER NOT NULL, page TEXT NOT NULL, dc TEXT NOT NULL,
    count INTEGER NOT NULL, commit_number INTEGER NOT NULL,
    PRIMARY KEY (partition, page, dc)
) WITHOUT ROWID;
CREATE TABLE last_index (value INTEGER NOT NULL);
INSERT INTO last_index VALUES (0);
PRAGMA user_version = 1;
COMMIT;
"""
KIND = Kind("totals", SCHEMA, application_id=0, version=1)
_SET_HEAD = "INSERT INTO heads VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET head_index = ?2, body = ?3"
_SET_ROW = """INSERT INTO rows VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET count = ?4, commit_number = ?5"""
_NEXT_INDEX = "UPDATE last_index SET value = value + 1 RETURNING value"


def _as_it_is(answer: Any) -> Any:
    return answer


class SqliteTotals:
    """A TotalsStore in the file `path`, which is made when it isn't there, unless it is `read_only`."""

    max_rows = MAX_ROWS
    max_write_bytes = MAX_WRITE_BYTES
    max_head_bytes = MAX_WRITE_BYTES

    def __init__(self, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S, read_only: bool = False) -> None:
        self.path = path
        self.place = float(crc32(os.fsencode(path.resolve())) or 1)
        self._file = SqliteFile(path, KIND, busy_timeout_s, read_only=read_only)
        self._free: deque[tuple[sqlite3.Connection, Identity]] = deque()

    def write(self, writes: Sequence[Write]) -> list[Outcome]:
        check_writes(writes, max_rows=MAX_ROWS, max_write_bytes=MAX_WRITE_BYTES, max_head_bytes=MAX_WRITE_BYTES)
        if not writes:
            return []
        return call_blocking(lambda: self._write(writes))

    def read_head(self, partition: int) -> StoredHead | None:
        return self._read(lambda db: _head(db, partition))

    def read(self, wanted: Mapping[int, Sequence[str]]) -> dict[int, HeadAndRows]:
        return self._read(lambda db: {at: (_head(db, at), list(_rows_of(db, at, wanted[at]))) for at in wanted})

    def load(self, partition: int) -> list[Row]:
        return self._read(lambda db: _rows(db, partition))

    def scan(self) -> Iterable[tuple[int, StoredHead | None, list[Row]]]:
        # A snapshot for each partition, not for all: a long one would keep the log from being checkpointed.
        present: list[int] = self._read(_partitions)
        for partition in present:
            yield partition, *self._read(partial(_raw_partition, partition=partition), _with_rows)

    def check(self) -> None:
        self._read(lambda db: db.execute("SELECT value FROM last_index").fetchone())

    def close(self) -> None:
        while self._free:
            self._free.pop()[0].close()

    def _write(self, writes: Sequence[Write]) -> list[Outcome]:
        try:
            with self._connection() as db:
                # The lock comes before the look at the indexes, so that nobody moves them in between.
                db.execute("BEGIN IMMEDIATE")
                outcomes = [_apply(db, write) for write in writes]
                db.execute("COMMIT")
                return outcomes
        except (sqlite3.Error, OSError) as error:
            # Locked or full: most likely nothing was written. But refused would mean that another
            # owner has moved the head, and an error in COMMIT leaves it open what the disk has.
            unknown = Unknown(f"SQLite: {error} ({self.path})")
            return [unknown for _ in writes]

    def _read(self, query: Callable[[sqlite3.Connection], S], finish: Callable[[S], T] = _as_it_is) -> T:
        """What `finish` makes of a query's answer, when the snapshot is given up: nobody waits for that."""

        def snapshot() -> T:
            with self._connection() as db:
                db.execute("BEGIN")
                answer = query(db)
                db.execute("COMMIT")
            return finish(answer)

        try:
            return call_blocking(snapshot)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnknown(f"SQLite: {error}", op="read totals", endpoint=str(self.path)) from error

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        db, identity = self._take()
        try:
            yield db
            self._file.check(identity)  # what went into a file that has been removed is nowhere
        except BaseException:
            db.close()  # rolls back, and leaves no half-done transaction to the next user
            raise
        if len(self._free) < MAX_FREE_CONNECTIONS:
            self._free.append((db, identity))
        else:
            db.close()

    def _take(self) -> tuple[sqlite3.Connection, Identity]:
        while True:
            try:
                db, identity = self._free.pop()  # atomic, where threads race for the last one
            except IndexError:
                return self._file.open()
            try:
                self._file.check(identity)
            except OSError:
                db.close()  # to a file that isn't there any more
            else:
                return db, identity


def _apply(db: sqlite3.Connection, write: Write) -> Outcome:
    head = _head(db, write.partition)
    if (head.index if head else 0) != write.index:
        return Refused()
    index = write.index
    if write.head is not None:
        index = db.execute(_NEXT_INDEX).fetchall()[0][0]
        db.execute(_SET_HEAD, (write.partition, index, write.head))
    db.executemany(_SET_ROW, ((write.partition, row.page, row.dc, row.count, row.commit) for row in write.rows))
    return Done(index)


def _head(db: sqlite3.Connection, partition: int) -> StoredHead | None:
    found = db.execute("SELECT body, head_index FROM heads WHERE partition = ?", (partition,)).fetchall()
    return StoredHead(*found[0]) if found else None


def _rows(db: sqlite3.Connection, partition: int) -> list[Row]:
    return [Row(*found) for found in _raw_rows(db, partition)]


def _raw_rows(db: sqlite3.Connection, partition: int) -> Raw:
    query = "SELECT page, dc, count, commit_number FROM rows WHERE partition = ?"
    return db.execute(query, (partition,)).fetchall()


def _raw_partition(db: sqlite3.Connection, partition: int) -> tuple[StoredHead | None, Raw]:
    return _head(db, partition), _raw_rows(db, partition)


def _with_rows(read: tuple[StoredHead | None, Raw]) -> HeadAndRows:
    head, raw = read
    return head, [Row(*found) for found in raw]


def _rows_of(db: sqlite3.Connection, partition: int, pages: Sequence[str]) -> Iterator[Row]:
    query = "SELECT page, dc, count, commit_number FROM rows WHERE partition = ? AND page = ?"
    for page in dict.fromkeys(pages):
        for found in db.execute(query, (partition, page)):
            yield Row(*found)


def _partitions(db: sqlite3.Connection) -> list[int]:
    query = "SELECT partition FROM heads UNION SELECT DISTINCT partition FROM rows ORDER BY 1"
    return [partition for (partition,) in db.execute(query)]
