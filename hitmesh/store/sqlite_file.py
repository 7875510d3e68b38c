"""A SQLite file of ours: how it is made and opened, and how one that is gone is told from a new one.

Invariants:
- The file is made whole or not at all, and only where this process has seen none before: one that was
  there and is gone isn't an empty one. Nor is one of which only the log is left, which SQLite
  would take for the log of a new file.
- Nothing but a file of the same kind is ever written to.
- Whoever only reads writes nothing: it makes no file, and the log is others' to be put into the file.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

Identity = tuple[int, int]
"""Device and inode: what tells a file from one put in its place."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is in a file: its schema, and the application_id and user_version that the schema sets."""

    what: str
    schema: str
    application_id: int
    version: int
    later: str = ""
    """Statements that do no harm where they have been carried out: what files made earlier may lack."""


class SqliteFile:
    """The file at `path`, and whether it has ever been seen."""

    def __init__(self, path: Path, kind: Kind, busy_timeout_s: float, *, read_only: bool = False) -> None:
        self.path = path
        self._kind = kind
        self._busy_timeout_s = busy_timeout_s
        self._read_only = read_only
        self._seen = False

    def identity(self) -> Identity:
        """Of the file that is there now. Raises OSError."""
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise self._gone() from error
        return found.st_dev, found.st_ino

    def check(self, identity: Identity) -> None:
        """Raise OSError when `identity` isn't that of the file that is there now."""
        if self.identity() != identity:
            raise OSError(errno.ESTALE, "another file was put in its place", str(self.path))

    def open(self) -> tuple[sqlite3.Connection, Identity]:
        """A new connection, and the file that it is to. Raises OSError and sqlite3.Error."""
        log = self.path.with_name(f"{self.path.name}-wal")
        log_is_there = log.exists()  # asked first: a file that others are making now is there before its log
        if not self.path.exists():
            if self._seen or self._read_only:
                raise self._gone()
            if log_is_there:
                raise self._gone(f", but {log.name} is there")
            _create(self.path, self._kind.schema)
        identity = self.identity()
        # mode=rw: a file that is removed at this moment is not made again, empty.
        db = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={'ro' if self._read_only else 'rw'}",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if not self._read_only:
                db.execute("PRAGMA synchronous = FULL")
            self._check_kind(db)
            if self._kind.later and not self._read_only:
                db.execute(self._kind.later)
            self.check(identity)
        except BaseException:
            db.close()
            raise
        self._seen = True
        return db, identity

    def _check_kind(self, db: sqlite3.Connection) -> None:
        found = [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if found != [self._kind.application_id, self._kind.version]:
            raise sqlite3.DatabaseError(f"not {self._kind.what} of version {self._kind.version}")

    def _gone(self, more: str = "") -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, f"the file is gone{more}", str(self.path))


def _create(path: Path, schema: str) -> None:
    # Made under another name and linked: two processes that start at once can't meet in the
    # middle of it, and a file that was half made when the power went is never taken for one.
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.new")
    try:
        db = sqlite3.connect(draft, isolation_level=None)
        try:
            db.executescript(schema)
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
