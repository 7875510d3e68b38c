"""Looks into a datacenter's spools: how much waits where, since when, and what is in it as far as it can be listed.

A file is read with a connection that can't write, in a thread; a server is asked over connections of our own. Nothing
is claimed, and no copy that is away holds up the look for longer than its time-out.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import gevent
from msgspec import Struct

from hitmesh.books.audit import Spooled
from hitmesh.books.reading import decoded
from hitmesh.config import Config
from hitmesh.dashboard.pacing import LEAST_S
from hitmesh.dashboard.status import Spool
from hitmesh.errors import SpoolRefused
from hitmesh.hub.blocking import call_blocking
from hitmesh.mesh.duty import spawn
from hitmesh.protocol.messages import Job
from hitmesh.spool.beanstalk import BeanstalkSpool
from hitmesh.spool.open import beanstalk_address, sqlite_path
from hitmesh.spool.sqlite import STATS

BUSY_S: Final = 0.5  # for another process's transaction; readers of a file with a log wait for nobody
MAX_LISTED: Final = 2_000  # jobs that are read for the books; of more only the number
LISTED_AT_ONCE: Final = 100
LEAST_FREE_BYTES: Final = 256 * 1024  # on a file's disk: SQLite needs some pages, and its log some more


class Look(Struct, frozen=True):
    """All copies of a datacenter's spool."""

    spooled: Spooled = Spooled((), 0)
    whole: bool = False  # whether any copy could be asked: each job is on all that are up


class _Copy(Struct, frozen=True):
    shown: Spool
    jobs: Sequence[Job] | None = None
    bad: Sequence[str] = ()
    asked: bool = True


class Spools:
    """The spools of one datacenter; relative files are below `base`."""

    def __init__(self, config: Config, base: Path) -> None:
        self._copies = [_copy_of(url, config, base) for url in config.stores.spools]

    def start(self) -> None:
        """Begin to ask the servers, each by itself: one that hangs is known to within seconds, and holds up nobody."""
        for each in self._copies:
            if isinstance(each, _Server):
                spawn("a spool's figures", each.run)

    def look(self) -> Look:
        """Read every file, and what the servers said last, or say now where nobody has begun to ask. Raises nothing."""
        found = [each.look() for each in self._copies]
        complete = all(each.jobs is not None for each in found)
        listed = [job for each in found for job in each.jobs or ()]
        counts = [(each.shown.depth or 0) + each.shown.buried for each in found]
        bad = [reason for each in found for reason in each.bad]
        spooled = Spooled(listed if complete else None, max(counts, default=0), bad)
        return Look(spooled, whole=any(each.asked for each in found))

    def shown(self) -> list[Spool]:
        """Every copy as it was seen last."""
        return [each.last.shown for each in self._copies if each.last is not None]

    def close(self) -> None:
        """Give up connections."""
        for each in self._copies:
            each.close()


class _File:
    """One SQLite file. It isn't made, nor changed; before it is there nothing is in it."""

    def __init__(self, url: str, path: Path) -> None:
        self._url, self._path = url, path
        self.last: _Copy | None = None

    def look(self) -> _Copy:
        self.last = call_blocking(self._look)
        return self.last

    def close(self) -> None:
        """Nothing is kept open: a file that is replaced is another one at the next look."""

    def _look(self) -> _Copy:
        if not self._path.exists():
            return _Copy(Spool(key=self._url, name=self._url, depth=0, oldest_s=None), jobs=())
        try:
            db = sqlite3.connect(
                f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
            )  # fmt: skip
            try:
                return self._read(db)
            finally:
                db.close()
        except (sqlite3.Error, OSError) as error:
            shown = Spool(key=self._url, name=self._url, depth=None, oldest_s=None, usable=False, why=str(error))
            return _Copy(shown, asked=False)

    def _read(self, db: sqlite3.Connection) -> _Copy:
        wall = time.time()
        waiting, ready, claimed, buried = db.execute(STATS, {"now": wall}).fetchone()
        first = db.execute("SELECT body FROM jobs WHERE buried = 0 ORDER BY id LIMIT 1").fetchone()
        free = os.statvfs(self._path.parent)
        full = free.f_bavail * free.f_frsize < LEAST_FREE_BYTES
        shown = Spool(
            key=self._url,
            name=self._url,
            depth=waiting + ready + claimed,
            oldest_s=_age_s([first[0]] if first else [], wall),
            buried=buried,
            usable=not full,
            why="no room on its disk" if full else "",
        )
        if waiting + ready + claimed + buried > MAX_LISTED:
            return _Copy(shown)
        bodies, after = [], 0
        query = "SELECT id, body FROM jobs WHERE id > ? ORDER BY id LIMIT ?"
        while rows := db.execute(query, (after, LISTED_AT_ONCE)).fetchall():
            bodies += [body for _, body in rows]
            after = rows[-1][0]
        return _Copy(shown, *decoded(bodies))


class _Server:
    """One beanstalkd."""

    def __init__(self, url: str, config: Config) -> None:
        self._url = url
        self._spool = BeanstalkSpool(*beanstalk_address(url), claim_s=config.timing.claim_s)
        self.last: _Copy | None = None
        self._runs = self._closed = False

    def run(self) -> None:
        """Ask again and again."""
        self._runs = True
        while not self._closed:
            self._ask()
            gevent.sleep(LEAST_S)
        self._spool.close()

    def look(self) -> _Copy:
        if self._runs and self.last is not None:
            return self.last
        return self._ask()

    def close(self) -> None:
        self._closed = True
        if not self._runs:
            self._spool.close()

    def _ask(self) -> _Copy:
        try:
            self._spool.check()
        except SpoolRefused as error:  # known now; its figures take another time-out, if it hangs
            shown = Spool(key=self._url, name=self._url, depth=None, oldest_s=None, usable=False, why=error.message)
            self.last = _Copy(shown, asked=False)
        self.last = self._figures()
        return self.last

    def _figures(self) -> _Copy:
        (stats,) = self._spool.stats()
        try:
            first = self._spool.first_bodies() if stats.usable else []
        except SpoolRefused:
            first = []
        asked = stats.usable or bool(stats.waiting or stats.ready or stats.claimed)
        shown = Spool(
            key=self._url,
            name=self._url,
            depth=stats.waiting + stats.ready + stats.claimed if asked else None,
            oldest_s=_age_s(first, time.time()),
            buried=stats.buried,
            usable=stats.usable,
            why=stats.reason,
        )
        return _Copy(shown, asked=asked)


class _Stranger:
    """A third party's, of which nothing is known but that it is there."""

    def __init__(self, url: str) -> None:
        shown = Spool(key=url, name=url, depth=None, oldest_s=None, why="it can't be looked into")
        self.last = _Copy(shown, asked=False)

    def look(self) -> _Copy:
        return self.last

    def close(self) -> None:
        """Nothing."""


def _copy_of(url: str, config: Config, base: Path) -> _File | _Server | _Stranger:
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return _File(url, sqlite_path(url, base))
    return _Server(url, config) if scheme == "beanstalk" else _Stranger(_without_secrets(url))


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _age_s(bodies: Sequence[bytes], wall: float) -> float | None:
    """How old the oldest of these jobs is."""
    jobs, _ = decoded(bodies)
    return round(max(0.0, wall - min(job.created_ms for job in jobs) / 1000), 1) if jobs else None
