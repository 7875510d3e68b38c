"""Statistics on their way to PostgreSQL: at most once a row, whoever brings it and however often.

It owns the connection. It must not know how records arrive: it is given rows, and reads what it missed from the volumes.

Invariants:
- A row is written once: two recorders, or the same one again, change nothing.
- After any outage, of the database or of this process, what the volumes have since the last row that this recorder
  brought there is brought again; the outage is a row of `hitmesh_gaps`, with what couldn't be.
- A database that is away, slow or full holds up nobody. No password is ever part of an error or a log.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import gevent
import psycopg
from gevent.event import Event

from hitmesh.config import RecorderTable
from hitmesh.errors import ConfigError, DecodeError
from hitmesh.hub.blocking import call_blocking
from hitmesh.logs import Complaints
from hitmesh.protocol.messages import Gap
from hitmesh.recorder.blocks import unpack
from hitmesh.recorder.migrating import migrate
from hitmesh.recorder.rows import Row, rows_of
from hitmesh.recorder.volumes import Place, read
from hitmesh.secrets import read_secret

MAX_WAITING: Final = 10_000  # rows that wait for the database: more of them are found in the volumes
BATCH: Final = 500  # rows in one transaction
CONNECT_S: Final = 5
PING_S: Final = 10.0  # between two looks whether an idle database is there
ANSWER_S: Final = 30.0  # after which a statement's connection isn't believed any more
PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0)  # before the next try; the last one again and again
REFILL_S: Final = 7 * 86_400  # how far back is looked for what is missing
LATE_S: Final = 300  # rows that come later than this were missing
OVERLAP_S: Final = 120  # before the last row: two processes' clocks
AWAY_S: Final = "database_away_s"
"""The load that says for how long nothing can be brought to the database; 0: it can."""

_INSERT: Final = """
INSERT INTO hitmesh_statistics (minute, datacenter, role, instance, process, figures, recorder)
VALUES (to_timestamp(%s), %s, %s, %s, %s, %s::jsonb, %s) ON CONFLICT DO NOTHING
"""
_LAST: Final = """
SELECT extract(epoch FROM max(minute))::bigint FROM hitmesh_statistics WHERE datacenter = %s AND recorder = %s
"""
_GAP: Final = """
INSERT INTO hitmesh_gaps (datacenter, recorder, since, until, filled, missing, why)
VALUES (%s, %s, to_timestamp(%s), to_timestamp(%s), %s, %s, %s) ON CONFLICT DO NOTHING
"""

log = logging.getLogger(__name__)
Connection = psycopg.Connection[Any]
_FAILURES: Final = (psycopg.Error, OSError, gevent.Timeout, ConfigError)


class Database:
    """The statistics of one recorder, `name` of datacenter `dc`, whose volumes are in `folder`."""

    def __init__(
        self, table: RecorderTable, *, dc: str, name: str, folder: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._url = table.postgresql
        self._password_file = table.postgresql_password_file
        self._dc, self._name, self._folder = dc, name, folder
        self._clock = clock
        self._waiting: deque[Row] = deque(maxlen=MAX_WAITING)
        self._news = Event()
        self._complaints = Complaints(log)
        self._connection: Connection | None = None
        self._away_since_s: float | None = None  # by the clock of people
        self._began_away = 0.0
        self._failures = 0
        self._why = ""
        self._stopping = False
        self.written = 0
        """Rows that weren't there before."""

    def put(self, rows: Iterable[Row]) -> None:
        """Bring these there. Never waits."""
        self._waiting.extend(rows)
        if self._waiting:
            self._news.set()

    def load(self) -> dict[str, float]:
        """Figures for the heartbeat."""
        away_s = 0 if self._away_since_s is None else int(time.monotonic() - self._began_away) + 1
        return {AWAY_S: away_s, "rows": self.written}

    def run(self) -> None:
        """Bring rows there until `stop`."""
        while not self._stopping:
            try:
                if self._connection is None:
                    with gevent.Timeout(ANSWER_S):
                        self._connection = self._open()
                    self._catch_up(self._connection)
                    self._failures, self._why, self._away_since_s = 0, "", None
                self._bring(self._connection)
                if not self._news.wait(PING_S):
                    with gevent.Timeout(ANSWER_S):
                        self._connection.execute("SELECT 1")
                self._news.clear()
            except _FAILURES as error:
                self._failed(error)
                gevent.sleep(PAUSES_S[min(self._failures, len(PAUSES_S)) - 1])
        self._close()

    def stop(self) -> None:
        """Bring no more."""
        self._stopping = True
        self._news.set()

    def _open(self) -> Connection:
        password = None
        if self._password_file:
            password = call_blocking(lambda: read_secret(Path(self._password_file))).decode("utf-8", "replace").strip()
        connection: Connection = psycopg.connect(
            self._url, password=password, connect_timeout=CONNECT_S, autocommit=True,
            application_name=f"hitmesh {self._name} of {self._dc}",
        )  # fmt: skip
        try:
            migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring(self, connection: Connection) -> None:
        while self._waiting:
            rows = [self._waiting[index] for index in range(min(BATCH, len(self._waiting)))]
            self._insert(connection, rows)
            for row in rows:
                if self._waiting and self._waiting[0] is row:  # else it has made room meanwhile
                    self._waiting.popleft()

    def _insert(self, connection: Connection, rows: Sequence[Row]) -> int:
        """How many of them weren't there."""
        with gevent.Timeout(ANSWER_S), connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(_INSERT, [(*row, self._name) for row in rows])
            new = max(0, cursor.rowcount)
        self.written += new
        return new

    def _catch_up(self, connection: Connection) -> None:
        """Bring there what is missing since the last row that we brought, and say what couldn't be."""
        now_s = self._clock()
        with gevent.Timeout(ANSWER_S):
            found = connection.execute(_LAST, (self._dc, self._name)).fetchone()
        last_s = found[0] if found and found[0] is not None else None
        since_s = max(now_s - REFILL_S, (last_s or 0) - OVERLAP_S)
        filled, late, missing = self._refill(connection, int(since_s * 1000), int(now_s))
        away_since_s = self._away_since_s if self._away_since_s is not None else late
        if away_since_s is None:
            return
        why = self._why or "its recorder was away"
        with gevent.Timeout(ANSWER_S):
            connection.execute(_GAP, (self._dc, self._name, int(away_since_s), int(now_s), filled, missing, why))
        log.warning(
            "statistics: PostgreSQL was away for %d s (%s); %d rows were brought there since, %d entries are missing",
            now_s - away_since_s, why, filled, missing,
        )  # fmt: skip

    def _refill(self, connection: Connection, since_ms: int, now_s: int) -> tuple[int, float | None, int]:
        """From the volumes: how many rows weren't there, the minute of the first that was late, how much is missing."""
        place, more = Place(0, 0), True
        filled = missing = 0
        late: float | None = None
        until_ms = (now_s + OVERLAP_S) * 1000
        while more:
            rows, lost, place, more = call_blocking(lambda at=place: self._read(since_ms, until_ms, at))  # type: ignore[misc]
            missing += lost
            for first in range(0, len(rows), BATCH):
                batch = rows[first : first + BATCH]
                new = self._insert(connection, batch)
                filled += new
                minute_s = min(row.minute_s for row in batch)
                if new and now_s - minute_s > LATE_S:
                    late = minute_s if late is None else min(late, minute_s)
        return filled, late, missing

    def _read(self, since_ms: int, until_ms: int, place: Place) -> tuple[list[Row], int, Place, bool]:
        """Some of the rows, the entries that are missing between them, and where to read on."""
        try:
            packed, place, more = read(self._folder, since_ms, until_ms, place)
        except OSError:
            return [], 0, place, False
        rows, lost = [], 0
        try:
            for message in unpack(packed):
                rows += [row for row in rows_of(message) if row.minute_s * 1000 >= since_ms]
                lost += message.entries if isinstance(message, Gap) else 0
        except DecodeError as error:
            log.warning("statistics: a volume can't be read to its end: %s", error)
        return rows, lost, place, more

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        self._close()
        self._why = _words(error)
        if self._away_since_s is None:
            self._away_since_s, self._began_away = self._clock(), time.monotonic()
        self._complaints.warn("away", "statistics can't be brought to PostgreSQL; the volumes keep them: %s", self._why)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except _FAILURES:
                log.debug("a connection that couldn't be closed")


def _words(error: BaseException) -> str:
    """What is wrong, in one line."""
    if isinstance(error, gevent.Timeout):
        return f"it doesn't answer within {ANSWER_S:g} s"
    return " ".join(str(error).split())[:300] or type(error).__name__
