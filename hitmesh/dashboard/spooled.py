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

from msgspec import Struct

from hitmesh.books.audit import Spooled
from hitmesh.books.reading import decoded
from hitmesh.config import Config
from hitmesh.dashboard.status import Spool
from hitmesh.errors import SpoolRefused
from hitmesh.hub.blocking import call_blocking
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

    spools: Sequence[Spool] = ()
    spooled: Spooled = Spooled((), 0)
    whole: bool = False  # whether every copy could be asked


class _Copy(Struct, frozen=True):
    shown: Spool
    jobs: Sequence[Job] | None = None
    bad: Sequence[str] = ()
    asked: bool = True


class Spools:
    """The spools of one datacenter; relative files are below `base`."""

    def __init__(self, config: Config, base: Path) -> None:
        self._copies = [_copy_of(url, config, base) for url in config.stores.spools]

    def look(self) -> Look:
        """Ask every copy, one after the other. Raises nothing."""
        found = [each.look() for each in self._copies]
        complete = all(each.jobs is not None for each in found)
        listed = [job for each in found for job in each.jobs or ()]
        counts = [(each.shown.depth or 0) + each.shown.buried for each in found]
        bad = [reason for each in found for reason in each.bad]
        spooled = Spooled(listed if complete else None, max(counts, default=0), bad)
        return Look([each.shown for each in found], spooled, whole=all(each.asked for each in found))

    def close(self) -> None:
        """Give up connections."""
        for each in self._copies:
            each.close()


class _File:
    """One SQLite file. It isn't made, nor changed; before it is there nothing is in it."""

    def __init__(self, url: str, path: Path) -> None:
        self._url, self._path = url, path

    def look(self) -> _Copy:
        return call_blocking(self._look)

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

    def look(self) -> _Copy:
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

    def close(self) -> None:
        self._spool.close()


class _Stranger:
    """A third party's, of which nothing is known but that it is there."""

    def __init__(self, url: str) -> None:
        self._url = url

    def look(self) -> _Copy:
        shown = Spool(key=self._url, name=self._url, depth=None, oldest_s=None, why="it can't be looked into")
        return _Copy(shown, asked=False)

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
