"""The embedded spool: one SQLite file that all collectors of a datacenter on this machine share.

Owns the file and its one table. Knows nothing of batches, nor of other spools.

Invariants:
- WAL with synchronous=FULL: a transaction's frames are synced before COMMIT returns. Deletes are
  as durable as puts, because a worker closes its lanes on the word of `done`.
- The connection is used by one call at a time, in gevent's thread pool where the process is
  monkey-patched and in the calling thread elsewhere; the hub never waits for the disk.
- Puts and deletes that wait for their turn share the next transaction, and so its sync. Nobody waits for others to come.
- A job's id carries the file's tag, so that the id of a file that was replaced deletes nothing in
  the new one.

Opened at the first call: make it before a fork if you like, but don't use it before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from gevent import monkey

from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.hub.blocking import call_blocking
from hitmesh.hub.fair import FairLock
from hitmesh.spool import CLAIMED, READY, Claimed, CopyStats, Held, JobId, given_out, never_given_out

T = TypeVar("T")

BUSY_S: Final = 2.0  # for another process's transaction; theirs take milliseconds
LOG_PAUSE_S: Final = 0.005  # before a new file is asked again to keep a log
RECENT_S: Final = 1.0  # for which a refused put makes the spool unhealthy; a balancer looks more often
DELETES_A_TRANSACTION: Final = 500  # the file is locked meanwhile, and the other processes' puts wait
SHARES: Final = 64  # puts and deletes of one transaction; the file is locked meanwhile, as above
LISTED_AT_ONCE: Final = 100  # jobs of up to 4 MiB held by `jobs`

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given out twice
    ready_at REAL NOT NULL,                -- claimable from then on; wall clock, seconds since 1970
    claims INTEGER NOT NULL DEFAULT 0,
    buried INTEGER NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_ready ON jobs (ready_at) WHERE buried = 0;
"""
# A ready_at beyond what any delay or claim could set comes from a clock that was put back since.
_CLAIM: Final = """
UPDATE jobs SET ready_at = :now + :claim_s, claims = claims + 1 WHERE id IN (
    SELECT id FROM jobs WHERE buried = 0 AND (ready_at <= :now OR ready_at > :now + :longest_s)
    ORDER BY ready_at LIMIT :limit
) RETURNING id, CAST(body AS BLOB), claims  -- whatever somebody has put there by hand
"""
STATS: Final = """
SELECT count(*) FILTER (WHERE buried = 0 AND claims = 0 AND ready_at > :now),
       count(*) FILTER (WHERE buried = 0 AND ready_at <= :now),
       count(*) FILTER (WHERE buried = 0 AND claims > 0 AND ready_at > :now),
       count(*) FILTER (WHERE buried = 1)
FROM jobs
"""


_HELD: Final = """
SELECT id, CASE WHEN buried THEN 'buried' WHEN ready_at <= :now THEN 'ready' WHEN claims THEN 'claimed' ELSE 'waiting' END,
       claims, CAST(body AS BLOB) FROM jobs
"""


@dataclass(frozen=True, slots=True)
class _Id:
    file: int  # the tag that its file got when it was made
    row: int

    def __str__(self) -> str:
        return str(self.row)


@dataclass(frozen=True, slots=True)
class _File:
    """The open file: its connection, its tag, and what tells it from one put in its place."""

    connection: sqlite3.Connection
    tag: int
    inode: tuple[int, int]


class _Share:
    """One call's part of a transaction, and what became of it."""

    def __init__(self, work: Callable[[_File], object]) -> None:
        self.work = work
        self.is_over = False
        self.answer: Any = None
        self.error: Exception | None = None

    def result(self) -> Any:
        """What its work returned, or why it isn't done: raised."""
        if self.error is not None:
            raise self.error
        return self.answer


def is_spool(path: Path) -> bool:
    """Whether a file is one of ours. Makes and changes nothing. Raises OSError when it can't be read."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
        ) as found:
            columns = {row[1] for row in found.execute("PRAGMA table_info(jobs)")}
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return False
        raise OSError(str(error)) from error
    return {"id", "ready_at", "claims", "buried", "body"} <= columns


class SqliteSpool:
    """A Spool in one SQLite file.

    A claimed job belongs to its claimer for `claim_s`; no put's delay is above `longest_delay_s`.
    """

    def __init__(self, path: Path, *, claim_s: float, longest_delay_s: float) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path
        self._claim_s = claim_s
        self._longest_s = max(claim_s, longest_delay_s) + 1.0  # a second for clocks that are being slewed
        self._file: _File | None = None
        self._seen = False  # whether it was ever open here
        self._refused: tuple[float, str] | None = None  # when (monotonic) the last put was refused, and why
        self._turn = FairLock()
        self._shares: deque[_Share] = deque()  # what waits for the next transaction
        # A greenlet that is killed while its call runs in the pool gives up its turn, but the call
        # goes on: only a lock of real threads keeps the next call from the connection till then.
        self._native = monkey.get_original("_thread", "allocate_lock")()

    # --- the interface --------------------------------------------------------------------

    def put(self, body: bytes, delay_s: float) -> JobId:
        """Store a job, synced; see Spool.put. Refused when it was rolled back for certain."""
        try:
            job: JobId = self._share(lambda file: _put(file, body, delay_s))
        except SpoolRefused as error:
            self._refused = (time.monotonic(), error.message)
            raise
        self._refused = None
        return job

    def done(self, ids: Sequence[JobId]) -> list[bool]:
        """Delete jobs, many in a transaction; see Spool.done. All False where the file can't be written."""
        deleted: list[bool] = []
        for start in range(0, len(ids), DELETES_A_TRANSACTION):
            some = ids[start : start + DELETES_A_TRANSACTION]
            try:
                deleted += self._share(lambda file, some=some: _done(file, some))  # type: ignore[misc]
            except (SpoolRefused, SpoolUnknown):
                deleted += [False] * len(some)  # they come back by `claim`, and are known by their lanes
        return deleted

    def claim(self, limit: int) -> list[Claimed]:
        """Jobs whose time has come, the oldest first; none where the file can't be written."""
        try:
            return self._call(lambda: self._claim(limit))
        except (SpoolRefused, SpoolUnknown):
            return []

    def bury(self, id: JobId) -> None:
        """Set a claimed job aside; see Spool.bury. Raises SpoolRefused or SpoolUnknown when it can't be written."""
        self._call(lambda: self._bury(id))

    def check(self) -> None:
        """Raise SpoolRefused when the last put was refused a moment ago, or the file can't be opened."""
        refused = self._refused
        if refused and time.monotonic() - refused[0] < RECENT_S:
            raise SpoolRefused(refused[1], op="check", endpoint=self.url)
        self._call(lambda: self._opened().connection.execute("SELECT 1").fetchone())

    def stats(self) -> list[CopyStats]:
        """The file's jobs by state; see Spool.stats."""
        try:
            self.check()
            counts = self._call(lambda: self._opened().connection.execute(STATS, {"now": time.time()}).fetchone())
        except (SpoolRefused, SpoolUnknown) as error:
            return [CopyStats(self.url, False, error.message, 0, 0, 0, 0)]
        return [CopyStats(self.url, True, "", *counts)]

    def jobs(self) -> Iterator[tuple[bool, int, bytes]]:
        """Every job in the file, as (buried, claims, body), in the order of their puts; changes nothing.

        For the audit. Jobs put or deleted meanwhile may be in it or not. Raises SpoolRefused.
        """
        after = 0
        while True:
            rows = self._call(lambda after=after: self._list(after))  # type: ignore[misc]
            if not rows:
                return
            for row, buried, claims, body in rows:
                yield bool(buried), claims, body
                after = row

    def held(self, limit: int, *, only_buried: bool = False) -> list[Held]:
        """The first jobs by their puts; see Copy.held."""
        query = _HELD + ("WHERE buried " if only_buried else "") + "ORDER BY id LIMIT :limit"
        values = {"now": time.time(), "limit": limit}
        rows = self._call(lambda: self._opened().connection.execute(query, values).fetchall())
        return [Held(*row) for row in rows]

    def find(self, number: int) -> Held | None:
        """One job; see Copy.find."""
        values = {"now": time.time(), "id": number}
        row = self._call(lambda: self._opened().connection.execute(_HELD + "WHERE id = :id", values).fetchone())
        return Held(*row) if row else None

    def kick(self, number: int) -> bool:
        """Make a job claimable that was claimed before; see Copy.kick."""
        if self._call(lambda: self._kick(number)):
            return True
        held = self.find(number)
        if held is None or held.state == READY:
            return held is not None
        raise never_given_out(number, "kick", self.url)

    def delete(self, held: Held) -> bool:
        """Delete a job that was claimed before, and isn't now; see Copy.delete."""
        if self._call(lambda: self._delete(held)):
            return True
        now = self.find(held.number)
        if now is None or now.body != held.body:
            return False
        if now.state == CLAIMED:
            raise given_out(held.number, "delete", self.url)
        raise never_given_out(held.number, "delete", self.url)

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._run(self._close)

    # --- in the thread that may block -----------------------------------------------------

    def _write_shares(self) -> None:
        """What waits now, in one transaction. It isn't over before all of it is settled, whoever waits."""
        shares = [self._shares.popleft() for _ in range(min(len(self._shares), SHARES))]
        error = self._write(shares) if shares else None
        for share in shares:
            # All was rolled back. A put that finds no room shall not keep deletes from making some.
            share.error = self._write([share]) if len(shares) > 1 and _is_full(error) else error
            share.is_over = True

    def _write(self, shares: Sequence[_Share]) -> Exception | None:
        try:
            file = self._opened()
            with _Transaction(file.connection, "put", self.url):
                for share in shares:
                    share.answer = share.work(file)
        except Exception as error:  # noqa: BLE001 - each caller raises it
            return error
        return None

    def _claim(self, limit: int) -> list[Claimed]:
        file = self._opened()
        now = time.time()
        values = {"now": now, "claim_s": self._claim_s, "longest_s": self._longest_s, "limit": limit}
        # Most looks find nothing: see that without a write lock, which would hold up the puts.
        ready = "SELECT 1 FROM jobs WHERE buried = 0 AND (ready_at <= :now OR ready_at > :now + :longest_s) LIMIT 1"
        if file.connection.execute(ready, values).fetchone() is None:
            return []
        with _Transaction(file.connection, "claim", self.url):
            rows = file.connection.execute(_CLAIM, values).fetchall()
        return [Claimed(_Id(file.tag, row), body, claims) for row, body, claims in sorted(rows)]

    def _bury(self, id: JobId) -> None:
        assert isinstance(id, _Id)
        file = self._opened()
        if id.file == file.tag:
            with _Transaction(file.connection, "bury", self.url):
                file.connection.execute("UPDATE jobs SET buried = 1 WHERE id = ?", (id.row,))

    def _kick(self, number: int) -> bool:
        connection = self._opened().connection
        query = "UPDATE jobs SET buried = 0, ready_at = ? WHERE id = ? AND (buried = 1 OR claims > 0) RETURNING id"
        with _Transaction(connection, "kick", self.url):
            found = connection.execute(query, (time.time(), number)).fetchall()
        return bool(found)

    def _delete(self, held: Held) -> bool:
        connection = self._opened().connection
        query = (
            "DELETE FROM jobs WHERE id = ? AND CAST(body AS BLOB) = ? "
            "AND (buried = 1 OR (claims > 0 AND ready_at <= ?)) RETURNING id"
        )
        with _Transaction(connection, "delete", self.url):
            found = connection.execute(query, (held.number, held.body, time.time())).fetchall()
        return bool(found)

    def _list(self, after: int) -> list[tuple[int, int, int, bytes]]:
        query = "SELECT id, buried, claims, CAST(body AS BLOB) FROM jobs WHERE id > ? ORDER BY id LIMIT ?"
        return self._opened().connection.execute(query, (after, LISTED_AT_ONCE)).fetchall()

    def _opened(self) -> _File:
        """The file, opened when it isn't, and anew when another one has taken its place."""
        file = self._file
        if file is not None:
            # A file that was removed goes on taking writes that nobody will ever read.
            try:
                found = self._path.stat()
                if (found.st_dev, found.st_ino) == file.inode:
                    return file
            except FileNotFoundError:
                pass
            self._close()
        if not self._seen:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        elif not self._path.parent.is_dir():
            # It was moved away with all that is in it: in a new one nobody would ever look for what is spooled.
            raise FileNotFoundError(errno.ENOENT, "its folder was moved or removed", str(self._path.parent))
        connection = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        try:
            _keep_a_log(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            tag = connection.execute("PRAGMA user_version").fetchone()[0]
            if not tag:
                tag = int.from_bytes(os.urandom(4)) >> 1 or 1
                connection.execute(f"PRAGMA user_version = {tag}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        found = self._path.stat()
        self._file = _File(connection, tag, (found.st_dev, found.st_ino))
        self._seen = True
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.connection.close()
            self._file = None

    # --- how a call gets there ------------------------------------------------------------

    def _share(self, work: Callable[[_File], T]) -> T:
        """What `work` returns, carried out in the next transaction and synced."""
        share = _Share(work)
        self._shares.append(share)
        with self._turn:
            while not share.is_over:
                self._in_thread(self._write_shares)
        answer: T = self._judged(share.result)
        return answer

    def _call(self, call: Callable[[], T]) -> T:
        return self._judged(lambda: self._run(call))

    def _judged(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except sqlite3.Error as error:  # outside of a transaction, or before its commit: nothing is written
            raise SpoolRefused(str(error), op="spool", endpoint=self.url, hint=_hint(error)) from error
        except OSError as error:
            raise SpoolRefused(error.strerror or str(error), op="open", endpoint=self.url) from error

    def _run(self, call: Callable[[], T]) -> T:
        with self._turn:
            return self._in_thread(call)

    def _in_thread(self, call: Callable[[], T]) -> T:
        if monkey.is_module_patched("threading"):
            return call_blocking(lambda: self._alone(call))
        return self._alone(call)

    def _alone(self, call: Callable[[], T]) -> T:
        with self._native:
            return call()


class _Transaction:
    """BEGIN IMMEDIATE to COMMIT; says of a failure whether it left something behind."""

    def __init__(self, connection: sqlite3.Connection, op: str, url: str) -> None:
        self._connection = connection
        self._op = op
        self._url = url

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._roll_back()  # only the connection's memory held it
            return
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as failure:
            rolled_back = self._roll_back()
            # A full disk stops before the commit's own frame is whole, so recovery drops the rest.
            # After any other error, such as a failed sync, that frame may be in the log, and a
            # recovery after a crash would find it.
            certain = rolled_back and failure.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
            raised = SpoolRefused if certain else SpoolUnknown
            raise raised(str(failure), op=self._op, endpoint=self._url, hint=_hint(failure)) from failure

    def _roll_back(self) -> bool:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True


def _put(file: _File, body: bytes, delay_s: float) -> JobId:
    query = "INSERT INTO jobs (ready_at, body) VALUES (?, ?)"
    row = file.connection.execute(query, (time.time() + delay_s, body)).lastrowid
    assert row is not None
    return _Id(file.tag, row)


def _done(file: _File, ids: Sequence[JobId]) -> list[bool]:
    deleted = []
    for job in ids:
        assert isinstance(job, _Id)
        found = None
        if job.file == file.tag:
            found = file.connection.execute("DELETE FROM jobs WHERE id = ? RETURNING claims", (job.row,)).fetchone()
        deleted.append(found is not None and found[0] == 0)
    return deleted


def _is_full(error: Exception | None) -> bool:
    cause = error.__cause__ if isinstance(error, SpoolRefused) else error  # as a commit says it, or a statement
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _keep_a_log(connection: sqlite3.Connection) -> None:
    # SQLite doesn't wait here for another process that does the same to a new file: it says busy at once.
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(LOG_PAUSE_S)


def _hint(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return "make room on its disk"
    if code == sqlite3.SQLITE_BUSY:
        return f"another process has held the file's lock for {BUSY_S:g} s"
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return "its folder must be writable for this user"
    return ""
