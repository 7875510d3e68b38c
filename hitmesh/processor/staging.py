"""What a partition has taken in and not committed yet: parts, their marks, and who is owed an ack. Pure.

Owns the counts and lanes with everything staged; what is in the store, and when a commit is written, is
the partition's. Bounded: a commit takes so many rows and bytes, so many parts wait for the next one, and
what is beyond is left to the spool.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hitmesh.processor.steps import Counters, Offered, Recipient
from hitmesh.protocol.messages import MAX_PART_BYTES, MAX_PART_PAGES, LaneEnd, LaneState, Part
from hitmesh.state.lanes import Marks

LANE_RETENTION_S: Final = 7 * 24 * 3600  # a spooled job older than this is set aside, never resent
MAX_COMMIT_ROWS: Final = 1000  # rows of one commit; their redo takes some 50 bytes each beside the pages
MAX_COMMIT_BYTES: Final = 192 * 1024  # of page names in one commit: a redo leaves 130 KiB of a head to its lanes
MAX_WAITING_PARTS: Final = 20_000  # parts beyond the next commit; past it the spool is the memory
MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
MAX_CLOSED: Final = 10_000  # workers remembered as closed under this epoch

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

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.counts: dict[str, int] = {}
        """Own rows, with everything staged."""
        self.size = Size()
        """Of the rows that the next commit changes."""
        self._lanes: dict[str, LaneState] = {}  # as in the last head made
        self._marks: dict[str, Marks] = {}  # with everything staged
        self._hits: dict[str, int] = {}  # worker -> hits since the last head made
        self._dirty: dict[str, None] = {}  # pages staged since the last head made
        self._owed: dict[Recipient, set[str]] = {}
        self._ending: set[str] = set()  # workers whose lanes the next commit drops
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[tuple[str, str, Part]] = deque()
        self._waiting_bytes = 0

    def begin(self, counts: dict[str, int], lanes: dict[str, LaneState]) -> None:
        """What the store has."""
        self.counts = counts
        self._lanes = dict(lanes)
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
        return Offered.STAGED if self._stage(worker, reply_to, part) else Offered.DROPPED

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
        if lane is None or worker in self._hits or lane.mark != end.last or lane.above:
            return False
        self._ending.add(worker)
        self._closed[worker] = None
        while len(self._closed) > MAX_CLOSED:
            self._closed.popitem(last=False)
        return True

    def _has_room(self, part: Part, reserved: Size) -> bool:
        size = size_of(part.counts)
        return Size(size.rows + self.size.rows, size.bytes + self.size.bytes).fits_with(reserved)

    def _stage(self, worker: str, reply_to: str, part: Part) -> bool:
        marks = self._marks.get(worker)
        if marks is None:
            marks = self._marks[worker] = Marks()
        marks.raise_to(part.low)
        if not marks.has_room(part.seq):
            self._counters.dropped += 1  # too many holes; the spool has the part
            return False
        marks.add(part.seq)
        hits = 0
        for page, count in part.counts.items():
            self.counts[page] = self.counts.get(page, 0) + count
            hits += count
            if page not in self._dirty:
                self._dirty[page] = None
                self.size.rows += 1
                self.size.bytes += len(page.encode())
        self._hits[worker] = self._hits.get(worker, 0) + hits
        self.owe((reply_to, worker), part.counts)
        return True

    # --- the next commit ---------------------------------------------------------------------

    def decide(self, now_s: int) -> Staged:
        """What is to be committed; from now on parts are staged for the commit after it."""
        for worker, hits in self._hits.items():
            before = self._lanes.get(worker)
            marks = self._marks[worker]
            self._lanes[worker] = LaneState(marks.mark, marks.above, hits + (before.hits if before else 0), now_s)
        for worker in self._ending:
            self._forget(worker)
        for worker in [w for w, lane in self._lanes.items() if lane.seen_s < now_s - LANE_RETENTION_S]:
            self._forget(worker)
        rows = {page: self.counts[page] for page in self._dirty}
        # Frozen now: a page that is owed but unchanged may be staged again before this is written.
        counts = {page: self.counts.get(page, 0) for pages in self._owed.values() for page in pages}
        staged = Staged(rows, sum(self._hits.values()), dict(self._lanes), counts, self._owed)
        self._hits, self._dirty, self.size = {}, {}, Size()
        self._owed, self._ending = {}, set()
        return staged

    def _forget(self, worker: str) -> None:
        self._lanes.pop(worker, None)
        self._marks.pop(worker, None)


def _memory_bytes(part: Part) -> int:
    """Memory that a waiting part holds, roughly."""
    return sum(len(page) for page in part.counts) * 2 + 16 * len(part.counts)
