"""One partition as its owner sees it: take-over, staging, commits, acks. Pure.

The owner's shell asks for the next step, carries it out against the store, and tells how it
went; this object never touches the store itself. At most one step of a partition is under way.

Invariants:
- A part is applied at most once: its lane's marks and its counts change in the same write.
- An ack is only ever made from a head that is known to be in the store.
- A write whose outcome is unknown is settled by reading the head, and repeated only with the
  very same bytes. So a write that arrives late is the same write.
- Whatever can't be explained by our own writes means that somebody else owns the partition:
  step down, drop everything that isn't committed, and let the collectors resend.

    AWAY --take--> READING --head--> CLAIMING --done--> LOADING --rows--> [REDOING] --> OWNED
    OWNED --commit--> COMMITTING --done--> [REDOING] --> OWNED
    COMMITTING --refused or unknown--> SETTLING --head--> OWNED | COMMITTING | AWAY
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from msgspec.structs import replace

from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import (
    MAX_PART_BYTES,
    MAX_PART_PAGES,
    MAX_REDO_ROWS,
    Applied,
    Head,
    LaneEnd,
    LaneState,
    Part,
    RedoRow,
    decode,
    encode,
    make,
)
from hitmesh.state.lanes import Marks
from hitmesh.store import Done, Outcome, Row, StoredHead, Unknown, Write

LANE_RETENTION_S: Final = 7 * 24 * 3600  # a spooled job older than this is set aside, never resent
MAX_COMMIT_ROWS: Final = 1000  # rows of one commit; their redo takes some 50 bytes each beside the pages
MAX_COMMIT_BYTES: Final = 192 * 1024  # of page names in one commit: a redo leaves 130 KiB of a head to its lanes
MAX_WAITING_PARTS: Final = 20_000  # parts beyond the next commit; past it the spool is the memory
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
MAX_CLOSED: Final = 10_000  # workers remembered as closed under this epoch
ROW_OVERHEAD_BYTES: Final = 64  # of a row in a write beside its page: count, datacenter, framing

assert MAX_PART_PAGES <= MAX_COMMIT_ROWS <= MAX_REDO_ROWS
assert MAX_PART_BYTES <= MAX_COMMIT_BYTES


class Phase(Enum):
    """Where a partition stands; see the module's picture."""

    AWAY = "away"
    READING = "reading"
    CLAIMING = "claiming"
    LOADING = "loading"
    REDOING = "redoing"
    OWNED = "owned"
    COMMITTING = "committing"
    SETTLING = "settling"


class Offered(Enum):
    """What became of a part."""

    STAGED = "staged"  # in the next commit; the ack follows
    DUPLICATE = "duplicate"  # applied before; the ack is owed
    MISDIRECTED = "misdirected"  # another epoch's: tell the sender who owns the partition
    DROPPED = "dropped"  # no room now, or a closed lane's; the spool has it


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Step: read the head."""


@dataclass(frozen=True, slots=True)
class LoadRows:
    """Step: load all rows."""


Step = ReadHead | LoadRows | Write
Recipient = tuple[str, str]  # (reply_to, worker)
Acks = dict[Recipient, Applied]


@dataclass(slots=True)
class _Attempt:
    """A commit that has been decided and perhaps written."""

    write: Write
    head: Head
    rows: dict[str, int]  # the pages that it changes
    counts: dict[str, int]  # as of this commit, the pages that its acks name
    owed: dict[Recipient, set[str]]


@dataclass(slots=True)
class Counters:
    """What happened here since the process started, for metrics."""

    applied_hits: int = 0
    commits: int = 0
    duplicates: int = 0
    misdirected: int = 0
    dropped: int = 0
    step_downs: int = 0
    faults: list[str] = field(default_factory=list)  # what an operator must look at; the newest few

    def fault(self, text: str) -> None:
        """Remember a fault, once."""
        if text not in self.faults:
            self.faults = [*self.faults[-4:], text]


class Partition:
    """The state machine of one partition in one processor."""

    def __init__(
        self, number: int, *, dc: str, me: str, ledger: str, max_rows: int, max_write_bytes: int, counters: Counters
    ) -> None:
        """`me` is this process's instance id, `ledger` a fresh id for a partition that never had a head."""
        self.number = number
        self.dc = dc
        self.me = me
        self.counters = counters
        self._new_ledger = ledger
        self._max_rows = max_rows
        self._max_write_bytes = max_write_bytes
        self._reset()

    def _reset(self) -> None:
        self.phase = Phase.AWAY
        self.leaving = False
        self._is_stepping = False  # a step has been given out and not answered yet
        self._index = 0
        self._head: Head | None = None
        self._lanes: dict[str, LaneState] = {}  # as in the last head made
        self._marks: dict[str, Marks] = {}  # with everything staged
        self._staged_hits: dict[str, int] = {}  # worker -> hits since the last head made
        self._counts: dict[str, int] = {}  # own rows, with everything staged
        self._others: dict[str, dict[str, int]] = {}  # page -> other datacenters' rows
        self._dirty: dict[str, None] = {}  # pages staged since the last head made
        self._dirty_bytes = 0
        self._owed: dict[Recipient, set[str]] = {}
        self._ending: set[str] = set()  # workers whose lanes the next commit drops
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[tuple[str, str, Part]] = deque()
        self._waiting_bytes = 0
        self._attempt: _Attempt | None = None
        self._redo: deque[Row] = deque()

    # --- what the shell asks -----------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch under which this processor owns the partition; 0 when it doesn't (yet)."""
        if self._head is None or self.phase not in (Phase.OWNED, Phase.COMMITTING, Phase.SETTLING, Phase.REDOING):
            return 0
        return self._head.epoch if self._head.owner == self.me else 0

    @property
    def is_dirty(self) -> bool:
        """Whether a commit would write anything that matters to somebody."""
        return bool(self._dirty)

    @property
    def pages(self) -> int:
        """Pages with a row of this datacenter."""
        return len(self._counts)

    def take(self) -> None:
        """Start to take the partition over."""
        if self.phase is Phase.AWAY:
            self.phase = Phase.READING
        self.leaving = False

    def leave(self) -> None:
        """Hand the partition over: nothing more is accepted; what is staged is committed first."""
        self.leaving = True
        self._rest()

    def step(self, now_s: float) -> Step | None:
        """What to do against the store now; None when there is nothing to do.

        `now_s` is wall clock. The answer goes to `head_read`, `rows_loaded`, `wrote` or `failed`,
        before the next step is asked for.
        """
        assert not self._is_stepping, f"partition {self.number} has a step under way"
        step = self._next_step(now_s)
        self._is_stepping = step is not None
        return step

    def _next_step(self, now_s: float) -> Step | None:
        if self.phase in (Phase.READING, Phase.SETTLING):
            return ReadHead()
        if self.phase is Phase.LOADING:
            return LoadRows()
        if self.phase is Phase.REDOING:
            return Write(self.number, self._index, None, self._redo_chunk())
        if self.phase in (Phase.CLAIMING, Phase.COMMITTING):
            assert self._attempt is not None
            return self._attempt.write
        if self.phase is Phase.OWNED and self._dirty:
            self._prepare(int(now_s))
            assert self._attempt is not None
            return self._attempt.write
        return None

    def failed(self) -> None:
        """The read or load of the last step gave no answer: the same step is asked for again."""
        self._is_stepping = False
        self._rest()

    # --- taking over -------------------------------------------------------------------------

    def head_read(self, stored: StoredHead | None) -> Acks:
        """The answer to ReadHead."""
        self._is_stepping = False
        try:
            head = None if stored is None else decode(stored.body, Head)
        except DecodeError as error:
            self._step_down(f"the head of partition {self.number} can't be read: {error}")
            return {}
        if self.phase is Phase.SETTLING:
            return self._settle(head, stored.index if stored else 0)
        assert self.phase is Phase.READING, self.phase
        if self.leaving:
            self._reset()
            return {}
        if stored is None or head is None:
            # Nobody has ever owned it, or somebody deleted it: the rows tell which.
            self._head, self._index = None, 0
            self.phase = Phase.LOADING
            return {}
        self._claim(replace(head, epoch=head.epoch + 1, owner=self.me), stored.index)
        return {}

    def _claim(self, head: Head, index: int) -> None:
        self._attempt = _Attempt(Write(self.number, index, encode(head), ()), head, {}, {}, {})
        self.phase = Phase.CLAIMING

    def rows_loaded(self, rows: Iterable[Row]) -> None:
        """The answer to LoadRows."""
        self._is_stepping = False
        assert self.phase is Phase.LOADING, self.phase
        if self._head is None:
            if any(True for _ in rows):
                self._step_down(
                    f"partition {self.number} has rows but no head: its lanes are lost, and counting on could "
                    "count hits twice; restore the head, or remove the rows"
                )
            else:
                self._claim(
                    make(Head, self._new_ledger, 1, self.me, 0, 0, {}, ()),
                    0,
                )
            return
        for row in rows:
            if row.dc == self.dc:
                self._counts[row.page] = row.count
            else:
                self._others.setdefault(row.page, {})[row.dc] = row.count
        for redo in self._head.redo:
            if redo.dc == self.dc:
                self._counts[redo.page] = redo.count
            else:
                self._others.setdefault(redo.page, {})[redo.dc] = redo.count
            self._redo.append(Row(redo.page, redo.dc, redo.count, self._head.commit))
        self._lanes = dict(self._head.lanes)
        self._marks = {worker: Marks(lane.mark, lane.above) for worker, lane in self._lanes.items()}
        self.phase = Phase.REDOING if self._redo else Phase.OWNED
        self._rest()

    # --- writing -----------------------------------------------------------------------------

    def wrote(self, outcome: Outcome) -> Acks:
        """The outcome of the last write step; the acks that it allows."""
        self._is_stepping = False
        if self.phase is Phase.CLAIMING:
            assert self._attempt is not None
            attempt, self._attempt = self._attempt, None
            if isinstance(outcome, Done):
                self._head, self._index = attempt.head, outcome.index
                self.phase = Phase.LOADING
            elif isinstance(outcome, Unknown):
                self.phase = Phase.READING  # a claim that did arrive is claimed over, under the next epoch
                self._rest()
            else:
                self._reset()  # somebody was faster
            return {}
        if self.phase is Phase.REDOING:
            if isinstance(outcome, Done):
                for _ in range(min(self._max_rows, len(self._redo))):
                    self._redo.popleft()
                if not self._redo:
                    self.phase = Phase.OWNED
                    self._rest()
            elif not isinstance(outcome, Unknown):  # unknown: the rows are absolute, write them again
                self._step_down(None)
            return {}
        assert self.phase is Phase.COMMITTING, self.phase
        if isinstance(outcome, Done):
            return self._committed(outcome.index)
        self.phase = Phase.SETTLING
        return {}

    def _settle(self, head: Head | None, index: int) -> Acks:
        attempt = self._attempt
        assert attempt is not None and self._head is not None
        if head is None:
            self._step_down(f"the head of partition {self.number} was deleted while it was owned")
        elif head == attempt.head:
            return self._committed(index)
        elif index == self._index and head == self._head:
            self.phase = Phase.COMMITTING  # it hasn't arrived (yet): the same bytes again
        else:
            self._step_down(None)
        return {}

    def _prepare(self, now_s: int) -> None:
        assert self._head is not None
        for worker, hits in self._staged_hits.items():
            before = self._lanes.get(worker)
            marks = self._marks[worker]
            total = hits + (before.hits if before else 0)
            self._lanes[worker] = LaneState(marks.mark, marks.above, total, now_s)
        for worker in self._ending:
            self._forget(worker)
        for worker in [w for w, lane in self._lanes.items() if lane.seen_s < now_s - LANE_RETENTION_S]:
            self._forget(worker)
        rows = {page: self._counts[page] for page in self._dirty}
        applied = sum(self._staged_hits.values())
        head = replace(
            self._head,
            commit=self._head.commit + 1,
            hits=self._head.hits + applied,
            lanes=dict(self._lanes),
            redo=(),
        )
        body = encode(head)
        size = len(body) + self._dirty_bytes + ROW_OVERHEAD_BYTES * len(rows)
        if len(rows) <= self._max_rows and size <= self._max_write_bytes:
            own = [Row(page, self.dc, count, head.commit) for page, count in rows.items()]
        else:
            head = replace(head, redo=tuple(RedoRow(page, self.dc, count) for page, count in rows.items()))
            body = encode(head)
            own = []
        # Frozen now: a page that is owed but unchanged may be staged again before this is written.
        counts = {page: self._counts.get(page, 0) for pages in self._owed.values() for page in pages}
        self._attempt = _Attempt(Write(self.number, self._index, body, own), head, rows, counts, self._owed)
        self.phase = Phase.COMMITTING
        self._staged_hits, self._dirty, self._dirty_bytes = {}, {}, 0
        self._owed, self._ending = {}, set()
        self._drain_waiting()

    def _forget(self, worker: str) -> None:
        self._lanes.pop(worker, None)
        self._marks.pop(worker, None)

    def _committed(self, index: int) -> Acks:
        attempt, self._attempt = self._attempt, None
        assert attempt is not None and self._head is not None
        self.counters.commits += 1
        self.counters.applied_hits += attempt.head.hits - self._head.hits
        self._head, self._index = attempt.head, index
        if attempt.head.redo:
            self._redo.extend(Row(page, self.dc, count, attempt.head.commit) for page, count in attempt.rows.items())
            self.phase = Phase.REDOING
        else:
            self.phase = Phase.OWNED
        acks = {to: self._applied(to[1], pages, attempt.counts) for to, pages in attempt.owed.items()}
        if not self._dirty:
            for to, pages in self._owed.items():  # duplicates that came while the commit was on its way
                earlier = attempt.owed.get(to, set())
                acks[to] = self._applied(to[1], pages | earlier, self._counts)
            self._owed = {}
        self._rest()
        return acks

    def _applied(self, worker: str, pages: Iterable[str], counts: dict[str, int]) -> Applied:
        """What `worker` may know as of the head in the store; `counts` are own rows as of that commit."""
        assert self._head is not None
        lane = self._head.lanes.get(worker)
        totals = {}
        for page in pages:
            subtotals = dict(self._others.get(page, ()))
            subtotals[self.dc] = counts.get(page, 0)
            totals[page] = subtotals
        mark, above = (lane.mark, lane.above) if lane else (0, ())
        return Applied(self.number, self._head.epoch, self._head.commit, mark, above, totals)

    # --- parts -------------------------------------------------------------------------------

    def offer(self, worker: str, reply_to: str, epoch: int, part: Part) -> tuple[Offered, Applied | None]:
        """Take one part of a batch; an ack to send at once comes with a duplicate, if it can."""
        if self.epoch == 0 or epoch != self.epoch:
            self.counters.misdirected += 1
            return Offered.MISDIRECTED, None
        if self.leaving or worker in self._closed:
            self.counters.dropped += 1
            return Offered.DROPPED, None
        marks = self._marks.get(worker)
        if marks is not None and marks.covers(part.seq):
            self.counters.duplicates += 1
            pages = part.counts.keys()
            if self.phase in (Phase.OWNED, Phase.REDOING) and not self._dirty:
                return Offered.DUPLICATE, self._applied(worker, pages, self._counts)
            self._owed.setdefault((reply_to, worker), set()).update(pages)
            return Offered.DUPLICATE, None
        if self._waiting or not self._has_room(part):
            size = _size(part)
            is_full = len(self._waiting) >= MAX_WAITING_PARTS or self._waiting_bytes + size > MAX_WAITING_BYTES
            # A part too large for any commit comes from no collector of ours, and would wait for ever.
            if is_full or _page_bytes(part) > MAX_COMMIT_BYTES:
                self.counters.dropped += 1
                return Offered.DROPPED, None
            self._waiting.append((worker, reply_to, part))
            self._waiting_bytes += size
            return Offered.STAGED, None
        return (Offered.STAGED if self._stage(worker, reply_to, part) else Offered.DROPPED), None

    def _has_room(self, part: Part) -> bool:
        rows = len(self._dirty) + len(part.counts)
        return rows <= MAX_COMMIT_ROWS and self._dirty_bytes + _page_bytes(part) <= MAX_COMMIT_BYTES

    def _stage(self, worker: str, reply_to: str, part: Part) -> bool:
        marks = self._marks.get(worker)
        if marks is None:
            marks = self._marks[worker] = Marks()
        marks.raise_to(part.low)
        if not marks.has_room(part.seq):
            self.counters.dropped += 1  # too many holes; the spool has the part
            return False
        marks.add(part.seq)
        hits = 0
        for page, count in part.counts.items():
            self._counts[page] = self._counts.get(page, 0) + count
            hits += count
            if page not in self._dirty:
                self._dirty[page] = None
                self._dirty_bytes += len(page.encode())
        self._staged_hits[worker] = self._staged_hits.get(worker, 0) + hits
        self._owed.setdefault((reply_to, worker), set()).update(part.counts)
        return True

    def _drain_waiting(self) -> None:
        while self._waiting:
            worker, reply_to, part = self._waiting[0]
            if not self._has_room(part):
                return
            self._waiting.popleft()
            self._waiting_bytes -= _size(part)
            marks = self._marks.get(worker)
            if marks is not None and marks.covers(part.seq):  # its twin waited before it
                self._owed.setdefault((reply_to, worker), set()).update(part.counts)
            elif worker not in self._closed:
                self._stage(worker, reply_to, part)

    def close_lane(self, worker: str, end: LaneEnd) -> bool:
        """Drop a lane with the next commit, if it ended as its worker says under this epoch."""
        lane = self._lanes.get(worker)
        if self.epoch == 0 or end.epoch != self.epoch or lane is None or worker in self._staged_hits:
            return False
        if lane.mark != end.last or lane.above:
            return False
        self._ending.add(worker)
        self._closed[worker] = None
        while len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)
        return True

    # --- stepping down -----------------------------------------------------------------------

    def _rest(self) -> None:
        """Away, when leaving and everything staged is committed."""
        if not self.leaving or self._is_stepping:
            return
        if self.phase in (Phase.READING, Phase.AWAY) or (self.phase is Phase.OWNED and not self._dirty):
            self._reset()

    def _step_down(self, fault: str | None) -> None:
        self.counters.step_downs += 1
        if fault:
            self.counters.fault(fault)
        self._reset()

    def _redo_chunk(self) -> Sequence[Row]:
        return [self._redo[i] for i in range(min(self._max_rows, len(self._redo)))]


def _page_bytes(part: Part) -> int:
    return sum(len(page.encode()) for page in part.counts)


def _size(part: Part) -> int:
    """Memory that a waiting part holds, roughly."""
    return sum(len(page) for page in part.counts) * 2 + 16 * len(part.counts)
