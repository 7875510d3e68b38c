"""Reads of totals that aren't known: many pages at once, off the hits' way.

Owns who waits for what. A store that gives no answer makes nobody wait twice: for a second after
a failure nothing is waited for, and answers say how old they are.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from hitmesh.errors import StoreUnknown
from hitmesh.mesh.duty import spawn
from hitmesh.protocol.messages import Applied
from hitmesh.protocol.pages import partition_of
from hitmesh.store import TotalsStore
from hitmesh.store.totals import applied_of, read_totals

log = logging.getLogger(__name__)

READERS: Final = 2  # reads under way: while they are, the pages of the next ones gather
READ_PAGES: Final = 32  # pages of one read: with a head each they fit into one Consul transaction
FAILED_S: Final = 1.0  # for which nobody waits after a failed read
ALL_AGE_S: Final = 1.0  # for which a list of all totals serves other requests: it reads the whole store
MAX_WANTED: Final = 100_000  # pages waiting to be read; past it answers use what is known


class Reader:
    """The reads of one worker."""

    def __init__(self, store: TotalsStore, *, partitions: int, worker: str, told: Callable[[Applied], None]) -> None:
        self._store = store
        self._partitions = partitions
        self._worker = worker
        self._told = told
        self._wanted: dict[str, Event] = {}  # page -> who waits
        self._reading: dict[str, Event] = {}  # the same, of reads under way
        self._has_wanted = Event()
        self._failed_s = float("-inf")
        self._all: dict[str, dict[str, int]] = {}
        self._all_read_s = float("-inf")
        self._reading_all = BoundedSemaphore()

    def start(self) -> None:
        """Begin to read."""
        for _ in range(READERS):
            spawn("reader of totals", self._run)

    def want(self, page: str) -> Event | None:
        """Read the page soon; the event is set when that was done or failed. None: not now."""
        if time.monotonic() - self._failed_s < FAILED_S:
            return None
        event = self._wanted.get(page)
        if event is None:
            if len(self._wanted) >= MAX_WANTED:
                return None
            event = self._wanted[page] = Event()
            self._has_wanted.set()
        return event

    def wait(self, page: str, timeout_s: float) -> None:
        """Wait until the page has been read, if it can be."""
        event = self._reading.get(page) or self.want(page)
        if event is not None:
            event.wait(timeout_s)

    def all_totals(self) -> tuple[dict[str, dict[str, int]], float]:
        """Every page's counts by datacenter, and how old they are in seconds. Raises StoreUnknown."""
        with self._reading_all:  # one reads, and those who waited have its list
            if time.monotonic() - self._all_read_s > ALL_AGE_S:
                self._all, self._all_read_s = read_totals(self._store), time.monotonic()
            return self._all, time.monotonic() - self._all_read_s

    def _run(self) -> None:
        while True:
            self._has_wanted.wait()
            gevent.sleep(0)  # whoever else the hub has at hand may want pages too
            pages = [page for page, _ in zip(self._wanted, range(READ_PAGES), strict=False)]
            waiting = {page: self._wanted.pop(page) for page in pages}
            if not self._wanted:
                self._has_wanted.clear()
            self._reading.update(waiting)
            try:
                self._read(pages)
            except StoreUnknown as error:
                if time.monotonic() - self._failed_s > FAILED_S:
                    log.warning("can't read totals: %s", error)
                self._failed_s = time.monotonic()
            finally:
                for page, event in waiting.items():
                    if self._reading.get(page) is event:
                        del self._reading[page]
                    event.set()

    def _read(self, pages: list[str]) -> None:
        wanted: dict[int, list[str]] = defaultdict(list)
        for page in pages:
            wanted[partition_of(page, self._partitions)].append(page)
        for partition, (head, rows) in self._store.read(wanted).items():
            self._told(applied_of(partition, self._worker, wanted[partition], head, rows))
