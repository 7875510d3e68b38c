"""The SQLite file of a settings store: its schema, how it is made, and how one that is gone is told from a new one.

Invariants:
- The file is made whole or not at all, and only where none has been seen before: one that was
  there and is gone isn't an empty one. Nor is one of which only the log is left, which SQLite
  would take for the log of a new file.
- Nothing but a settings file is ever written to.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

SCHEMA_VERSION: Final = 1  # the user_version that the schema below sets
APPLICATION_ID: Final = 0x686D7374  # "hmst"; other files of ours also have a user_version of 1

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

# What a file that was made before there were other datacenters lacks. Its older readers don't mind.
_ADDED: Final = SCHEMA[SCHEMA.index("CREATE TABLE deleted") : SCHEMA.index("PRAGMA application_id")].replace(
    "CREATE TABLE", "CREATE TABLE IF NOT EXISTS"
)

Identity = tuple[int, int]
"""Device and inode: what tells a file from one put in its place."""


class SettingsFile:
    """The file at `path`, and whether it has ever been seen."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._seen = False

    def identity(self) -> Identity:
        """Of the file that is there now. Raises OSError."""
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise self._gone() from error
        return found.st_dev, found.st_ino

    def open(self) -> tuple[sqlite3.Connection, Identity]:
        """A new connection, and the file that it is to. Raises OSError and sqlite3.Error."""
        log = self.path.with_name(f"{self.path.name}-wal")
        log_is_there = log.exists()  # asked first: a file that others are making now is there before its log
        if not self.path.exists():
            if self._seen:
                raise self._gone()
            if log_is_there:
                raise self._gone(f", but {log.name} is there")
            _create(self.path)
        identity = self.identity()
        # mode=rw: a file that is removed at this moment is not made again, empty.
        db = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            db.execute("PRAGMA synchronous = FULL")
            kind = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            if kind != [APPLICATION_ID, SCHEMA_VERSION]:
                raise sqlite3.DatabaseError(f"not settings of version {SCHEMA_VERSION}")
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'deleted'").fetchone():
                db.execute(_ADDED)
            if self.identity() != identity:
                raise OSError(errno.ESTALE, "the file was replaced while it was opened", str(self.path))
        except BaseException:
            db.close()
            raise
        self._seen = True
        return db, identity

    def _gone(self, more: str = "") -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, f"the file is gone{more}", str(self.path))


def _create(path: Path) -> None:
    # Made under another name and linked: two processes that start at once can't meet in the
    # middle of it, and a file that was half made when the power went is never taken for one.
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.new")
    try:
        db = sqlite3.connect(draft, isolation_level=None)
        try:
            db.executescript(SCHEMA)
        finally:
            db.close()
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name is a part of what has to survive
        finally:
            os.close(folder)
    finally:
        for leftover in (draft, Path(f"{draft}-wal"), Path(f"{draft}-shm")):
            leftover.unlink(missing_ok=True)
