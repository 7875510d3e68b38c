"""Dues: what a process has begun and must bring to an end. Pure.

Owns since when each is under way, and says which is late: the process fails to do its work then, and tells
everybody with its heartbeats; and which is hopeless: nothing but a new process will help. Knows nothing of
what they are.

The words have no growing number in them: each change of an instance's state is told to the whole mesh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LATE_S: Final = 15.0  # far above what a call takes that gives up by itself: 5 s, and some tries
HOPELESS_S: Final = 120.0  # nothing comes back after so long; a read of all rows may ask three hosts, 30 s each
FAILING: Final = "failing"
MAX_STATE_CHARS: Final = 128  # as long as a name may be


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """One thing under way."""

    what: str
    since_s: float


class Dues:
    """All that one process has under way. Begun and ended by one thread, judged by any."""

    def __init__(self) -> None:
        self._open: dict[int, Due] = {}

    def begin(self, what: str, now_s: float) -> Due:
        """Something begins; `end` what is returned."""
        due = Due(what, now_s)
        self._open[id(due)] = due
        return due

    def end(self, due: Due) -> None:
        """It has come to its end."""
        self._open.pop(id(due), None)

    def late(self, now_s: float) -> str:
        """What is late, in words; empty when nothing is."""
        return self._older(now_s, LATE_S)

    def hopeless(self, now_s: float) -> str:
        """What is hopeless, in words; empty when nothing is."""
        return self._older(now_s, HOPELESS_S)

    def _older(self, now_s: float, limit_s: float) -> str:
        for due in list(self._open.values()):
            if now_s - due.since_s > limit_s:
                return f"{due.what} has been under way for {limit_s:g} s"
        return ""


class Standstill:
    """Which of several things stand where they stood: looked at now and then, as a process's heartbeats are due."""

    def __init__(self) -> None:
        self._since: dict[int, tuple[object, float]] = {}

    def late(self, at: Mapping[int, object], now_s: float) -> list[int]:
        """Of the numbered things that owe something, those that have stood where they are for LATE_S."""
        before = self._since
        self._since = {
            number: before[number] if number in before and before[number][0] == place else (place, now_s)
            for number, place in at.items()
        }
        return [number for number, (_, since_s) in self._since.items() if now_s - since_s > LATE_S]


def state_of(state: str, late: str) -> str:
    """The state of an instance's heartbeat: "up" becomes "failing: ..." where something is late."""
    return f"{FAILING}: {late}"[:MAX_STATE_CHARS] if late and state == "up" else state


def told(state: str) -> tuple[str, str]:
    """The word of a heartbeat's state, and why it is."""
    word, _, why = state.partition(": ")
    return word, why
