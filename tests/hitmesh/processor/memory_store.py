"""A totals store of one partition in memory, for the pure layers: it really compares, encodes and decodes.

What real stores do badly is here too: a write may get no answer, and then be applied now, never,
or later.
"""

from __future__ import annotations

from hitmesh.protocol.messages import Head, decode
from hitmesh.store import Done, Outcome, Refused, Row, StoredHead, Write


class MemoryStore:
    """One partition."""

    max_rows = 2
    max_write_bytes = 4096
    place = 0.0

    def __init__(self) -> None:
        self.head: bytes | None = None
        self.index = 0
        self._clock = 0
        self.rows: dict[tuple[str, str], Row] = {}
        self.late: list[Write] = []  # writes without an answer that may still arrive

    def write(self, write: Write) -> Outcome:
        """Carry a write out."""
        assert len(write.rows) <= self.max_rows
        if write.index != self.index:
            return Refused()
        if write.head is not None:
            decode(write.head, Head)
            self._clock += 1
            self.head, self.index = write.head, self._clock
        for row in write.rows:
            self.rows[row.page, row.dc] = row
        return Done(self.index)

    def read_head(self) -> StoredHead | None:
        """The head."""
        return None if self.head is None else StoredHead(self.head, self.index)

    def totals(self) -> dict[str, int]:
        """Every page's count, with the head's redo laid over the rows."""
        counts = {row.page: row.count for row in self.rows.values()}
        if self.head is not None:
            counts.update({redo.page: redo.count for redo in decode(self.head, Head).redo})
        return counts

    def hits(self) -> int:
        """The hits applied in all, as the head counts them."""
        return 0 if self.head is None else decode(self.head, Head).hits
