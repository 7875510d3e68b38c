"""A lane's memory of what it has applied: pure, and small however long the lane lives.

A lane is one worker's numbered batches for one partition. Applied sequence numbers are kept as
a mark (all up to it) and sorted ranges above it, so a lane with every number applied is one
integer. Invariants: ranges are sorted, disjoint, not adjacent, and begin above mark + 1.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from hitmesh.protocol.messages import MAX_LANE_RANGES, Range

# In a lane that parts are added to: a worker has far fewer batches on the way. A head may have more.
MAX_RANGES: Final = 512

assert MAX_RANGES <= MAX_LANE_RANGES


class Marks:
    """The applied sequence numbers of one lane."""

    __slots__ = ("_above", "mark")

    def __init__(self, mark: int = 0, above: tuple[Range, ...] = ()) -> None:
        self.mark = mark
        self._above: list[Range] = list(above)

    @property
    def above(self) -> tuple[Range, ...]:
        """The applied ranges above the mark, each (first, last)."""
        return tuple(self._above)

    @property
    def ranges(self) -> int:
        """How many ranges are above the mark."""
        return len(self._above)

    @property
    def top(self) -> int:
        """The highest number that is applied or given up."""
        return self._above[-1][1] if self._above else self.mark

    def covers(self, seq: int) -> bool:
        """Whether `seq` has been applied, or given up for good."""
        if seq <= self.mark:
            return True
        at = bisect_right(self._above, (seq, 2**63)) - 1
        return at >= 0 and seq <= self._above[at][1]

    def extends(self, seq: int) -> bool:
        """Whether `add(seq)` makes no new range: who has come to the top can always go on."""
        if seq == self.mark + 1:
            return True
        at = bisect_right(self._above, (seq, 2**63))
        if at and self._above[at - 1][1] == seq - 1:
            return True
        return at < len(self._above) and self._above[at][0] == seq + 1

    def add(self, seq: int) -> None:
        """Remember `seq` as applied. It must not be covered yet."""
        at = bisect_right(self._above, (seq, 2**63))
        first = last = seq
        if at < len(self._above) and self._above[at][0] == seq + 1:
            last = self._above.pop(at)[1]
        if at > 0 and self._above[at - 1][1] == seq - 1:
            first = self._above.pop(at - 1)[0]
            at -= 1
        self._above.insert(at, (first, last))
        self._settle()

    def raise_to(self, low: int) -> None:
        """Every number below `low` is applied or given up: forget the holes below it."""
        if low - 1 <= self.mark:
            return
        self.mark = low - 1
        while self._above and self._above[0][0] <= self.mark:
            self.mark = max(self.mark, self._above.pop(0)[1])
        self._settle()

    def _settle(self) -> None:
        while self._above and self._above[0][0] == self.mark + 1:
            self.mark = self._above.pop(0)[1]

    def copy(self) -> Marks:
        """An independent copy."""
        return Marks(self.mark, self.above)
