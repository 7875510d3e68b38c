"""Reads of totals that aren't known: many pages at once, off the hits' way.

Owns who waits for what, and how old other datacenters' rows were when ours were read: as far as that was
known before the read. A store that gives no answer makes nobody wait twice: for a second after
a failure nothing is waited for, and answers say how old they are.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from hitmesh.errors import StoreUnknown
from hitmesh.mesh.duty import spawn
from hitmesh.protocol.pages import partition_of
from hitmesh.state.ages import Ages, AsOf
from hitmesh.store import TotalsStore
from hitmesh.store.totals import Listing, Reading, read_listing, reading_of

log = logging.getLogger(__name__)

READERS: Final = 2  # reads under way: while they are, the pages of the next ones gather
READ_PAGES: Final = 32  # pages of one read: with a head each they fit into one Consul transaction
FAILED_S: Final = 1.0  # for which nobody waits after a failed read
ALL_AGE_S: Final = 1.0  # for which a list of all totals serves other requests: it reads the whole store
MAX_WANTED: Final = 100_000  # pages waiting to be read; past it answers use what is known


class Reader:
    """The reads of one worker."""

    def __init__(
        self,
        store: TotalsStore,
        *,
        partitions: int,
        worker: str,
        ages: Ages,
        has_peers: Callable[[], bool],
        told: Callable[[Reading, AsOf], None],
    ) -> None:
        self._store = store
        self._partitions = partitions
        self._worker = worker
        self._ages = ages
        self._has_peers = has_peers
        self._told = told
        self._wanted: dict[str, Event] = {}  # page -> who waits
        self._reading: dict[str, Event] = {}  # the same, of reads under way
        self._has_wanted = Event()
        self._failed_s = self._complained_s = float("-inf")
        self._all: tuple[Listing, Mapping[int, AsOf], float] | None = None
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

    def all_totals(self) -> tuple[Listing, Mapping[int, AsOf], float]:
        """All totals, how old the other datacenters' were, and when that was. Raises StoreUnknown."""
        with self._reading_all:  # one reads, and those who waited have its list
            if self._all is None:
                as_of, started_s = self._ages.all(), time.monotonic()
                listing = read_listing(self._store, partitions=self._partitions, has_peers=self._has_peers())
                heads = {at: self._head_said(at, said) for at, said in listing.as_of_s.items()}
                for reason in listing.unreadable.values():
                    self._complain(StoreUnknown(reason))
                self._all = listing, {at: {**said, **as_of.get(at, {})} for at, said in heads.items()}, started_s
                # From now on: of a million pages the read alone takes longer. And then not kept: it is large.
                gevent.spawn_later(ALL_AGE_S, self._forget_all)
            return self._all

    def _forget_all(self) -> None:
        self._all = None

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
                self._complain(error)
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
        has_peers, before = self._has_peers(), {partition: self._ages.of(partition) for partition in wanted}
        for partition, (head, rows) in self._store.read(wanted).items():
            try:
                reading = reading_of(partition, self._worker, wanted[partition], head, rows, has_peers=has_peers)
            except StoreUnknown as error:  # of a head that can't be read; the other partitions' pages are known
                self._complain(error)
            else:
                self._told(reading, {**self._head_said(partition, reading.as_of_s), **before[partition]})

    def _head_said(self, partition: int, as_of_s: Mapping[str, float]) -> AsOf:
        """What a head says of the age of its rows, by our clock; the others may learn it too."""
        to_monotonic = time.monotonic() - time.time()
        as_of = {dc: at_s + to_monotonic for dc, at_s in as_of_s.items()}
        self._ages.read(partition, as_of)
        return as_of

    def _complain(self, error: StoreUnknown) -> None:
        now_s = time.monotonic()
        if now_s - self._complained_s > FAILED_S:
            log.warning("can't read totals: %s", error)
            self._complained_s = now_s
