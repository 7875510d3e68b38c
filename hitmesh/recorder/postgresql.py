"""Statistics on their way to PostgreSQL: at most once a row, whoever brings it and however often.

It owns the connection. It must not know how records arrive: it is given rows, and reads what it missed from the volumes.

Invariants:
- A row is written once: two recorders, or the same one again, change nothing.
- A row is brought there as it comes, and again from the volume that keeps it: how far that has come stands in the
  database. So after any outage, of the database or of this process, it goes on where it was; the outage is a row of
  `hitmesh_gaps`, and so is each gap in the volumes.
- A database that is away, slow or full holds up nobody. No password is ever part of an error or a log.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
from hitmesh.recorder.rows import LAST_MS, Row, rows_of
from hitmesh.recorder.volumes import Place, read, volumes_in
from hitmesh.secrets import read_secret
from hitmesh.state.standing import DATABASE_AWAY_S

MAX_WAITING: Final = 10_000  # rows that wait for the database: more of them are found in the volumes
BATCH: Final = 500  # rows in one transaction
CONNECT_S: Final = 5
LOOK_S: Final = 10.0  # between two looks whether an idle database is there, and has what the volumes have
ANSWER_S: Final = 30.0  # after which a statement's connection isn't believed any more
PAUSES_S: Final = (1.0, 2.0, 5.0, 10.0)  # before the next try; the last one again and again
REFILL_S: Final = 7 * 86_400  # how far back is looked for what is missing
FOR_EVER_MS: Final = 2**62

_INSERT: Final = """
INSERT INTO hitmesh_statistics (minute, datacenter, role, instance, process, figures, recorder)
VALUES (to_timestamp(%s), %s, %s, %s, %s, %s::jsonb, %s) ON CONFLICT DO NOTHING
"""
_WHERE: Final = """
SELECT volume, place, extract(epoch FROM at)::bigint FROM hitmesh_recorders WHERE datacenter = %s AND recorder = %s
"""
_IS_THERE: Final = """
INSERT INTO hitmesh_recorders (datacenter, recorder, volume, place) VALUES (%s, %s, %s, %s)
ON CONFLICT (datacenter, recorder) DO UPDATE SET volume = excluded.volume, place = excluded.place, at = now()
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
        self._place = Place(0, 0)  # up to where the volumes' rows are there
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
        return {DATABASE_AWAY_S: away_s, "rows": self.written}

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
                if not self._news.wait(LOOK_S):
                    self._sweep(self._connection)
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

    def _bring(self, connection: Connection) -> int:
        """Bring there what waits; how many rows weren't there."""
        filled = 0
        while self._waiting:
            rows = [self._waiting[index] for index in range(min(BATCH, len(self._waiting)))]
            filled += self._insert(connection, rows)
            for row in rows:
                if self._waiting and self._waiting[0] is row:  # else it has made room meanwhile
                    self._waiting.popleft()
        return filled

    def _insert(self, connection: Connection, rows: Sequence[Row]) -> int:
        """How many of them weren't there."""
        with gevent.Timeout(ANSWER_S), connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(_INSERT, [(*row, self._name) for row in rows])
            new = max(0, cursor.rowcount)
        self.written += new
        return new

    def _catch_up(self, connection: Connection) -> None:
        """Bring there what the volumes have that isn't there; if it was away meanwhile, say for how long."""
        now_s = self._clock()
        with gevent.Timeout(ANSWER_S):
            found = connection.execute(_WHERE, (self._dc, self._name)).fetchone()
        there = call_blocking(lambda: volumes_in(self._folder))
        self._place = Place(*found[:2]) if found else Place(0, 0)
        if found and there and self._place.volume > there[-1].number:
            self._place = Place(0, 0)  # they were removed, and begin anew
        since_s = int(found[2]) if found else None
        if found and there and 0 < self._place.volume < there[0].number:
            why = "some of its volumes were deleted before they could be brought here"
            self._say_gap(connection, float(since_s or 0), there[0].changed_s, 0, None, why)
        filled = self._sweep(connection) + self._bring(connection)
        if self._away_since_s is not None:
            since_s = int(self._away_since_s)
        if since_s is None or (not filled and self._away_since_s is None):
            return
        why = self._why or "its recorder was away"
        self._say_gap(connection, since_s, now_s, filled, 0, why)
        log.warning(
            "statistics: nothing came to PostgreSQL for %d s (%s); %d rows were brought there now",
            now_s - since_s, why, filled,
        )  # fmt: skip

    def _sweep(self, connection: Connection) -> int:
        """Bring there what the volumes have behind the place up to which it was; how many rows weren't there."""
        since_ms = int((self._clock() - REFILL_S) * 1000)
        filled, more = 0, True
        while more:
            rows, gaps, place, more = call_blocking(partial(self._read, since_ms, self._place))
            for first in range(0, len(rows), BATCH):
                filled += self._insert(connection, rows[first : first + BATCH])
            for gap in gaps:
                since_s, until_s = gap.since_ms / 1000, min(gap.until_ms, LAST_MS) / 1000
                missing = gap.entries or None  # 0: a part of a volume that nobody can read
                self._say_gap(connection, min(since_s, until_s), until_s, 0, missing, gap.why)
            with gevent.Timeout(ANSWER_S):  # also where nothing is new: so it is known when it was in step last
                connection.execute(_IS_THERE, (self._dc, self._name, *place))
            self._place = place
        return filled

    def _say_gap(
        self, connection: Connection, since_s: float, until_s: float, filled: int, missing: int | None, why: str
    ) -> None:
        with gevent.Timeout(ANSWER_S):
            connection.execute(_GAP, (self._dc, self._name, since_s, until_s, filled, missing, why.replace("\0", "")))

    def _read(self, since_ms: int, place: Place) -> tuple[list[Row], list[Gap], Place, bool]:
        """Some of the rows, the gaps between them, and where to read on."""
        rows: list[Row] = []
        gaps: list[Gap] = []
        try:
            packed, place, more = read(self._folder, since_ms, FOR_EVER_MS, place)
        except OSError as error:
            self._complaints.warn("read", "statistics: the volumes can't be read: %s", error)
            return rows, gaps, place, False
        try:
            for message in unpack(packed, self._name):
                rows += rows_of(message)
                gaps += [message] if isinstance(message, Gap) else []
        except DecodeError as error:
            log.warning("statistics: a volume can't be read to its end: %s", error)
        return rows, gaps, place, more

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        self._close()
        self._why = _words(error)
        if self._away_since_s is None:
            self._away_since_s, self._began_away = self._clock(), time.monotonic()
        self._complaints.warn(
            type(error).__name__, "statistics can't be brought to PostgreSQL; the volumes keep them: %s", self._why
        )

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
