"""Moves the jobs of one spool to another one of the same datacenter, while both are used.

Owns the order that makes that safe, and nothing of what a spool or a job is:

1. A job is claimed at the source. A job that was never given out may be deleted any moment by its collector, which then
   takes it for counted once and may close its lanes; of one that was given out it knows that somebody else may resend it.
2. It is put at the target, which says that it is on disk.
3. Only then it is deleted at the source.

Whoever is interrupted in between leaves it in both, and it is resent twice: its lanes count it once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hitmesh.errors import SpoolRefused
from hitmesh.spool import CopyStats, JobId, Spool

AT_ONCE: Final = 32  # claims: all of them are put and deleted well within a claim's time
POLL_S: Final = 0.1  # between two looks whether a delay or a claim has ended


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of it."""

    jobs: int
    left: CopyStats  # at the source


def move(source: Spool, target: Spool, *, within_s: float, told: Callable[[int, CopyStats], None]) -> Moved:
    """Move every job that is or becomes claimable at `source` within that time; those that are set aside stay.

    `told` hears now and then how many have been moved, and what is left. Raises SpoolRefused or SpoolUnknown when the
    target doesn't take a job, which then is where it was, or in both; and when the source can't be asked.
    """
    target.check()
    deadline = time.monotonic() + within_s
    moved: set[JobId] = (
        set()
    )  # never by what is in them: the same bytes may have been put here again, by whoever moves back
    while True:
        claimed = source.claim(AT_ONCE)
        for job in claimed:
            if job.id not in moved:  # else it couldn't be deleted, and has come back
                target.put(job.body, 0.0)
                moved.add(job.id)
            source.done([job.id])
        (left,) = source.stats()
        if not (left.usable or left.waiting or left.ready or left.claimed):
            raise SpoolRefused(f"the source can't be asked: {left.reason}", op="move", endpoint=left.url)
        told(len(moved), left)
        if left.waiting + left.ready + left.claimed == 0 or time.monotonic() > deadline:
            return Moved(len(moved), left)
        if not claimed:
            time.sleep(POLL_S)
