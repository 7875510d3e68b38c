"""Which counters of heartbeats have grown lately. Pure: `now` comes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MAX_COUNTERS: Final = 16_384  # some of each instance


class Growth:
    """Counters by figure and instance; `within_s` says of each figure for how long growth is told. What was there at
    first isn't growth.
    """

    def __init__(self, within_s: Mapping[str, float]) -> None:
        self._within_s = within_s
        self._known: dict[tuple[str, str], tuple[str, float, float | None]] = {}  # id, value, when it grew

    def tell(self, figure: str, name: str, id: str, value: float, now: float) -> None:
        """A counter's value, of the process `id`; another process begins at 0."""
        place = figure, name
        before = self._known.get(place)
        if before is None:
            if len(self._known) < MAX_COUNTERS:
                self._known[place] = id, value, None
            return
        floor = before[1] if before[0] == id else 0.0
        self._known[place] = id, value, now if value > floor else before[2]

    def grown(self, now: float) -> dict[str, list[str]]:
        """By figure, whose has grown lately."""
        found: dict[str, list[str]] = {}
        for (figure, name), (_, _, at) in sorted(self._known.items()):
            if at is not None and now - at <= self._within_s.get(figure, 0.0):
                found.setdefault(figure, []).append(name)
        return found
