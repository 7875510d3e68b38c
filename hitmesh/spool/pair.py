"""Several spools as one: every job is put on all that are up, and needs a number of them.

Owns the choice of copies and their health as seen from here. Knows nothing of what a copy is.

Invariants:
- A put returns when every copy has answered (each bounds that by its own time-out) and at least
  the required number has the job.
- A copy that failed once isn't put on again before its `check` has succeeded, in the background:
  one that hangs costs one put its time-out, not all of them.
- Claims and deletes go to every copy whatever its health: one that refuses puts still has jobs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import gevent
from gevent import monkey

from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.spool import Begins, Begun, Claimed, CopyStats, JobId, Spool

T = TypeVar("T")

PROBE_S: Final = 0.25  # between two checks of a copy that failed


@dataclass(frozen=True, slots=True)
class _Id:
    """A job's id in each copy, None where it isn't; `complete` unless it may be on one more."""

    copies: tuple[JobId | None, ...]
    complete: bool

    def __str__(self) -> str:
        """As `hitmesh spool` names jobs: the copy's number, and the job's there."""
        return " and ".join(f"{copy}/{id}" for copy, id in enumerate(self.copies, start=1) if id is not None)


class _Copy:
    """One spool of the pair, and whether puts go to it."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._begins = spool if isinstance(spool, Begins) else None
        self.problem: SpoolRefused | SpoolUnknown | None = None  # why puts don't go to it
        self._probe_at = 0.0
        self._probing = False

    def put(self, body: bytes, delay_s: float) -> JobId | SpoolRefused | SpoolUnknown:
        """The job's id, or why there is none."""
        try:
            return self.spool.put(body, delay_s)
        except (SpoolRefused, SpoolUnknown) as error:
            self.problem = error
            return error

    def begin(self, body: bytes, delay_s: float) -> Begun | None:
        """A put that is under way; None where it can't be begun without waiting."""
        return self._begins.begin_put(body, delay_s) if self._begins is not None else None

    def end(self, begun: Begun) -> JobId | SpoolRefused | SpoolUnknown:
        """As `put`, of one that was begun."""
        try:
            return begun.end()
        except (SpoolRefused, SpoolUnknown) as error:
            self.problem = error
            return error

    def is_usable(self) -> bool:
        """Whether puts go to it; when they don't, a check is started from time to time, and not awaited."""
        if self.problem is None:
            return True
        if not self._probing and time.monotonic() >= self._probe_at:
            self._probing = True
            threading.Thread(target=self._probe, daemon=True).start()  # a greenlet where patched
        return False

    def check(self) -> SpoolRefused | SpoolUnknown | None:
        """Why puts don't go to it now; asks the copy only if they do."""
        if self.is_usable():
            try:
                self.spool.check()
            except (SpoolRefused, SpoolUnknown) as error:
                self.problem = error
        return self.problem

    def _probe(self) -> None:
        try:
            self.spool.check()
            self.problem = None
        except (SpoolRefused, SpoolUnknown) as error:
            self.problem = error
        finally:
            self._probe_at = time.monotonic() + PROBE_S
            self._probing = False


class PairSpool:
    """A Spool of copies; `required` of them must have a job, 0: all that are up, at least one."""

    def __init__(self, spools: Sequence[Spool], *, required: int) -> None:
        self._copies = [_Copy(spool) for spool in spools]
        self._required = max(required, 1)
        self._first_to_claim = 0

    def put(self, body: bytes, delay_s: float) -> JobId:
        """Store a job on every copy that is up; see Spool.put."""
        usable = [copy.is_usable() for copy in self._copies]
        if sum(usable) < self._required:
            raise self._too_few("put", 0)
        asked = [copy for copy, is_usable in zip(self._copies, usable, strict=True) if is_usable]
        answers = iter(_put_on(asked, body, delay_s))
        outcomes = [next(answers) if is_usable else None for is_usable in usable]
        unknown = any(isinstance(outcome, SpoolUnknown) for outcome in outcomes)
        ids = tuple(None if isinstance(it, (SpoolRefused, SpoolUnknown)) else it for it in outcomes)
        stored = sum(copy_id is not None for copy_id in ids)
        if stored >= self._required:
            return _Id(ids, complete=not unknown)
        # Too few, and the hits will be answered with an error: what is there must not be counted later.
        taken_back = self.done([_Id(ids, complete=True)])[0] if stored else True
        if unknown or not taken_back:
            error = self._too_few("put", stored)
            raise SpoolUnknown(error.message, op="put", endpoint=error.endpoint)
        raise self._too_few("put", stored)

    def done(self, ids: Sequence[JobId]) -> list[bool]:
        """Delete jobs from every copy that is known to have them; see Spool.done."""
        known: list[list[tuple[int, JobId]]] = [[] for _ in self._copies]
        for at, job in enumerate(ids):
            assert isinstance(job, _Id)
            for copy_ids, copy_id in zip(known, job.copies, strict=True):
                if copy_id is not None:
                    copy_ids.append((at, copy_id))
        # One that hangs is asked as well: its time-out is bounded, and then it refuses at once for a while.
        answers = _at_once(
            [
                lambda copy=copy, mine=mine: copy.spool.done([copy_id for _, copy_id in mine]) if mine else []  # type: ignore[misc]
                for copy, mine in zip(self._copies, known, strict=True)
            ]
        )
        unclaimed = [isinstance(job, _Id) and job.complete for job in ids]
        for mine, bools in zip(known, answers, strict=True):
            for (at, _), was_unclaimed in zip(mine, bools, strict=True):
                unclaimed[at] = unclaimed[at] and was_unclaimed
        return unclaimed

    def claim(self, limit: int) -> list[Claimed]:
        """Jobs from the copies, which take turns to be the first; see Spool.claim."""
        count = len(self._copies)
        self._first_to_claim = (self._first_to_claim + 1) % count
        claimed: list[Claimed] = []
        for step in range(count):
            at = (self._first_to_claim + step) % count
            if len(claimed) < limit:
                for job in self._copies[at].spool.claim(limit - len(claimed)):
                    ids = tuple(job.id if other == at else None for other in range(count))
                    claimed.append(Claimed(_Id(ids, complete=False), job.body, job.claims))
        return claimed

    def bury(self, id: JobId) -> None:
        """Set a claimed job aside in the copy that gave it out; see Spool.bury."""
        assert isinstance(id, _Id)
        for copy, copy_id in zip(self._copies, id.copies, strict=True):
            if copy_id is not None:
                copy.spool.bury(copy_id)

    def check(self) -> None:
        """Raise SpoolRefused when fewer copies than required can take a put."""
        problems = _at_once([copy.check for copy in self._copies])
        if sum(problem is None for problem in problems) < self._required:
            raise self._too_few("check", 0)

    def stats(self) -> list[CopyStats]:
        """Every copy's stats, in the order of the configuration."""
        return [entry for entries in _at_once([copy.spool.stats for copy in self._copies]) for entry in entries]

    def close(self) -> None:
        """Close every copy."""
        for copy in self._copies:
            copy.spool.close()

    def _too_few(self, op: str, stored: int) -> SpoolRefused:
        problems = [copy.problem for copy in self._copies if copy.problem is not None]
        reasons = "; ".join(problem.reason for problem in problems)
        where = ", ".join(problem.endpoint for problem in problems)
        return SpoolRefused(f"{stored} of the required {self._required} copies: {reasons}", op=op, endpoint=where)


def _put_on(copies: Sequence[_Copy], body: bytes, delay_s: float) -> list[JobId | SpoolRefused | SpoolUnknown]:
    """What each says of a put. Those that go on hub callbacks are begun together, and go on while others are waited for."""
    begun = [copy.begin(body, delay_s) for copy in copies]
    rest = [copy for copy, one in zip(copies, begun, strict=True) if one is None]
    others = iter(_at_once([lambda copy=copy: copy.put(body, delay_s) for copy in rest]))  # type: ignore[misc]
    return [next(others) if one is None else copy.end(one) for copy, one in zip(copies, begun, strict=True)]


def _at_once(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Their answers; under gevent the calls wait side by side, elsewhere one after the other."""
    calls = list(calls)
    if len(calls) < 2 or not monkey.is_module_patched("socket"):
        return [call() for call in calls]
    others = [gevent.spawn(call) for call in calls[1:]]
    first = calls[0]()  # the caller's own greenlet takes one: one spawn fewer
    return [first, *(other.get() for other in others)]
