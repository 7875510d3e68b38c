"""What a partition has taken in and not committed yet: parts, their marks, and who is owed an ack. Pure.

Owns the counts and lanes with everything staged; what is in the store, and when a commit is written, is
the partition's. Bounded: a commit takes so many rows and bytes, so many parts wait for the next one, and
what is beyond is left to the spool. A part that can't be added is refused with a reason (`protocol.bounds`).

A part's `low` isn't believed at once: the mark would be raised over parts that are still to come, if
somebody else has sent it. A lane keeps its holes while they are few, and for a while when they are many.

A lane's age is time that was seen to pass: a wall clock that was set makes no lane old, and none young.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from hitmesh.processor.steps import Counters, Offered, Recipient
from hitmesh.protocol.bounds import (
    GUEST_LANES_BYTES,
    LANE_BYTES,
    LANES_BYTES,
    MAX_AHEAD,
    MAX_FIRST,
    MAX_PAGE_TOTAL,
    RANGE_BYTES,
    check_pages,
    lanes_bytes,
)
from hitmesh.protocol.messages import MAX_PART_BYTES, MAX_PART_PAGES, MAX_TOTAL, LaneEnd, LaneState, Part
from hitmesh.state.lanes import MAX_RANGES, Marks

LANE_RETENTION_S: Final = 7 * 24 * 3600  # a spooled job older than this is set aside, never resent
# Of the time between two looks at the wall clock, as much counts; what is beyond it, and any that is negative, is a
# clock that was set, or a time for which nobody owned the partition: lanes are kept for longer then, never shorter.
MAX_SILENCE_S: Final = 24 * 3600
MAX_COMMIT_ROWS: Final = 1000  # rows of one commit; their redo takes some 50 bytes each beside the pages
MAX_COMMIT_BYTES: Final = 192 * 1024  # of page names in one commit: a redo leaves 130 KiB of a head to its lanes
MAX_WAITING_PARTS: Final = 20_000  # parts beyond the next commit; past it the spool is the memory
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
MAX_CLOSED: Final = 10_000  # workers remembered as closed under this epoch
FEW_RANGES: Final = 64  # ranges up to which a lane's holes are kept whatever `low` says: half a KiB of a head
# For which many are kept: a living worker sends again what it has on the way each 15 s, and sees in the acks
# that somebody else uses its numbers.
LOW_WAIT_S: Final = 60

assert MAX_PART_PAGES <= MAX_COMMIT_ROWS
assert MAX_PART_BYTES <= MAX_COMMIT_BYTES


@dataclass(slots=True)
class Size:
    """How much of a commit something takes."""

    rows: int = 0
    bytes: int = 0  # of page names

    def fits_with(self, other: Size) -> bool:
        """Whether one commit takes both."""
        return self.rows + other.rows <= MAX_COMMIT_ROWS and self.bytes + other.bytes <= MAX_COMMIT_BYTES


def size_of(pages: Iterable[str]) -> Size:
    """The size of so many rows."""
    lengths = [len(page.encode()) for page in pages]
    return Size(len(lengths), sum(lengths))


@dataclass(frozen=True, slots=True)
class Staged:
    """What the next commit makes of the parts."""

    rows: dict[str, int]  # the pages that change
    hits: int
    lanes: dict[str, LaneState]
    counts: dict[str, int]  # as of this commit, the pages that its acks name
    owed: dict[Recipient, set[str]]


class Staging:
    """The staged state of one partition."""

    def __init__(self, counters: Counters, number: int, partitions: int, is_living: Callable[[str], bool]) -> None:
        """Of partition `number`; `is_living` says whether the mesh shows this worker as alive."""
        self._counters = counters
        self._number, self._partitions = number, partitions
        self._is_living = is_living
        self.counts: dict[str, int] = {}
        """Own rows, with everything staged."""
        self.size = Size()
        """Of the rows that the next commit changes."""
        self._lanes: dict[str, LaneState] = {}  # as in the last head made
        self._marks: dict[str, Marks] = {}  # with everything staged
        self._looked_s: int | None = None  # at the wall clock; as long as nobody did, when a lane was used last
        self._lanes_bytes = 0  # of a head, that they take
        self._is_cramped = False  # a part has found no room for its lane since the last look at what can go
        self._total = 0  # hits, with everything staged
        self._said_lows: dict[str, int] = {}  # of lanes with many ranges, what their parts say
        self._old_lows: dict[str, tuple[int, int]] = {}  # the same as it was some time ago, and when that was
        self._hits: dict[str, int] = {}  # worker -> hits since the last head made
        self._dirty: dict[str, None] = {}  # pages staged since the last head made
        self._owed: dict[Recipient, set[str]] = {}
        self._ending: set[str] = set()  # workers whose lanes the next commit drops
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[tuple[str, str, Part]] = deque()
        self._waiting_bytes = 0

    def begin(self, counts: dict[str, int], lanes: dict[str, LaneState], hits: int) -> None:
        """What the store has."""
        self.counts = counts
        self._total = hits
        self._lanes_bytes = lanes_bytes(lanes)
        self._lanes = dict(lanes)
        self._looked_s = max((lane.seen_s for lane in lanes.values()), default=None)
        self._marks = {worker: Marks(lane.mark, lane.above) for worker, lane in lanes.items()}

    @property
    def is_dirty(self) -> bool:
        """Whether a commit would change a row."""
        return bool(self._dirty)

    # --- parts -------------------------------------------------------------------------------

    def is_applied(self, worker: str, part: Part) -> bool:
        """Whether the part has been taken in before, or given up."""
        marks = self._marks.get(worker)
        return marks is not None and marks.covers(part.seq)

    def has_closed(self, worker: str) -> bool:
        """Whether the worker's lane was closed under this epoch."""
        return worker in self._closed

    def owe(self, to: Recipient, pages: Iterable[str]) -> None:
        """An ack is owed with the next commit."""
        self._owed.setdefault(to, set()).update(pages)

    def settle(self) -> dict[Recipient, set[str]]:
        """The acks that are owed and need no commit; they are the caller's now."""
        owed, self._owed = self._owed, {}
        return owed

    def offer(self, worker: str, reply_to: str, part: Part, reserved: Size) -> Offered:
        """Take in a part that hasn't been applied; `reserved` is what else the next commit has to carry."""
        if self._waiting or not self._has_room(part, reserved):
            size_bytes = _memory_bytes(part)
            is_full = len(self._waiting) >= MAX_WAITING_PARTS or self._waiting_bytes + size_bytes > MAX_WAITING_BYTES
            # A part too large for any commit comes from no collector of ours, and would wait for ever.
            if is_full or size_of(part.counts).bytes > MAX_COMMIT_BYTES:
                self._counters.dropped += 1
                return Offered.DROPPED
            self._waiting.append((worker, reply_to, part))
            self._waiting_bytes += size_bytes
            return Offered.STAGED
        return self._stage(worker, reply_to, part)

    def drain(self, reserved: Size) -> None:
        """Stage the parts that wait, as many as the next commit takes."""
        while self._waiting:
            worker, reply_to, part = self._waiting[0]
            if not self._has_room(part, reserved):
                return
            self._waiting.popleft()
            self._waiting_bytes -= _memory_bytes(part)
            if self.is_applied(worker, part):  # its twin waited before it
                self.owe((reply_to, worker), part.counts)
            elif worker not in self._closed:
                self._stage(worker, reply_to, part)

    def close(self, worker: str, end: LaneEnd) -> bool:
        """Drop a lane with the next commit, if it ended as its worker says."""
        lane = self._lanes.get(worker)
        if lane is None or worker in self._hits or self._marks[worker].top != end.last:
            return False  # its holes are numbers of puts that the spool refused
        self._ending.add(worker)
        self._closed[worker] = None
        while len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)
        return True

    def _has_room(self, part: Part, reserved: Size) -> bool:
        size = size_of(part.counts)
        return Size(size.rows + self.size.rows, size.bytes + self.size.bytes).fits_with(reserved)

    def _stage(self, worker: str, reply_to: str, part: Part) -> Offered:
        marks = self._marks.get(worker)
        hits = sum(part.counts.values())
        if reason := self._why_not(worker, marks, part, hits):
            self._is_cramped = self._is_cramped or marks is None
            self._counters.refuse(worker, f"part {part.seq} of partition {self._number}: {reason}")
            return Offered.REFUSED
        if marks is None:
            marks = self._marks[worker] = Marks()
            self._lanes_bytes += LANE_BYTES + len(worker.encode())
        ranges = marks.ranges
        if ranges > FEW_RANGES or not self._has_room_for_range:
            self._said_lows[worker] = max(part.low, self._said_lows.get(worker, 0))
            if not marks.extends(part.seq) and (ranges >= MAX_RANGES or not self._has_room_for_range):
                self._is_cramped = True
                self._counters.dropped += 1  # too many holes; the spool has the part
                return Offered.DROPPED
        marks.add(part.seq)
        self._lanes_bytes += RANGE_BYTES * (marks.ranges - ranges)
        for page, count in part.counts.items():
            self.counts[page] = self.counts.get(page, 0) + count
            if page not in self._dirty:
                self._dirty[page] = None
                self.size.rows += 1
                self.size.bytes += len(page.encode())
        self._total += hits
        self._hits[worker] = self._hits.get(worker, 0) + hits
        self.owe((reply_to, worker), part.counts)
        return Offered.STAGED

    def _why_not(self, worker: str, marks: Marks | None, part: Part, hits: int) -> str:
        """Why this part can't be added; empty when it can. In every part's way."""
        if not hits:
            return "it has no hits"  # it would use up a number that somebody else's hits may have
        if part.seq > (MAX_FIRST if marks is None else marks.top + MAX_AHEAD):
            return f"its lane is at {marks.top if marks else 0}"
        if marks is None and not self._has_room_for_lane(worker):
            return f"there are {len(self._marks)} lanes, as many as a head takes"
        lane = self._lanes.get(worker)
        if self._total + hits > MAX_TOTAL or (lane and lane.hits + self._hits.get(worker, 0) + hits > MAX_TOTAL):
            return f"its {hits} hits don't fit into the sum"
        new = []
        for page, count in part.counts.items():
            before = self.counts.get(page)
            if before is None:
                new.append(page)
                before = 0
            if before + count > MAX_PAGE_TOTAL:
                return f"{page!a:.100} has {before} hits, and can't have {count} more"
        return check_pages(new, self._number, self._partitions) if new else ""

    @property
    def _has_room_for_range(self) -> bool:
        return self._lanes_bytes + RANGE_BYTES <= LANES_BYTES

    def _has_room_for_lane(self, worker: str) -> bool:
        size_bytes = self._lanes_bytes + LANE_BYTES + len(worker.encode())
        return size_bytes <= GUEST_LANES_BYTES or (size_bytes <= LANES_BYTES and self._is_living(worker))

    # --- the next commit ---------------------------------------------------------------------

    def decide(self, now_s: int) -> Staged:
        """What is to be committed; from now on parts are staged for the commit after it."""
        self._look_at_clock(now_s)
        self._make_room(now_s)
        for worker, hits in self._hits.items():
            before = self._lanes.get(worker)
            marks = self._marks[worker]
            self._lanes[worker] = LaneState(marks.mark, marks.above, hits + (before.hits if before else 0), now_s)
        for worker in self._ending:
            self._forget(worker)
        rows = {page: self.counts[page] for page in self._dirty}
        # Frozen now: a page that is owed but unchanged may be staged again before this is written.
        counts = {page: self.counts.get(page, 0) for pages in self._owed.values() for page in pages}
        staged = Staged(rows, sum(self._hits.values()), dict(self._lanes), counts, self._owed)
        self._hits, self._dirty, self.size = {}, {}, Size()
        self._owed, self._ending = {}, set()
        return staged

    def tidy(self, now_s: int) -> None:
        """Make room for parts that found none: they alone can't bring about the commit that would make it.

        To be called often, also for the time that passes while nothing is committed.
        """
        self._look_at_clock(now_s)
        if self._is_cramped:
            self._is_cramped = False
            self._make_room(now_s)

    def _look_at_clock(self, now_s: int) -> None:
        """See time pass. By as much as the clock was set meanwhile the lanes' times are set too."""
        passed_s = 0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        set_by_s = passed_s - min(max(passed_s, 0), MAX_SILENCE_S)
        if set_by_s:
            self._lanes = {
                worker: replace(lane, seen_s=max(0, lane.seen_s + set_by_s)) for worker, lane in self._lanes.items()
            }
            self._old_lows = {worker: (low, since_s + set_by_s) for worker, (low, since_s) in self._old_lows.items()}

    def _make_room(self, now_s: int) -> None:
        for worker in list(self._said_lows):
            self._give_up_holes(worker, self._marks[worker], now_s)
        old = [worker for worker, lane in self._lanes.items() if lane.seen_s < now_s - LANE_RETENTION_S]
        for worker in old:
            if worker not in self._hits:
                self._forget(worker)

    def _give_up_holes(self, worker: str, marks: Marks, now_s: int) -> None:
        """Believe the `low` of a lane with many ranges, once it has stood for long enough."""
        low, since_s = self._old_lows.get(worker, (0, now_s))
        if low and now_s - since_s >= LOW_WAIT_S:
            ranges = marks.ranges
            marks.raise_to(low)
            self._lanes_bytes += RANGE_BYTES * (marks.ranges - ranges)
        if not low or now_s - since_s >= LOW_WAIT_S:
            self._old_lows[worker] = self._said_lows[worker], now_s
        if marks.ranges <= FEW_RANGES and self._has_room_for_range:
            del self._said_lows[worker], self._old_lows[worker]

    def _forget(self, worker: str) -> None:
        for of in (self._lanes, self._marks, self._said_lows, self._old_lows):
            of.pop(worker, None)
        self._lanes_bytes = lanes_bytes(self._lanes) + sum(
            LANE_BYTES + len(one.encode()) + RANGE_BYTES * self._marks[one].ranges
            for one in self._marks.keys() - self._lanes.keys()
        )


def _memory_bytes(part: Part) -> int:
    """Memory that a waiting part holds, roughly."""
    return sum(len(page) for page in part.counts) * 2 + 16 * len(part.counts)
