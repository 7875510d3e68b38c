"""Claims: jobs that nobody acked in time are taken from the spool and sent again.

Owns when to claim and how much, and what is too old to be sent. A job that can't be sent is set
aside for the operator with an error in the log, never guessed at. One that is too old by the clock, which
may have been set, is sent all the same where its lanes are remembered.

Resending must not amplify an overload: claims under way are few, double while they come to their
end, and wait while acks aren't coming.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from gevent.event import Event

from hitmesh.collector.batches import Batches, Flight
from hitmesh.collector.trace import Trace
from hitmesh.errors import DecodeError, SpoolRefused, SpoolUnknown, StoreUnknown
from hitmesh.mesh.sockets import COMPLAINT_S
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.protocol.bounds import check_job
from hitmesh.protocol.messages import Head, Job, decode, decode_head
from hitmesh.spool import Claimed, Spool
from hitmesh.store import StoredHead

log = logging.getLogger(__name__)

POLL_S: Final = 0.5  # between two looks for claimable jobs
WINDOW_START: Final = 8  # claims under way at first
WINDOW_MAX: Final = 256
AGE_LIMIT_S: Final = 7 * 24 * 3600 - 3600  # lanes are kept for 7 days; an hour for clocks that differ
# Of a lane that is asked about: its owner may see a day pass at once.
LANE_LIMIT_S: Final = AGE_LIMIT_S - 24 * 3600


class Claimer:
    """The claims of one worker."""

    def __init__(
        self,
        spool: Spool,
        batches: Batches,
        *,
        unacked_bytes: int,
        send: Callable[[Iterable[Flight], float], None],
        read_head: Callable[[int], StoredHead | None],
        watchdog: Watchdog,
        trace: Trace | None = None,
    ) -> None:
        self._spool = spool
        self._batches = batches
        self.limit_bytes = unacked_bytes
        self._send = send
        self._read_head = read_head
        self._heads: dict[int, Head | None] = {}  # that this look has read
        self._complained_s = float("-inf")
        self._watchdog = watchdog
        self._trace = trace or Trace()
        self._window = WINDOW_START
        self._progressed = Event()
        self._stopping = False

    def progress(self) -> None:
        """A claim came to its end: acks are coming."""
        self._progressed.set()

    def stop(self) -> None:
        """Claim no more."""
        self._stopping = True
        self._progressed.set()

    def run(self) -> None:
        """Claim until stopped."""
        while True:
            self._progressed.wait(POLL_S)
            progressed = self._progressed.is_set()  # also when it came together with the end of the wait
            self._progressed.clear()
            if self._stopping:
                return
            room = self._room(progressed=progressed)
            if room <= 0:
                continue
            try:
                with self._watchdog.expect("a claim of jobs in the spool"):
                    claimed = self._spool.claim(room)
                self._heads.clear()
                flights = [flight for flight in map(self._take, claimed) if flight is not None]
            except (SpoolRefused, SpoolUnknown) as error:
                log.warning("can't claim: %s", error)
                continue
            if flights:
                log.info(
                    "claimed %d jobs that nobody acked in time", len(flights),
                    extra={"fields": {"jobs": len(flights), "hits": sum(each.hits for each in flights)}},
                )  # fmt: skip
                self._send(flights, time.monotonic())

    def _room(self, *, progressed: bool) -> int:
        under_way = self._batches.claims
        if progressed:
            self._window = min(self._window * 2, WINDOW_MAX)
        elif under_way:
            self._window = WINDOW_START
            return 0
        if self._batches.size_bytes > self.limit_bytes:
            return 0
        return self._window - under_way

    def _take(self, claimed: Claimed) -> Flight | None:
        try:
            job = decode(claimed.body, Job)
        except DecodeError as error:
            log.error("set job %s aside: it isn't a job of ours: %s", claimed.id, error)
            self._set_aside(claimed, "it isn't a job of ours")
            return None
        reason = check_job(job, self._batches.partitions)
        if reason:
            log.error(
                "set job %s of worker %a aside: no collector makes such a job: %s", claimed.id, job.worker, reason,
                extra={"fields": {"worker": job.worker}},
            )  # fmt: skip
            self._set_aside(claimed, reason)
            return None
        age_s = time.time() - job.created_ms / 1000
        if abs(age_s) > AGE_LIMIT_S:
            try:
                is_remembered = self._is_remembered(job)
            except (StoreUnknown, DecodeError) as error:
                self._say_that_it_waits(job, str(error))
                return None  # it is claimed again
            if not is_remembered:
                log.error(
                    "set job %s of worker %a aside: by this host's clock it was made %.1f days %s, lanes are kept for 7 "
                    "days only, and nobody remembers its lanes; whether its %d hits were counted can't be told any more. "
                    "Was the clock set?",
                    claimed.id, job.worker, abs(age_s) / 86_400, "ago" if age_s > 0 else "from now",
                    sum(sum(part.counts.values()) for part in job.parts),
                    extra={"fields": {"worker": job.worker, "age_s": round(age_s)}},
                )  # fmt: skip
                self._set_aside(claimed, "it is too old, and nobody remembers its lanes")
                return None
        now_s = time.monotonic()
        flight = self._batches.claimed(job, claimed.id, now_s)
        flight.trip = self._trace.claimed(claimed.body, flight.hits, claimed.id, now_s)
        return flight

    def _is_remembered(self, job: Job) -> bool:
        """Whether the lanes of all its parts are known: then it can be sent, however old it is."""
        for partition in {part.partition for part in job.parts}:
            if partition not in self._heads:
                stored = self._read_head(partition)
                self._heads[partition] = decode_head(stored.body) if stored is not None else None
            head = self._heads[partition]
            if head is not None and head.restoring:
                raise StoreUnknown("it is being brought back", op="read", endpoint=f"partition {partition}")
            lane = head.lanes.get(job.worker) if head is not None else None
            if head is None or lane is None:
                return False
            if max(one.seen_s for one in head.lanes.values()) - lane.seen_s > LANE_LIMIT_S:
                return False
        return True

    def _say_that_it_waits(self, job: Job, reason: str) -> None:
        if time.monotonic() - self._complained_s >= COMPLAINT_S:
            self._complained_s = time.monotonic()
            log.warning(
                "jobs like one of worker %a wait: whether they are too old can't be told: %s", job.worker, reason,
                extra={"fields": {"worker": job.worker}},
            )  # fmt: skip

    def _set_aside(self, claimed: Claimed, why: str) -> None:
        self._trace.set_aside(claimed.body, time.monotonic(), why)
        try:
            self._spool.bury(claimed.id)
        except (SpoolRefused, SpoolUnknown) as error:
            log.warning("couldn't set job %s aside, it will be claimed again: %s", claimed.id, error)
