"""A worker's batches: lanes, sequence numbers, what is not acked yet. Pure.

Owns the numbering and the memory of what was spooled and not yet committed. Decides what to
send, resend and delete; the shell does it.

Invariants:
- A sequence number is given to one part only and never again, whatever became of its job.
- A part leaves this memory when an ack covers it, or when its job is left to the spool.
- A job is done when every part of it is covered.
- An ack of this worker's lane that covers a number which it never used is nothing that it can go by. What the
  store says so is true: somebody else has used numbers of the lane, and it goes on above them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from hitmesh.collector.trace import Acked, Trip
from hitmesh.protocol.messages import MAX_PART_BYTES, MAX_PART_PAGES, MAX_TOTAL, Applied, Job, LaneEnd, Part, make
from hitmesh.protocol.pages import partition_of
from hitmesh.spool import JobId
from hitmesh.state.lanes import Marks

RESEND_GROWTH: Final = 2.0  # each resend waits twice as long, so that resending can't amplify an overload
RESEND_MAX_S: Final = 15.0
PART_OVERHEAD_BYTES: Final = 200  # of a part in memory, beside its pages
PAGE_OVERHEAD_BYTES: Final = 60
MAX_GAPS: Final = 16  # of a lane, remembered: there are none unless somebody attacks


@dataclass(slots=True, eq=False)
class Flight:
    """A job that is in the spool and not yet known to be committed."""

    id: JobId
    worker: str
    parts: dict[tuple[int, int], Part | None]  # (partition, seq) -> the part; None: left to the spool
    hits: int
    claimed: bool  # given out by the spool, not put by this worker
    since_s: float  # when it was put or claimed
    sent_s: float = 0.0
    wait_s: float = 0.0
    size_bytes: int = 0
    trip: Trip | None = None  # where its stations are remembered

    def open_parts(self) -> Iterator[Part]:
        """The parts that can still be sent from memory."""
        return (part for part in self.parts.values() if part is not None)


@dataclass(slots=True)
class Settled:
    """What an ack settled."""

    parts: list[Part]  # of this worker's own lanes, without those that were left to the spool
    done: list[JobId]  # jobs with nothing left to commit: delete them from the spool
    since_s: list[float] = field(default_factory=list)  # when those of them that this worker has put were put
    claims: int = 0  # how many of those were claimed ones
    jumped_to: int = 0  # where somebody else has brought this worker's lane; 0: nowhere
    in_doubt: int = 0  # hits of this worker under numbers that somebody else may have used


@dataclass(slots=True)
class _Lane:
    """The sending end of one of this worker's lanes."""

    next_seq: int = 1
    in_doubt_below: int = 0  # numbers that somebody else may have given up
    # where it went on above somebody else's numbers: its own last one before, and the first after
    gaps: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=MAX_GAPS))
    flights: dict[int, Flight | None] = field(default_factory=dict)  # seq -> flight; None while being put


class Batches:
    """All batches of one worker, and the jobs that it has claimed."""

    def __init__(self, worker: str, *, partitions: int, resend_s: float, unacked_bytes: int) -> None:
        self.worker = worker
        self.partitions = partitions
        self.resend_s = resend_s
        self.limit_bytes = unacked_bytes
        self._lanes: dict[int, _Lane] = defaultdict(_Lane)  # by partition
        self._flights: dict[JobId, Flight] = {}  # this worker's own
        self._claims: dict[JobId, Flight] = {}
        self._size_bytes = 0
        self.accepted = 0  # hits whose job was put
        self.acked = 0  # of those, hits known to be committed
        self.unknown = 0  # hits whose put gave no answer: counted at most once
        self.in_doubt = 0  # hits of acked jobs whose numbers somebody else may have used: perhaps not counted
        self.jumps = 0  # how often somebody else has used numbers of this worker's lanes
        self._highest = 0  # number that somebody else has brought a lane to
        self._clean = True  # every own job so far was deleted before anybody could claim it

    # --- a batch's life ----------------------------------------------------------------------

    def form(self, counts: Mapping[str, int], now_ms: int) -> Job:
        """The job of a closed batch: its counts by partition, each part under a new sequence number."""
        by_partition: dict[int, list[str]] = defaultdict(list)
        for page in counts:
            by_partition[partition_of(page, self.partitions)].append(page)
        parts = []
        for partition, pages in by_partition.items():
            lane = self._lanes[partition]
            for chunk in _chunks(pages):
                seq = lane.next_seq
                lane.next_seq += 1
                lane.flights[seq] = None
                parts.append(Part(partition, seq, next(iter(lane.flights)), {page: counts[page] for page in chunk}))
        return make(Job, self.worker, now_ms, tuple(parts))

    def spooled(self, job: Job, id: JobId, now_s: float, *, only_once: bool = True) -> Flight:
        """The spool has the job: its hits may be answered and its parts sent.

        `only_once` False: an earlier put of it had no clear answer, so it may be there twice. Past
        the memory's limit the flight has no open parts: somebody with room claims the job.
        """
        flight = self._flight(job, id, now_s, claimed=False)
        self._flights[id] = flight
        self.accepted += flight.hits
        self._clean = self._clean and only_once
        for part in job.parts:
            self._lanes[part.partition].flights[part.seq] = flight
        if self._size_bytes > self.limit_bytes:
            self._release(flight)
            flight.parts = dict.fromkeys(flight.parts)
            self._clean = False
        return flight

    def refused(self, job: Job, *, unknown: bool) -> None:
        """The put failed: its sequence numbers are given up, and never used again."""
        for part in job.parts:
            self._lanes[part.partition].flights.pop(part.seq, None)
        if unknown:
            self.unknown += _hits(job)
            self._clean = False

    def claimed(self, job: Job, id: JobId, now_s: float) -> Flight:
        """A job that the spool gave out: resend it unchanged."""
        before = self._claims.pop(id, None)  # given out again just before the claim expired here
        if before is not None:
            self._release(before)
        flight = self._flight(job, id, now_s, claimed=True)
        self._claims[id] = flight
        if job.worker == self.worker:
            self._clean = False
        return flight

    def expire_claims(self, older_than_s: float) -> None:
        """Forget the claims made before `older_than_s`: the spool gives those jobs out again."""
        for id in [id for id, flight in self._claims.items() if flight.since_s < older_than_s]:
            self._release(self._claims.pop(id))

    def _flight(self, job: Job, id: JobId, now_s: float, *, claimed: bool) -> Flight:
        parts: dict[tuple[int, int], Part | None] = {(part.partition, part.seq): part for part in job.parts}
        flight = Flight(id, job.worker, parts, _hits(job), claimed, now_s)
        flight.size_bytes = sum(_size(part) for part in job.parts)
        self._size_bytes += flight.size_bytes
        return flight

    def _release(self, flight: Flight) -> None:
        self._size_bytes -= flight.size_bytes
        flight.size_bytes = 0

    # --- sending -----------------------------------------------------------------------------

    def sent(self, flight: Flight, now_s: float) -> None:
        """The flight's open parts were just sent, or tried."""
        flight.sent_s = now_s
        flight.wait_s = min(flight.wait_s * RESEND_GROWTH, RESEND_MAX_S) if flight.wait_s else self.resend_s

    def overdue(self, now_s: float) -> list[Flight]:
        """Flights whose acks have been missing for long enough to send them again."""
        return [flight for flight in self._all() if now_s - flight.sent_s >= flight.wait_s]

    def touching(self, partitions: set[int]) -> list[Flight]:
        """Flights with parts in `partitions`, whose owner has just changed."""
        return [flight for flight in self._all() if any(partition in partitions for partition, _ in flight.parts)]

    def _all(self) -> Iterator[Flight]:
        return chain(self._flights.values(), self._claims.values())

    # --- acks --------------------------------------------------------------------------------

    @property
    def is_used_up(self) -> bool:
        """Whether somebody else has used a lane's last numbers: only another worker can count on."""
        return self._highest > MAX_TOTAL // 2

    def goes_too_far(self, worker: str, applied: Applied) -> bool:
        """Whether this covers a number that the lane's worker, which is this one, has never used."""
        if worker != self.worker:
            return False
        lane = self._lanes.get(applied.partition)
        if lane is None:
            return applied.mark > 0 or bool(applied.above)
        if Marks(applied.mark, applied.above).top >= lane.next_seq:
            return True
        return any(last < applied.mark < first for last, first in lane.gaps)

    def expects(self, worker: str, partition: int) -> bool:
        """Whether an ack of this lane can settle anything."""
        lane = self._lanes.get(partition) if worker == self.worker else None
        if lane is not None and lane.flights:
            return True
        # Of our own too: one whose put had no clear answer, or a copy that was put twice.
        return any(flight.worker == worker for flight in self._claims.values())

    def page_of(self, partition: int) -> str | None:
        """A page with hits on the way to this partition."""
        lane = self._lanes.get(partition)
        for seq, flight in lane.flights.items() if lane else ():
            part = flight.parts.get((partition, seq)) if flight else None
            if part is not None:
                return next(iter(part.counts), None)
        return None

    def settle(self, worker: str, applied: Applied, now_s: float = 0.0) -> Settled:
        """Take in what a lane has applied: an ack that doesn't go too far, or what the store says."""
        ack = Acked(now_s, applied.partition, applied.epoch, applied.commit, applied.mark, applied.above)
        marks = Marks(applied.mark, applied.above)
        settled = Settled([], [])
        if worker == self.worker and applied.partition < self.partitions:
            lane = self._lanes[applied.partition]
            if marks.top >= lane.next_seq:
                self._jump(lane, applied, marks.top, settled)
            for seq in [seq for seq in lane.flights if marks.covers(seq)]:
                flight = lane.flights.pop(seq)
                if flight is not None:  # None: being put this moment and applied all the same, by a claim
                    settled.in_doubt += self._in_doubt(lane, applied.partition, seq, flight)
                    self._cover(flight, applied.partition, seq, settled, ack)
            self.in_doubt += settled.in_doubt
        for flight in [flight for flight in self._claims.values() if flight.worker == worker]:
            for partition, seq in list(flight.parts):
                if partition == applied.partition and marks.covers(seq):
                    self._cover(flight, partition, seq, settled, ack)
        return settled

    @staticmethod
    def _in_doubt(lane: _Lane, partition: int, seq: int, flight: Flight) -> int:
        part = flight.parts.get((partition, seq)) if seq < lane.in_doubt_below else None
        return sum(part.counts.values()) if part is not None else 0

    def _jump(self, lane: _Lane, applied: Applied, top: int, settled: Settled) -> None:
        """Go on above the numbers of a lane that somebody else has used.

        What is covered by a range was applied. What a mark covers that has passed the lane's last number may have
        been given up in our name; its hits can't be sent again without counting some of them twice, perhaps.
        """
        if applied.mark >= lane.next_seq:
            lane.in_doubt_below = lane.next_seq
        lane.gaps.append((lane.next_seq - 1, top + 1))
        lane.next_seq = settled.jumped_to = top + 1
        self.jumps += 1
        self._highest = max(self._highest, top)
        self._clean = False

    def _cover(self, flight: Flight, partition: int, seq: int, settled: Settled, ack: Acked) -> None:
        part = flight.parts.pop((partition, seq), None)
        if flight.trip is not None:
            flight.trip.acks.append(ack)
        if part is not None and not flight.claimed:
            settled.parts.append(part)
        if flight.parts:
            return
        settled.done.append(flight.id)
        self._release(flight)
        if flight.claimed:
            settled.claims += 1
            self._claims.pop(flight.id, None)
        else:
            self._flights.pop(flight.id, None)
            self.acked += flight.hits
            settled.since_s.append(flight.since_s)

    # --- the end -----------------------------------------------------------------------------

    def deleted(self, unclaimed: Iterable[bool]) -> None:
        """What the spool said of jobs that were done: whether each was deleted everywhere unclaimed."""
        if not all(unclaimed):
            self._clean = False

    def ends(self, epochs: Mapping[int, int]) -> list[LaneEnd]:
        """This worker's lanes, to be closed; none unless every job was acked and deleted unclaimed."""
        if not self._clean or self.unacked:
            return []
        return [
            LaneEnd(partition, epochs[partition], lane.next_seq - 1)
            for partition, lane in self._lanes.items()
            if lane.next_seq > 1 and partition in epochs
        ]

    @property
    def unacked(self) -> int:
        """Own jobs that are in the spool and not known to be committed."""
        return len(self._flights)

    def oldest_s(self, now_s: float) -> float:
        """For how long the oldest own job has waited for its acks; 0 without one."""
        oldest = next(iter(self._flights.values()), None)  # they stand in the order of their puts
        return now_s - oldest.since_s if oldest else 0.0

    @property
    def claims(self) -> int:
        """Claimed jobs under way."""
        return len(self._claims)

    @property
    def size_bytes(self) -> int:
        """Memory held by unacked parts, roughly."""
        return self._size_bytes


def _hits(job: Job) -> int:
    return sum(sum(part.counts.values()) for part in job.parts)


def _size(part: Part) -> int:
    return PART_OVERHEAD_BYTES + sum(len(page) + PAGE_OVERHEAD_BYTES for page in part.counts)


def _chunks(pages: list[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for page in pages:
        length = len(page.encode())
        if chunk and (len(chunk) >= MAX_PART_PAGES or size + length > MAX_PART_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(page)
        size += length
    yield chunk
