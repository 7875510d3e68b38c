"""Other datacenters' rows in one partition: what is committed of them, and what waits for a commit. Pure.

Invariant: what is known of a datacenter never goes back. A position of another ledger, or one below the
one that is known, is refused with a fault: its totals store isn't what it was. So are rows, hits or lanes
below those that are known; only where a datacenter's store was wiped, and so another era began, may they be
lower, and then its rows stay as they are known here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from hitmesh.processor.staging import LANE_RETENTION_S, Size, size_of
from hitmesh.processor.steps import Counters
from hitmesh.protocol.bounds import OTHERS_LANES_BYTES, lanes_bytes
from hitmesh.protocol.messages import MAX_DCS, Chunk, LaneState, Origin, Position
from hitmesh.store import Row


class Arrivals:
    """The rows of other datacenters, of one partition."""

    def __init__(self, number: int, counters: Counters) -> None:
        self._number = number
        self._counters = counters
        self._rows: dict[str, dict[str, int]] = {}  # as committed: datacenter -> page -> count
        self._chunks: dict[str, Chunk] = {}  # for the next commits, by origin

    def loaded(self, row: Row) -> None:
        """A row that is in the store."""
        self._rows.setdefault(row.dc, {})[row.page] = row.count

    def add_counts(self, page: str, subtotals: dict[str, int]) -> None:
        """Put a page's committed counts into `subtotals`, by datacenter."""
        for dc, rows in self._rows.items():
            if page in rows:
                subtotals[dc] = rows[page]

    def __contains__(self, origin: str) -> bool:
        return origin in self._chunks

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def reserved(self) -> Size:
        """What the chunk that has waited longest takes of the next commit."""
        first = next(iter(self._chunks.values()), None)
        return _size(first) if first else Size()

    def add(self, chunk: Chunk, known: Mapping[str, Origin], *, is_relayed: bool = False) -> bool:
        """Take a chunk in for the next commit; `known` is what is committed. False: refused, with a fault.

        `is_relayed`: it isn't the origin itself that says it, but somebody who has more of its rows than we do.
        """
        have = known.get(chunk.origin)
        if have is not None and is_relayed:
            chunk = _with_later_marks(chunk, have)
        assert chunk.state is not None
        if have is not None and not _follows(chunk.state.position, have.position):
            self._counters.fault(
                f"{chunk.origin} says that its partition {self._number} is at {_shown(chunk.state.position)}, and was "
                f"at {_shown(have.position)} before: was its totals store restored from a backup? What is known here stays"
            )
            return False
        if not _size(chunk).fits_with(Size()):
            self._counters.fault(f"{chunk.origin} sent more rows of partition {self._number} than one commit takes")
            return False
        if reason := self._why_not(chunk, known):
            self._counters.fault(
                f"{chunk.origin} sent rows of partition {self._number} that can't be: {reason}. What is known here stays"
            )
            return False
        self._chunks[chunk.origin] = self._without_lower(chunk)
        return True

    def _why_not(self, chunk: Chunk, known: Mapping[str, Origin]) -> str:
        """What speaks against a chunk whose position follows; empty when nothing does."""
        state, have = chunk.state, known.get(chunk.origin)
        assert state is not None
        if have is None and len(known) >= MAX_DCS - 1:
            return f"there are {len(known)} other datacenters already"
        others = sum(lanes_bytes(one.lanes) for dc, one in known.items() if dc != chunk.origin)
        if others + lanes_bytes(state.lanes) > OTHERS_LANES_BYTES:
            return f"its {len(state.lanes)} lanes have no room in the head"
        if have is None or state.position.rank[0] > have.position.rank[0]:
            return ""
        if state.hits < have.hits:
            return f"{state.hits} hits, and there were {have.hits}"
        for worker, lane in state.lanes.items():
            known_lane = have.lanes.get(worker)
            if known_lane and lane.mark < known_lane.mark and not _began_anew(lane, known_lane):
                return f"the lane of {worker!a:.140} at {lane.mark}, and it was at {known_lane.mark}"
        rows = self._rows.get(chunk.origin, {})
        for row in chunk.rows:
            if row.count < rows.get(row.page, 0):
                return f"{row.count} hits of {row.page!a:.100}, and there were {rows[row.page]}"
        return ""

    def _without_lower(self, chunk: Chunk) -> Chunk:
        rows = self._rows.get(chunk.origin, {})
        kept = tuple(row for row in chunk.rows if row.count >= rows.get(row.page, 0))
        if len(kept) == len(chunk.rows):
            return chunk
        self._counters.fault(
            f"{chunk.origin} has fewer hits of {len(chunk.rows) - len(kept)} pages of partition {self._number} since "
            "its store was wiped than are known here, which stay"
        )
        return replace(chunk, rows=kept)

    def take(self, with_: Size) -> list[Chunk]:
        """The chunks for which one commit has room beside `with_`, the one that has waited longest first."""
        size = Size(with_.rows, with_.bytes)
        taken = []
        for chunk in list(self._chunks.values()):
            if not size.fits_with(_size(chunk)):
                break
            size.rows += _size(chunk).rows
            size.bytes += _size(chunk).bytes
            taken.append(self._chunks.pop(chunk.origin))
        return taken

    def committed(self, chunks: Iterable[Chunk]) -> None:
        """These chunks are in the store."""
        for chunk in chunks:
            self._counters.rows_received += len(chunk.rows)
            self._rows.setdefault(chunk.origin, {}).update((row.page, row.count) for row in chunk.rows)


def rows_of(chunks: Collection[Chunk]) -> list[Row]:
    """The rows of these chunks, as a store has them."""
    return [Row(row.page, chunk.origin, row.count, row.commit) for chunk in chunks for row in chunk.rows]


def not_after(origin: Origin, now_s: int) -> Origin:
    """What is known of a datacenter; nothing can be younger than its coming, whatever its clock says."""
    return origin if origin.as_of_s <= now_s else replace(origin, as_of_s=now_s)


def _size(chunk: Chunk) -> Size:
    return size_of(row.page for row in chunk.rows)


def _follows(position: Position, before: Position) -> bool:
    if position.rank[0] > before.rank[0]:
        return position.ledger == before.ledger  # restored: its numbers may have gone back
    return position.ledger == before.ledger and position.epoch >= before.epoch and position.commit >= before.commit


def _with_later_marks(chunk: Chunk, have: Origin) -> Chunk:
    """The chunk with the marks that are known, where those are later: they came with the first part of a long answer."""
    state = chunk.state
    assert state is not None
    if state.hits >= have.hits or state.position.rank[0] != have.position.rank[0]:
        return chunk
    return replace(chunk, state=replace(state, hits=have.hits, lanes=have.lanes))


def _began_anew(lane: LaneState, before: LaneState) -> bool:
    """Whether its owner had forgotten the lane when the worker, idle for all that time, had a hit again."""
    return lane.seen_s - before.seen_s >= LANE_RETENTION_S


def _shown(position: Position) -> str:
    return f"commit {position.commit} of epoch {position.epoch} (ledger {position.ledger})"
