"""How often something is looked at, so that looking costs little, and when it is told. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

TELL_S: Final = 1.0  # between two news, and two ticks
STEP_S: Final = 0.5  # between two looks

SHARE: Final = 20  # times as long as a look took, nothing is looked at: 5% of the time at most
LEAST_S: Final = 1.0  # between two looks, however short they are
MOST_S: Final = 600.0  # however long one took: a page that is ten minutes old is no news


def pause_s(took_s: float) -> float:
    """For how long to wait after a look that took so long."""
    return min(max(LEAST_S, SHARE * took_s), MOST_S)


class Telling:
    """When a dashboard's news go out: each second, and at the next look when other problems are there than were told."""

    def __init__(self, now: float) -> None:
        self._told_at = now - TELL_S
        self._told: frozenset[str] = frozenset()

    def ticks(self, now: float) -> bool:
        """Whether a second is over."""
        return now - self._told_at >= TELL_S - STEP_S / 2

    def is_due(self, problems: Iterable[str], now: float) -> bool:
        """Whether to tell now, with problems of these keys; if so, they are told."""
        found = frozenset(problems)
        if self.ticks(now):
            self._told_at = now
        elif found == self._told:
            return False
        self._told = found
        return True
