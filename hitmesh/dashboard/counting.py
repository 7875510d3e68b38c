"""Looks at the totals store and the spools of a datacenter, again and again: the books, and what else they tell.

Owns the order in which things are read, which the arithmetic of the books needs, and the pace. It must not know what is
shown, nor write to anything. A file is read in a thread, a few milliseconds at a time; Consul by the hub's sockets.

Invariants:
- No error leaves a look: it is a value, beside what was known before.
- A look that has read everything is judged at once by what needs no newer heartbeats, and whole when they have come.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import gevent
from gevent import monkey
from msgspec import Struct
from msgspec.structs import replace

from hitmesh.books.audit import Observed, Spooled, Verdict, Worker, check
from hitmesh.books.reading import reading
from hitmesh.config import Config
from hitmesh.dashboard.pacing import LEAST_S, pause_s
from hitmesh.dashboard.spooled import Look as SpoolLook
from hitmesh.dashboard.status import Books
from hitmesh.dashboard.tally import Charts, Tally
from hitmesh.dashboard.totalling import Found
from hitmesh.errors import HitmeshError, StoreUnknown
from hitmesh.hub.blocking import call_blocking
from hitmesh.mesh.duty import spawn
from hitmesh.store import Row, StoredHead, TotalsStore
from hitmesh.store.open import open_store

NEWER: Final = 2
"""Heartbeats after which a collector's counters are of after the look: one that wasn't heard at the time may have been
sent before."""
NEWER_S: Final = 15.0  # that they are waited for
POLL_S: Final = 0.1
HUB_ROWS: Final = 200  # of a partition, added up on the hub; more of them in a thread
ANSWER_S: Final = 2.0  # a store that is busy answers within tenths
FAILED_S: Final = 1.0  # after a look that failed: a store that is back is seen at once

REST_S: Final = 0.05  # after a partition at most, as long as it took

log = logging.getLogger(__name__)
_sleep: Final[Callable[[float], None]] = monkey.get_original(
    "time", "sleep"
)  # in a thread that has no hub, and gets none


class Counters(Struct, frozen=True):
    """What the live collectors have counted, by worker id, and the number of the heartbeat that said so."""

    workers: Mapping[str, Worker]
    numbers: Mapping[str, int]
    whole: bool = True  # whether all collectors are in it that live


class Ledger(Struct, frozen=True):
    """What the last looks have found."""

    tally: Tally | None = None
    at: float = 0.0  # monotonic: when the last whole look ended
    wall: float = 0.0
    store_why: str = ""  # the store can't be read
    store_absent: bool = False  # since nobody has made it yet
    verdict: Verdict | None = None
    off: int = 0
    judged_at: float = 0.0
    found: Found | None = None  # what the last look that was judged whole has found for the total
    found_at: float = 0.0
    living: Collection[str] = ()  # the workers that lived when it began
    took_s: float = 0.0
    looks: int = 0

    def books(self, now: float) -> Books | None:
        """The books as they are shown."""
        found = self.verdict
        if found is None:
            return None
        return Books(
            balanced=found.balanced,
            accepted=found.accepted,
            committed=found.committed,
            spooled=found.spooled,
            in_flight=found.in_flight,
            unknown=found.unknown,
            lost=found.lost,
            off=self.off,
            problems=list(found.problems[:MAX_PROBLEMS]),
            age_s=round(max(0.0, now - self.judged_at), 1),
        )


MAX_PROBLEMS: Final = 20  # of the books: who has more than these reads `hitmesh audit`


class Counting:
    """The looks of one dashboard. `counters` says what collectors count now; `spooled` looks into the spools."""

    def __init__(
        self,
        config: Config,
        base: Path,
        *,
        counters: Callable[[], Counters],
        spooled: Callable[[], SpoolLook],
        store: TotalsStore | None = None,
    ) -> None:
        self._config = config
        self._counters, self._spooled = counters, spooled
        self._store = store or open_store(config, base, "dashboard", read_only=True)
        self._cooperates = not config.stores.totals.startswith("sqlite:")
        self.charts = Charts()
        self.ledger = Ledger()
        self._stopped = False
        self._asked_at: float | None = None  # since when the store hasn't answered whether it is there
        self._check_why = ""
        self._check_absent = False
        self._was_there = False  # the store, once

    def start(self) -> None:
        """Begin to look; returns at once."""
        spawn("looks at the books", self._run)
        spawn("whether the store answers", self._check)

    def why(self, now: float) -> str:
        """Why the store can't be read; empty when it can."""
        if self._asked_at is not None and now - self._asked_at > ANSWER_S:
            return f"it hasn't answered for {ANSWER_S:g} s"
        return self._check_why or self.ledger.store_why

    @property
    def is_absent(self) -> bool:
        """Whether it can't be read only because it is a file that was never there."""
        return self._check_absent if self._check_why else self.ledger.store_absent

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True

    def look(self) -> None:
        """One look at everything, and its judgement."""
        began = time.monotonic()
        before = self._counters()
        spooled = self._spooled()
        try:
            tally = self._read()
        except HitmeshError as error:
            absent = self._is_absent(error)
            self.ledger = replace(
                self.ledger, store_why=str(error), store_absent=absent, took_s=time.monotonic() - began
            )
            return
        self._was_there = True
        now, wall = time.monotonic(), time.time()
        heard = self._counters()
        self.charts.look(tally, wall)
        self.ledger = replace(
            self.ledger,
            tally=tally, at=now, wall=wall, store_why="", store_absent=False, took_s=now - began, looks=self.ledger.looks + 1,
        )  # fmt: skip
        at_once = check(Observed({}, Spooled((), 0), tally.books, {}, tally.unreadable))
        if at_once.problems and self.ledger.verdict is not None and self.ledger.verdict.balanced:
            self._judge(replace(self.ledger.verdict, problems=at_once.problems), tally)
        after = self._newer(heard)
        if after is None or not spooled.whole:
            return  # who they are has changed meanwhile, or a spool can't be asked: the next look is soon
        observed = Observed(before.workers, spooled.spooled, tally.books, after.workers, tally.unreadable)
        if before.workers.keys() == after.workers.keys():
            self._judge(check(observed), tally)
            assert self.ledger.verdict is not None
            committed = tally.sums.get(self._config.name, 0)
            self.ledger = replace(
                self.ledger,
                found=Found(committed, tally.applied, self.ledger.verdict.spooled),
                found_at=self.ledger.judged_at,
                living=frozenset(before.workers),
            )

    def read_page(self, partition: int, page: str) -> Mapping[str, int] | str:
        """The counts of one page by datacenter, as the store has them now; or why they can't be had."""
        try:
            stored, rows = self._store.read({partition: [page]})[partition]
            found = reading(partition, stored, rows)
        except StoreUnknown as error:
            return str(error)
        if found.unreadable:
            return found.unreadable
        return {dc: count for (each, dc), count in found.subtotals.items() if each == page}

    # --- within ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            began = time.monotonic()
            try:
                self.look()
            except Exception:  # a bug of the looking is no reason to end the dashboard
                log.exception("a look at the books failed")
                gevent.sleep(pause_s(NEWER_S))
            left_s = pause_s(self.ledger.took_s) - (time.monotonic() - began - self.ledger.took_s)
            gevent.sleep(FAILED_S if self.ledger.store_why else max(POLL_S, left_s))
        with contextlib.suppress(HitmeshError):
            self._store.close()

    def _check(self) -> None:
        """A look may wait for half a minute for a store that hangs; this question tells sooner."""
        while not self._stopped:
            self._asked_at = time.monotonic()
            try:
                self._store.check()
                self._check_why, self._check_absent, self._was_there = "", False, True
            except HitmeshError as error:
                self._check_why, self._check_absent = str(error), self._is_absent(error)
            self._asked_at = None
            gevent.sleep(LEAST_S)

    def _is_absent(self, error: HitmeshError) -> bool:
        return not self._was_there and isinstance(error.__cause__, FileNotFoundError)

    def _read(self) -> Tally:
        """Everything in the store. Raises StoreUnknown."""
        tally, follow = Tally(self._config.name, self._config.partitions), self.charts.follow
        if self._cooperates:
            for partition, stored, rows in self._store.scan():
                _add(tally, partition, stored, rows, follow)
            return tally

        def scan() -> StoreUnknown | None:
            try:
                began = time.monotonic()
                for each in self._store.scan():
                    tally.take(reading(*each), follow)
                    _sleep(min(REST_S, time.monotonic() - began))  # the hub has the interpreter meanwhile
                    began = time.monotonic()
            except StoreUnknown as error:
                return error
            return None

        if (error := call_blocking(scan)) is not None:
            raise error
        return tally

    def _newer(self, heard: Counters) -> Counters | None:
        """The collectors' counters, each by a heartbeat that was sent after `heard`; None: somebody sends none."""
        deadline = time.monotonic() + NEWER_S
        while not self._stopped and time.monotonic() < deadline:
            now = self._counters()
            # One that has appeared since then has sent all of its heartbeats since then.
            stale = [
                id for id in now.workers if id in heard.numbers and now.numbers[id] < heard.numbers[id] + NEWER
            ]  # fmt: skip
            if now.whole and not stale:
                return now
            gevent.sleep(POLL_S)
        return None

    def _judge(self, verdict: Verdict, tally: Tally) -> None:
        self.ledger = replace(self.ledger, verdict=verdict, off=tally.off(), judged_at=time.monotonic())


def _add(tally: Tally, partition: int, stored: StoredHead | None, rows: list[Row], follow: frozenset[str]) -> None:
    if len(rows) <= HUB_ROWS:
        tally.take(reading(partition, stored, rows), follow)
    else:
        call_blocking(lambda: tally.take(reading(partition, stored, rows), follow))
