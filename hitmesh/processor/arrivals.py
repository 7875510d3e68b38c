"""Other datacenters' rows in one partition: what is committed of them, and what waits for a commit. Pure.

Invariant: what is known of a datacenter never goes back. A position of another ledger, or one below the
one that is known, is refused with a fault: its totals store isn't what it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from hitmesh.processor.staging import Size, size_of
from hitmesh.processor.steps import Counters
from hitmesh.protocol.messages import Chunk, Origin, Position
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

    def add(self, chunk: Chunk, known: Mapping[str, Origin]) -> bool:
        """Take a chunk in for the next commit; `known` is what is committed. False: refused, with a fault."""
        assert chunk.state is not None
        have = known.get(chunk.origin)
        if have is not None and not _follows(chunk.state.position, have.position):
            self._counters.fault(
                f"{chunk.origin} says that its partition {self._number} is at {_shown(chunk.state.position)}, and was "
                f"at {_shown(have.position)} before: was its totals store restored from a backup? What is known here stays"
            )
            return False
        if not _size(chunk).fits_with(Size()):
            self._counters.fault(f"{chunk.origin} sent more rows of partition {self._number} than one commit takes")
            return False
        self._chunks[chunk.origin] = chunk
        return True

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


def _size(chunk: Chunk) -> Size:
    return size_of(row.page for row in chunk.rows)


def _follows(position: Position, before: Position) -> bool:
    if position.rank[0] > before.rank[0]:
        return position.ledger == before.ledger  # restored: its numbers may have gone back
    return position.ledger == before.ledger and position.epoch >= before.epoch and position.commit >= before.commit


def _shown(position: Position) -> str:
    return f"commit {position.commit} of epoch {position.epoch} (ledger {position.ledger})"
