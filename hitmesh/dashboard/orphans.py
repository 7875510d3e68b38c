"""Which partitions nobody owns, and for how long that has been so. Pure: `now` comes in.

One that is handed over is nobody's for a moment, and so is each of a mesh that starts: that is as it must be.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

HANDED_OVER_S: Final = 3.0
"""For which one may be nobody's: a hand-over takes one or two, when its new owner has just started, and what isn't well
is to be shown within 4 s."""


class Orphans:
    """The partitions of one datacenter, from 0 to `partitions`."""

    def __init__(self, partitions: int) -> None:
        self._numbers = range(partitions)
        self._since: dict[int, float] = {}

    def look(self, owned: Collection[int], now: float) -> list[int]:
        """These are somebody's; those that have been nobody's for longer than a hand-over takes."""
        self._since = {number: self._since.get(number, now) for number in self._numbers if number not in owned}
        return [number for number, since in self._since.items() if now - since >= HANDED_OVER_S]

    def forget(self) -> None:
        """Nobody can say who owns them, or nobody is to own them yet."""
        self._since.clear()
