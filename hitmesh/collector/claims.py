"""Claims: jobs that nobody acked in time are taken from the spool and sent again.

Owns when to claim and how much, and what is too old to be sent. A job that can't be sent is set
aside for the operator with an error in the log, never guessed at.

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
from hitmesh.errors import DecodeError, SpoolRefused, SpoolUnknown
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.protocol.bounds import check_job
from hitmesh.protocol.messages import Job, decode
from hitmesh.spool import Claimed, Spool

log = logging.getLogger(__name__)

POLL_S: Final = 0.5  # between two looks for claimable jobs
WINDOW_START: Final = 8  # claims under way at first
WINDOW_MAX: Final = 256
AGE_LIMIT_S: Final = 7 * 24 * 3600 - 3600  # lanes are kept for 7 days; an hour for clocks that differ


class Claimer:
    """The claims of one worker."""

    def __init__(
        self,
        spool: Spool,
        batches: Batches,
        *,
        unacked_bytes: int,
        send: Callable[[Iterable[Flight], float], None],
        watchdog: Watchdog,
    ) -> None:
        self._spool = spool
        self._batches = batches
        self.limit_bytes = unacked_bytes
        self._send = send
        self._watchdog = watchdog
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
                flights = [flight for flight in map(self._take, claimed) if flight is not None]
            except (SpoolRefused, SpoolUnknown) as error:
                log.warning("can't claim: %s", error)
                continue
            if flights:
                log.info("claimed %d jobs that nobody acked in time", len(flights))
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
            log.error("set job %r aside: it isn't a job of ours: %s", claimed.id, error)
            self._set_aside(claimed)
            return None
        reason = check_job(job, self._batches.partitions)
        age_s = time.time() - job.created_ms / 1000
        if not reason and age_s < -AGE_LIMIT_S:
            reason = f"it was made {-age_s / 86_400:.1f} days from now"
        if reason:
            log.error(
                "set job %a of worker %a aside: no collector makes such a job: %s", claimed.id, job.worker, reason
            )
            self._set_aside(claimed)
            return None
        if age_s > AGE_LIMIT_S:
            hits = sum(sum(part.counts.values()) for part in job.parts)
            log.error(
                "set job %r of worker %a aside: it is %.1f days old, and its lanes are kept for 7 days only; "
                "whether its %d hits were counted can't be told any more",
                claimed.id, job.worker, age_s / 86_400, hits,
            )  # fmt: skip
            self._set_aside(claimed)
            return None
        return self._batches.claimed(job, claimed.id, time.monotonic())

    def _set_aside(self, claimed: Claimed) -> None:
        try:
            self._spool.bury(claimed.id)
        except (SpoolRefused, SpoolUnknown) as error:
            log.warning("couldn't set job %r aside, it will be claimed again: %s", claimed.id, error)
