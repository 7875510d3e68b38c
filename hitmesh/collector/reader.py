"""Reads of totals that aren't known: gathered by partition, a few at a time, off the hits' way.

Owns who waits for what. A store that gives no answer makes nobody wait twice: for a second after
a failure nothing is waited for, and answers say how old they are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from gevent.event import Event

from hitmesh.errors import StoreUnknown
from hitmesh.mesh.duty import spawn
from hitmesh.protocol.messages import Applied
from hitmesh.protocol.pages import partition_of
from hitmesh.store import TotalsStore
from hitmesh.store.totals import applied_of

log = logging.getLogger(__name__)

READERS: Final = 4  # reads under way; a store answers a few at once better than many
READ_PAGES: Final = 60  # pages of one read: with the head they fit into one Consul transaction
FAILED_S: Final = 1.0  # for which nobody waits after a failed read
MAX_WANTED: Final = 100_000  # pages waiting to be read; past it answers use what is known


class Reader:
    """The reads of one worker."""

    def __init__(self, store: TotalsStore, *, partitions: int, worker: str, told: Callable[[Applied], None]) -> None:
        self._store = store
        self._partitions = partitions
        self._worker = worker
        self._told = told
        self._wanted: dict[int, dict[str, Event]] = {}  # partition -> page -> who waits
        self._reading: dict[str, Event] = {}
        self._has_wanted = Event()
        self._failed_s = float("-inf")

    def start(self) -> None:
        """Begin to read."""
        for _ in range(READERS):
            spawn("reader of totals", self._run)

    def want(self, page: str) -> Event | None:
        """Read the page soon; the event is set when that was done or failed. None: not now."""
        if time.monotonic() - self._failed_s < FAILED_S:
            return None
        partition = partition_of(page, self._partitions)
        pages = self._wanted.get(partition)
        if pages is None:
            if len(self._wanted) * READ_PAGES > MAX_WANTED:
                return None
            pages = self._wanted[partition] = {}
        event = pages.get(page)
        if event is None:
            if len(pages) > MAX_WANTED // self._partitions:
                return None
            event = pages[page] = Event()
        self._has_wanted.set()
        return event

    def wait(self, page: str, timeout_s: float) -> None:
        """Wait until the page has been read, if it can be."""
        event = self._reading.get(page) or self.want(page)
        if event is not None:
            event.wait(timeout_s)

    def _run(self) -> None:
        while True:
            self._has_wanted.wait()
            if not self._wanted:
                self._has_wanted.clear()
                continue
            partition, pages = self._next()
            self._reading.update(pages)
            try:
                head, rows = self._store.read(partition, list(pages))
                self._told(applied_of(partition, self._worker, list(pages), head, rows))
            except StoreUnknown as error:
                if time.monotonic() - self._failed_s > FAILED_S:
                    log.warning("can't read totals of partition %d: %s", partition, error)
                self._failed_s = time.monotonic()
            finally:
                for page, event in pages.items():
                    if self._reading.get(page) is event:
                        del self._reading[page]
                    event.set()

    def _next(self) -> tuple[int, dict[str, Event]]:
        partition, pages = next(iter(self._wanted.items()))
        del self._wanted[partition]
        if len(pages) > READ_PAGES:
            names = list(pages)
            self._wanted[partition] = {page: pages[page] for page in names[READ_PAGES:]}
            pages = {page: pages[page] for page in names[:READ_PAGES]}
        return partition, pages
