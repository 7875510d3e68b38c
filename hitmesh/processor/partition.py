"""One partition as its owner sees it: take-over, staging, commits, acks. Pure.

The owner's shell asks for the next step, carries it out against the store, and tells how it
went; this object never touches the store itself. At most one step of a partition is under way.

Invariants:
- A part is applied at most once: its lane's marks and its counts change in the same write.
- An ack is only ever made from a head that is known to be in the store.
- A write whose outcome is unknown is settled by reading the head, and repeated only with the
  very same bytes. So a write that arrives late is the same write.
- What other datacenters' owners say of their rows is committed here like our own: their rows, how far
  that is, and their lanes, in the same write.
- Whatever can't be explained by our own writes means that somebody else owns the partition:
  step down, drop everything that isn't committed, and let the collectors resend.

    AWAY --take--> READING --head--> CLAIMING --done--> LOADING --rows--> [REDOING] --> OWNED
    CLAIMING --done, nothing was there--> RESTORING --from its peers--> CLAIMING --done--> LOADING
    OWNED --commit--> COMMITTING --done--> [REDOING] --> OWNED
    COMMITTING --refused or unknown--> SETTLING --head--> OWNED | COMMITTING | AWAY
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from msgspec.structs import replace

from hitmesh.errors import DecodeError
from hitmesh.processor.arrivals import Arrivals, not_after, rows_of
from hitmesh.processor.feed import Feed
from hitmesh.processor.restoring import Restoration
from hitmesh.processor.staging import MAX_COMMIT_ROWS, Size, Staged, Staging, size_of
from hitmesh.processor.steps import (
    Acks,
    Counters,
    LoadRows,
    Offered,
    Phase,
    ReadHead,
    Step,
)
from hitmesh.protocol.messages import (
    MAX_REDO_ROWS,
    Applied,
    Chunk,
    Head,
    LaneEnd,
    Origin,
    OriginRow,
    Part,
    Position,
    RedoRow,
    decode_head,
    encode,
    make,
)
from hitmesh.store import Done, Outcome, Row, StoredHead, Unknown, Write
from hitmesh.store.totals import is_row

ROW_OVERHEAD_BYTES: Final = 64  # of a row in a write beside its page: count, datacenter, framing

assert MAX_COMMIT_ROWS <= MAX_REDO_ROWS


@dataclass(slots=True)
class _Attempt:
    """A commit that has been decided and perhaps written."""

    write: Write
    head: Head
    staged: Staged | None = None
    chunks: Sequence[Chunk] = ()  # of other datacenters, that it brings in


class Partition:
    """The state machine of one partition in one processor."""

    def __init__(
        self,
        number: int,
        *,
        dc: str,
        me: str,
        ledger: str,
        max_rows: int,
        max_write_bytes: int,
        counters: Counters,
        partitions: int = 1,
        is_living: Callable[[str], bool] = lambda worker: True,
    ) -> None:
        """`me` is this process's instance id, `ledger` a fresh id for a partition that never had a head.

        `partitions` there are; `is_living` says whether the mesh shows a worker as alive.
        """
        self.number = number
        self.partitions = partitions
        self._is_living = is_living
        self.dc = dc
        self.me = me
        self.counters = counters
        self._new_ledger = ledger
        self._max_rows = max_rows
        self._max_write_bytes = max_write_bytes
        self._alone = True
        self._reset()

    def _reset(self) -> None:
        self.phase = Phase.AWAY
        self.leaving = False
        self._is_stepping = False  # a step has been given out and not answered yet
        self._index = 0
        self._head: Head | None = None
        self._staging = Staging(self.counters, self.number, self.partitions, self._is_living)
        self._arrivals = Arrivals(self.number, self.counters)
        self._restoration: Restoration | None = None
        self._peers: Collection[str] | None = None
        self._asked_s = 0.0
        self.feed = Feed()
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
    def commit(self) -> int:
        """The number of the last commit that is known here."""
        return self._head.commit if self._head is not None else 0

    @property
    def is_dirty(self) -> bool:
        """Whether a commit would write anything that matters to somebody."""
        return self._staging.is_dirty or bool(self._arrivals)

    @property
    def pages(self) -> int:
        """Pages with a row of this datacenter."""
        return len(self._staging.counts)

    def take(self, *, alone: bool = True) -> None:
        """Start to take the partition over; `alone`: no other datacenter can have anything of it."""
        if self.phase is Phase.AWAY:
            self.phase = Phase.READING
            self._alone = alone
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
        if self.phase is Phase.RESTORING:
            return self._restore(int(now_s))
        if self.phase is Phase.OWNED and self.is_dirty:
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
            head = None if stored is None else decode_head(stored.body)
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
        self._attempt = _Attempt(Write(self.number, index, encode(head), ()), head)
        self.phase = Phase.CLAIMING

    def rows_loaded(self, rows: Iterable[Row]) -> None:
        """The answer to LoadRows."""
        self._is_stepping = False
        rows = list(rows)
        bad = next((row for row in rows if not is_row(row)), None)
        if bad is not None:
            self._step_down(f"a row of partition {self.number} can't be read: {bad!a:.300}")
            return
        if self.phase is Phase.RESTORING:
            assert self._restoration is not None
            self._restoration.loaded(rows)
            self._rest()
            return
        assert self.phase is Phase.LOADING, self.phase
        if self._head is None:
            if any(True for _ in rows):
                self._step_down(
                    f"partition {self.number} has rows but no head: its lanes are lost, and counting on could "
                    "count hits twice; restore the head, or remove the rows"
                )
            else:
                self._claim(
                    make(Head, self._new_ledger, 1, self.me, 0, 0, {}, (), {}, not self._alone, 0),
                    0,
                )
            return
        redo = [Row(row.page, row.dc, row.count, row.commit) for row in self._head.redo]
        own_redo = {row.page: row.count for row in redo if row.dc == self.dc}
        counts: dict[str, int] = {}
        newest = 0
        for row in chain(rows, redo):
            if row.dc == self.dc:
                counts[row.page] = row.count
                newest = max(newest, row.commit)
            else:
                self._arrivals.loaded(row)
        self._redo.extend(redo)
        # Rows of a redo may not be in the store yet: they are told from memory.
        self.feed.loaded(newest - 1 if own_redo else newest)
        self.feed.wrote(newest, own_redo)
        self._staging.begin(counts, self._head.lanes, self._head.hits)
        self.phase = Phase.REDOING if self._redo else Phase.OWNED
        self._rest()

    # --- writing -----------------------------------------------------------------------------

    def wrote(self, outcome: Outcome) -> Acks:
        """The outcome of the last write step; the acks that it allows."""
        self._is_stepping = False
        if self.phase is Phase.CLAIMING:
            self._claimed(outcome)
        elif self.phase in (Phase.RESTORING, Phase.REDOING):
            if isinstance(outcome, Done):
                self._rows_written()
            elif not isinstance(outcome, Unknown):  # unknown: the rows are absolute, write them again
                self._step_down(None)
        else:
            assert self.phase is Phase.COMMITTING, self.phase
            if isinstance(outcome, Done):
                return self._committed(outcome.index)
            self.phase = Phase.SETTLING
        return {}

    def _claimed(self, outcome: Outcome) -> None:
        assert self._attempt is not None
        attempt, self._attempt = self._attempt, None
        if isinstance(outcome, Done):
            self._head, self._index = attempt.head, outcome.index
            self.phase = Phase.LOADING
            if attempt.head.restoring:
                self.phase = Phase.RESTORING
                if self._restoration is None:
                    self._restoration = Restoration(self.dc, attempt.head)
                self._rest()
        elif isinstance(outcome, Unknown):
            self._restoration = None
            self.phase = Phase.READING  # a claim that did arrive is claimed over, under the next epoch
            self._rest()
        else:
            self._reset()  # somebody was faster

    def _rows_written(self) -> None:
        if self.phase is Phase.RESTORING:
            assert self._restoration is not None
            self._restoration.wrote(self._max_rows)
            self._rest()
            return
        for _ in range(min(self._max_rows, len(self._redo))):
            self._redo.popleft()
        if not self._redo:
            self.phase = Phase.OWNED
            self._rest()

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
        chunks = self._arrivals.take(self._staging.size)
        size_bytes = self._staging.size.bytes + size_of(row.page for chunk in chunks for row in chunk.rows).bytes
        staged = self._staging.decide(now_s)
        head = replace(
            self._head,
            commit=self._head.commit + 1,
            hits=self._head.hits + staged.hits,
            lanes=staged.lanes,
            redo=(),
            origins={
                **self._head.origins,
                **{chunk.origin: not_after(chunk.state, now_s) for chunk in chunks if chunk.state},
            },
        )
        body = encode(head)
        rows = [Row(page, self.dc, count, head.commit) for page, count in staged.rows.items()] + rows_of(chunks)
        size_bytes += len(body) + ROW_OVERHEAD_BYTES * len(rows)
        if len(rows) > self._max_rows or size_bytes > self._max_write_bytes:
            head = replace(head, redo=tuple(RedoRow(row.page, row.dc, row.count, row.commit) for row in rows))
            body = encode(head)
            rows = []
        self._attempt = _Attempt(Write(self.number, self._index, body, rows), head, staged, chunks)
        self.phase = Phase.COMMITTING
        self._staging.drain(self._arrivals.reserved)

    def _committed(self, index: int) -> Acks:
        attempt, self._attempt = self._attempt, None
        assert attempt is not None and attempt.staged is not None and self._head is not None
        staged = attempt.staged
        self.counters.commits += 1
        self.counters.applied_hits += staged.hits
        self._head, self._index = attempt.head, index
        self.feed.wrote(attempt.head.commit, staged.rows)
        self._arrivals.committed(attempt.chunks)
        if attempt.head.redo:
            self._redo.extend(Row(row.page, row.dc, row.count, row.commit) for row in attempt.head.redo)
            self.phase = Phase.REDOING
        else:
            self.phase = Phase.OWNED
        acks = {to: self._applied(to[1], pages, staged.counts) for to, pages in staged.owed.items()}
        if not self._staging.is_dirty:
            for to, pages in self._staging.settle().items():  # duplicates that came while the commit was on its way
                earlier = staged.owed.get(to, set())
                acks[to] = self._applied(to[1], pages | earlier, self._staging.counts)
        self._rest()
        return acks

    def _applied(self, worker: str, pages: Iterable[str], counts: dict[str, int]) -> Applied:
        """What `worker` may know as of the head in the store; `counts` are own rows as of that commit."""
        assert self._head is not None
        lane = self._head.lanes.get(worker)
        totals = {}
        for page in pages:
            totals[page] = subtotals = {self.dc: counts.get(page, 0)}
            self._arrivals.add_counts(page, subtotals)
        mark, above = (lane.mark, lane.above) if lane else (0, ())
        return Applied(self.number, self._head.epoch, self._head.commit, mark, above, totals)

    # --- parts -------------------------------------------------------------------------------

    def offer(
        self, worker: str, reply_to: str, epoch: int, part: Part, *, why_not: str = ""
    ) -> tuple[Offered, Applied | None]:
        """Take one part of a batch; an ack to send at once comes with a duplicate, if it can.

        `why_not` its sender may not have it added; what is applied it is told all the same.
        """
        if self.epoch == 0 or epoch != self.epoch:
            self.counters.misdirected += 1
            return Offered.MISDIRECTED, None
        if self.leaving or self._staging.has_closed(worker):
            self.counters.dropped += 1
            return Offered.DROPPED, None
        if not self._staging.is_applied(worker, part):
            if why_not:
                self.counters.refuse(worker, f"part {part.seq} of partition {self.number}: {why_not}")
                return Offered.REFUSED, None
            # A chunk that found no room in the commit under way has it in the next one.
            reserved = self._arrivals.reserved if self.phase is Phase.COMMITTING else Size()
            return self._staging.offer(worker, reply_to, part, reserved), None
        self.counters.duplicates += 1
        if self.phase in (Phase.OWNED, Phase.REDOING) and not self._staging.is_dirty:
            return Offered.DUPLICATE, self._applied(worker, part.counts, self._staging.counts)
        self._staging.owe((reply_to, worker), part.counts)
        return Offered.DUPLICATE, None

    def tidy(self, now_s: float) -> None:
        """Make room for parts that found none; to be called now and then. `now_s` is wall clock."""
        if self.epoch:
            self._staging.tidy(int(now_s))

    def close_lane(self, worker: str, end: LaneEnd) -> bool:
        """Drop a lane with the next commit, if it ended as its worker says under this epoch."""
        return self.epoch > 0 and end.epoch == self.epoch and self._staging.close(worker, end)

    # --- other datacenters -------------------------------------------------------------------

    @property
    def position(self) -> Position | None:
        """How far the own rows are, for others; None when the partition isn't owned here, or has no rows."""
        if not self.epoch or not self.feed.commit:
            return None
        assert self._head is not None
        return Position(self._head.ledger, self._head.epoch, self.feed.commit)

    @property
    def origins(self) -> Mapping[str, Origin]:
        """How far this partition is with other datacenters' rows, as committed; nothing while it isn't owned here."""
        return self._head.origins if self._head is not None and self.epoch else {}

    @property
    def restoration(self) -> Restoration | None:
        """What is being brought back; None when nothing is."""
        return self._restoration if self.phase is Phase.RESTORING else None

    def own_origin(self, upto: int, now_s: int) -> Origin:
        """What another datacenter may remember of this one, once it has the rows up to commit `upto`."""
        assert self._head is not None
        # The marks as of now: never earlier than the rows, so that whoever gets both back counts nothing twice.
        position = Position(self._head.ledger, self._head.epoch, upto)
        return Origin(position, self._head.hits, self._head.lanes, now_s)

    def redo_of(self, origin: str) -> list[OriginRow]:
        """Rows of that datacenter which this partition has and its store perhaps not yet."""
        assert self._head is not None
        return [OriginRow(row.page, row.count, row.commit) for row in self._head.redo if row.dc == origin]

    def has_arrived(self, origin: str) -> bool:
        """Whether rows of that datacenter wait for a commit, or are being committed."""
        committing = self._attempt.chunks if self._attempt else ()
        return origin in self._arrivals or any(chunk.origin == origin for chunk in committing)

    def arrive(self, chunk: Chunk, *, is_relayed: bool = False) -> bool:
        """Rows of another datacenter, for the next commit; False when they are refused, with a fault.

        `is_relayed`: from somebody else than their origin.
        """
        if chunk.state is None or not self.epoch or chunk.origin == self.dc or self.has_arrived(chunk.origin):
            return False
        return self._arrivals.add(chunk, self.origins, is_relayed=is_relayed)

    def restore(self, peers: Collection[str] | None, now_s: float) -> None:
        """Who must be asked before the restoration is complete; None: not known yet. `now_s` is monotonic."""
        self._peers, self._asked_s = peers, now_s

    @property
    def is_waiting(self) -> bool:
        """Whether there is no step to do until others have answered."""
        return self.phase is Phase.RESTORING and self._restore(peek=True) is None

    def _restore(self, now_s: int = 0, *, peek: bool = False) -> Step | None:
        """The next step of the restoration; `peek` looks only whether there is one. `now_s` is wall clock."""
        restoration, head = self._restoration, self._head
        assert restoration is not None and head is not None
        if not restoration.is_loaded:
            return LoadRows()
        if rows := restoration.rows(self._max_rows) if restoration.is_sealed else ():
            return Write(self.number, self._index, None, rows)
        if not restoration.is_sealed and (
            self._peers is None or not restoration.is_complete(self._peers, self._asked_s)
        ):
            return None
        if peek:
            return LoadRows()
        sealed = None if restoration.is_sealed else restoration.seal()
        head = sealed or restoration.head(head)
        head = replace(head, origins={dc: not_after(one, now_s) for dc, one in head.origins.items()})
        for fault in restoration.faults:
            self.counters.fault(f"partition {self.number}: {fault}")
        self._attempt = _Attempt(Write(self.number, self._index, encode(head), ()), head)
        self.phase = Phase.CLAIMING
        return self._attempt.write

    # --- stepping down -----------------------------------------------------------------------

    def _rest(self) -> None:
        """Away, when leaving and everything staged is committed."""
        if not self.leaving or self._is_stepping:
            return
        if self.phase in (Phase.READING, Phase.AWAY, Phase.RESTORING) or (
            self.phase is Phase.OWNED and not self._staging.is_dirty
        ):
            self._reset()

    def _step_down(self, fault: str | None) -> None:
        self.counters.step_downs += 1
        if fault:
            self.counters.fault(fault)
        self._reset()

    def _redo_chunk(self) -> Sequence[Row]:
        return [self._redo[i] for i in range(min(self._max_rows, len(self._redo)))]
