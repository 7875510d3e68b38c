"""The arithmetic of the books: do the hits that were accepted, applied and spooled fit together? Pure.

What is compared was read one after the other, while hits go on: live workers' counters before
(1), then the spool's jobs, then the heads and rows (2), then the workers' counters again, sent
after that (3). So each comparison is of an earlier number with a later one that it can't exceed:

- a worker's acked hits (1) are applied (2): the store has lost nothing that it acknowledged
- applied (2) were accepted, or put with an unknown outcome (3): nothing is counted twice
- accepted (1) are applied (2), or in a job that was in the spool in between: nothing is lost
- the rows of a partition, and what its head says is lost, sum to the hits of its head: both ways of
  counting agree, unless its rows are being brought back from other datacenters just now

What a wiped store lost for good is `lost`: the marks of those hits were in another datacenter's copy,
so nobody sends them again, and their rows weren't. They are committed, and in no total.

A worker is a lane id: one collector process. A job's part that its lane has applied is committed,
not spooled. When nothing is on the way all the numbers are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from hitmesh.books.copies import Copy, Replicated
from hitmesh.protocol.bounds import MAX_AHEAD
from hitmesh.protocol.messages import Head, Job, LaneState
from hitmesh.state.lanes import Marks


class Worker(Struct, frozen=True):
    """A live collector's counters, from one of its heartbeats; in hits."""

    name: str  # for people
    accepted: int  # put for certain
    acked: int  # known to be committed
    unknown: int  # put with an unknown outcome: counted at most once
    jobs: int  # put and not yet acked
    jumps: int = 0  # how often somebody else has used numbers of its lanes
    in_doubt: int = 0  # hits under such numbers: perhaps not counted


class Book(Struct, frozen=True):
    """One partition as the store has it at one moment."""

    hits: int  # as the head counts them
    rows_sum: int  # own rows
    lanes: Mapping[str, LaneState]
    lost: int = 0  # hits without rows, as the head says
    restoring: bool = False  # its rows are being brought back: they can't sum to anything yet


class Spooled(Struct, frozen=True):
    """What is in the spool: the jobs themselves where it can list them, else how many."""

    jobs: Sequence[Job] | None
    count: int
    bad: Sequence[str] = ()  # jobs that can't be read


class Observed(Struct, frozen=True):
    """One datacenter, looked at in this order."""

    before: Mapping[str, Worker]  # by worker id
    spool: Spooled
    books: Mapping[int, Book]  # by partition
    after: Mapping[str, Worker]
    unreadable: Mapping[int, str] = {}  # partitions that can't be read, and why
    refused: Mapping[str, int] = {}  # by instance, what arrived there and couldn't be


class Verdict(Struct, frozen=True):
    """One datacenter's books; accepted = committed + spooled + in_flight."""

    accepted: int  # as live workers say, and as heads and spool show for the others
    committed: int
    spooled: int  # in jobs of workers that don't live any more
    in_flight: int  # accepted by live workers and not yet committed
    unknown: int  # put by live workers with an unknown outcome: counted at most once
    unknown_committed: int  # of those, what is counted at least; part of accepted
    orphan_jobs: int  # jobs whose hits can't be known, because the spool can't list them
    lost: int  # committed hits that are in no total, because a wiped store had their only rows
    restoring: int  # partitions whose rows are being brought back
    problems: Sequence[str]
    replicated: Mapping[str, Copy] = {}  # the copies of its counts, by the datacenter where they are
    refused: Mapping[str, int] = {}  # messages, parts and rows, by the instance that refused them

    @property
    def balanced(self) -> bool:
        """Whether nothing contradicts anything."""
        return not self.problems


def check(observed: Observed) -> Verdict:
    """The books of one datacenter."""
    live = observed.after
    applied = applied_by_worker(observed.books.values())
    committed = sum(book.hits for book in observed.books.values())
    waiting = _waiting_by_worker(observed.spool.jobs, observed.books) if observed.spool.jobs is not None else None
    spooled = sum(hits for worker, hits in (waiting or {}).items() if worker not in live)
    in_flight = unknown_committed = 0
    for worker, counters in live.items():
        on_the_way = counters.accepted - applied.get(worker, 0)
        in_flight += max(0, on_the_way)
        unknown_committed += max(0, -on_the_way)
    orphans = 0
    if waiting is None:
        # Jobs of live workers that are acked a moment later may be counted here while hits go on.
        orphans = max(0, observed.spool.count - sum(worker.jobs for worker in live.values()))
    return Verdict(
        accepted=committed + spooled + in_flight,
        committed=committed,
        spooled=spooled,
        in_flight=in_flight,
        unknown=sum(worker.unknown for worker in live.values()),
        unknown_committed=unknown_committed,
        orphan_jobs=orphans,
        lost=sum(book.lost for book in observed.books.values()),
        restoring=sum(book.restoring for book in observed.books.values()),
        problems=[
            *(f"partition {partition}: {reason}" for partition, reason in sorted(observed.unreadable.items())),
            *(f"a job in the spool can't be read: {reason}" for reason in observed.spool.bad),
            *_partition_problems(observed.books),
            *_lane_problems(observed),
            *_worker_problems(observed, applied, waiting),
        ],
        refused=observed.refused,
    )


def with_copies(verdict: Verdict, replicated: Replicated) -> Verdict:
    """The books with what was found of the copies."""
    return replace(verdict, problems=[*verdict.problems, *replicated.problems], replicated=replicated.copies)


def applied_by_worker(books: Iterable[Book]) -> dict[str, int]:
    """The hits that each lane's worker has had applied, over all partitions."""
    applied: dict[str, int] = {}
    for book in books:
        for worker, lane in book.lanes.items():
            applied[worker] = applied.get(worker, 0) + lane.hits
    return applied


def book(head: Head | None, rows_sum: int) -> Book:
    """A partition's book from its head; without one, nothing was ever applied."""
    return Book(head.hits, rows_sum, head.lanes, head.lost, head.restoring) if head else Book(0, rows_sum, {})


def _waiting_by_worker(jobs: Iterable[Job], books: Mapping[int, Book]) -> dict[str, int]:
    """The hits of each worker's jobs that its lanes haven't applied; two copies of a job are one."""
    waiting: dict[str, int] = {}
    seen: set[tuple[str, int, int]] = set()
    for job in jobs:
        for part in job.parts:
            step = (job.worker, part.partition, part.seq)
            if step in seen:
                continue
            seen.add(step)
            found = books.get(part.partition)
            lane = found.lanes.get(job.worker) if found else None
            if lane is None or not Marks(lane.mark, lane.above).covers(part.seq):
                waiting[job.worker] = waiting.get(job.worker, 0) + sum(part.counts.values())
    return waiting


def _partition_problems(books: Mapping[int, Book]) -> list[str]:
    problems = []
    for partition, each in sorted(books.items()):
        if each.rows_sum + each.lost != each.hits and not each.restoring:
            lost = f" and that {each.lost} are lost" if each.lost else ""
            problems.append(
                f"partition {partition}: its rows sum to {each.rows_sum}, its head says {each.hits} hits{lost}"
            )
        # Lanes that ended are gone from the head, so theirs can only be fewer.
        lanes = sum(lane.hits for lane in each.lanes.values())
        if lanes > each.hits:
            problems.append(f"partition {partition}: its lanes brought {lanes} hits, its head says {each.hits}")
    return problems


def _has_jumped(lane: LaneState) -> bool:
    """Whether somebody else has used its numbers: each brings a hit, but for those of refused puts."""
    return Marks(lane.mark, lane.above).top > lane.hits + MAX_AHEAD


def _lane_problems(observed: Observed) -> list[str]:
    problems = []
    for partition, each in sorted(observed.books.items()):
        for worker, lane in each.lanes.items():
            if _has_jumped(lane):
                name = observed.after[worker].name if worker in observed.after else f"{worker!a:.140}"
                problems.append(
                    f"partition {partition}: the lane of {name} is at {Marks(lane.mark, lane.above).top} after"
                    f" {lane.hits} hits: somebody else has used its numbers, and hits answered since may be lost"
                )
    return problems


def _worker_problems(observed: Observed, applied: Mapping[str, int], waiting: Mapping[str, int] | None) -> list[str]:
    problems = []
    for worker, after in observed.after.items():
        got = applied.get(worker, 0)
        if got > after.accepted + after.unknown:
            lanes = (each.lanes[worker] for each in observed.books.values() if worker in each.lanes)
            is_forged = after.jumps or any(map(_has_jumped, lanes))
            problems.append(
                f"{after.name}: {got} of its hits are committed, it accepted {after.accepted}"
                f" and {after.unknown} are unknown: {got - after.accepted - after.unknown} are"
                f" {'from somebody else, under its name' if is_forged else 'counted twice'}"
            )
        if after.jumps:
            problems.append(
                f"{after.name}: somebody else has used numbers of its lanes, {after.jumps} times;"
                f" {after.in_doubt} of its hits were answered and may be lost"
            )
        before = observed.before.get(worker)
        if before is None or observed.unreadable:  # whose hits are where nobody can see isn't known
            continue
        if before.acked > got:
            problems.append(
                f"{after.name}: {before.acked} of its hits were acknowledged, {got} are in the store:"
                f" {before.acked - got} are lost"
            )
        elif waiting is not None and before.accepted > got + waiting.get(worker, 0):
            problems.append(
                f"{after.name}: it accepted {before.accepted} hits, {got} are in the store"
                f" and {waiting.get(worker, 0)} in the spool: {before.accepted - got - waiting.get(worker, 0)} are lost"
            )
    return problems
