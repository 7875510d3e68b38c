"""The past on disk: what a dashboard keeps over its restarts, in a SQLite file of its own.

Owns the file, and what becomes of one that can't be used: it is set aside, and said in words. Knows nothing of what is
in the records. Nothing here raises: without its past a dashboard shows the present all the same.

Bounded: a record for each of BAR_ROWS names and each of EVENT_ROWS events, so some 20 MB at most.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from hitmesh.dashboard.status import EVENTS
from hitmesh.hub.blocking import call_blocking
from hitmesh.store.sqlite_file import Kind, SqliteFile

BUSY_S: Final = 2.0  # another dashboard of this name, which is about to end
BAR_ROWS: Final = 4096
EVENT_ROWS: Final = EVENTS

SCHEMA: Final = """
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE bars (name TEXT PRIMARY KEY, body BLOB NOT NULL, told REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE events (number INTEGER PRIMARY KEY, body BLOB NOT NULL);
PRAGMA application_id = 1212764242;
PRAGMA user_version = 1;
COMMIT;
"""
KIND: Final = Kind("a dashboard's past", SCHEMA, application_id=1212764242, version=1)  # "HID" and a B in ASCII

T = TypeVar("T")


class Kept(Struct, frozen=True):
    """What was kept."""

    bars: Mapping[str, bytes] = {}
    events: Mapping[int, bytes] = {}
    why: str = ""  # what there was can't be used


class Past:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    def load(self) -> Kept:
        """All that was kept. What can't be used is moved out of the way first."""
        return call_blocking(self._load)

    def save(self, bars: Mapping[str, bytes], events: Sequence[tuple[int, bytes]], wall: float) -> str:
        """Keep these, besides what is kept; why that failed, or nothing."""
        return call_blocking(lambda: self._save(bars, events, wall))

    def close(self) -> None:
        """Close the file."""
        call_blocking(self._close)

    # --- in the thread that may block -----------------------------------------------------

    def _load(self) -> Kept:
        why = ""
        for _ in range(2):
            try:
                db = self._opened()
                bars = dict(db.execute("SELECT name, body FROM bars LIMIT ?", (BAR_ROWS,)).fetchall())
                events = dict(
                    db.execute("SELECT number, body FROM events ORDER BY number DESC LIMIT ?", (EVENT_ROWS,)).fetchall()
                )
                good = {name: body for name, body in bars.items() if isinstance(name, str) and isinstance(body, bytes)}
                return Kept(good, {number: body for number, body in events.items() if isinstance(body, bytes)}, why)
            except sqlite3.DatabaseError as error:
                self._close()
                if isinstance(error, sqlite3.OperationalError):  # busy, full, or not to be opened: it isn't to blame
                    return Kept(why=str(error))
                why = self._set_aside(str(error))
            except OSError as error:
                self._close()
                return Kept(why=error.strerror or str(error))
        return Kept(why=why)

    def _save(self, bars: Mapping[str, bytes], events: Sequence[tuple[int, bytes]], wall: float) -> str:
        try:
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT OR REPLACE INTO bars VALUES (?, ?, ?)", [(name, body, wall) for name, body in bars.items()]
            )
            db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?)", events)
            db.execute(
                "DELETE FROM bars WHERE name IN (SELECT name FROM bars ORDER BY told DESC LIMIT -1 OFFSET ?)",
                (BAR_ROWS,),
            )
            db.execute(
                "DELETE FROM events WHERE number <= (SELECT number FROM events ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (EVENT_ROWS,),
            )
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                return self._set_aside(str(error))
            return str(error)
        except OSError as error:
            self._close()
            return error.strerror or str(error)
        return ""

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._db, _ = SqliteFile(self.path, KIND, BUSY_S).open()
            # What a power failure takes is some seconds of bars, and no reason to sync each time.
            self._db.execute("PRAGMA synchronous = NORMAL")
        return self._db

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _set_aside(self, error: str) -> str:
        """Move the file out of the way; what became of it, in words."""
        aside = self.path.with_name(f"{self.path.name}.unusable")
        try:
            for suffix in ("", "-wal", "-shm"):
                file = self.path.with_name(self.path.name + suffix)
                if file.exists():
                    file.replace(aside.with_name(aside.name + suffix))
        except OSError as failure:
            return f"{self.path.name} can't be read ({error}) nor moved: {failure.strerror}"
        return f"{self.path.name} couldn't be read ({error}): it is {aside.name} now, and the past begins anew"
