"""The last hour and the last ninety days of each instance: the worst state of each minute and day, and the reasons. Pure.

It is told states with the wall clock, and gives letters of `status.BAR`. It must not know where it is kept meanwhile:
`packed` and `unpack` are one instance's past as bytes.

Invariants:
- A minute or day in which nothing was told is a blank: nobody watched, and nobody says that it was well.
- Of what was told in a minute the worst stays, in whatever order it came.
- Bounded: letters by time, reasons by number for each name, names in all; those longest unheard of go first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import Struct

from hitmesh.dashboard.status import DAYS, MINUTES
from hitmesh.state.standing import DEAD, SILENT, UP

MINUTE_S: Final = 60
DAY_S: Final = 86_400
MAX_NAMES: Final = 4096  # as many rows as there may be
MAX_REASONS: Final = 100  # of one name: some 8 KiB; a name that flaps once a day has its ninety days
MAX_WHY_CHARS: Final = 200
GAP_S: Final = (
    15.0  # without a word: what went on before that isn't known to go on. Far above the half second between words
)
_WORST: Final = " udfsx"  # the best first


class Reason(Struct, frozen=True, array_like=True):
    """A time in which an instance wasn't simply up."""

    start: float
    end: float
    state: str
    why: str


class _Saved(Struct, array_like=True):
    """One name's past as it is kept."""

    minutes: dict[int, str]
    days: dict[int, str]
    reasons: list[Reason]
    state: str
    since: float
    seen: float


@dataclass(slots=True)
class _Past:
    minutes: dict[int, str] = field(default_factory=dict)  # by number since the epoch
    days: dict[int, str] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)  # the oldest first; the last one may go on
    state: str = ""
    since: float = 0.0
    seen: float = 0.0
    open: bool = False  # whether the last reason goes on


class Bars:
    """The past of all instances of one datacenter."""

    def __init__(self) -> None:
        self._past: dict[str, _Past] = {}
        self._changed: set[str] = set()
        self._shown: dict[str, tuple[tuple[int, int], int, tuple[str, str]]] = {}

    def tell(self, name: str, state: str, *, failing: bool, why: str, since: float, wall: float) -> None:
        """`name` is in this state now."""
        past = self._past.get(name)
        if past is None:
            past = self._past[name] = _Past(seen=wall)
            self._bound()
        letter = letter_of(state, failing=failing)
        minute, day = int(wall // MINUTE_S), int(wall // DAY_S)
        if _worsen(past.minutes, minute, letter, MINUTES) | _worsen(past.days, day, letter, DAYS):
            self._changed.add(name)
            self._shown.pop(name, None)
        self._reason(name, past, letter, "failing" if failing else state, why[:MAX_WHY_CHARS], wall)
        past.state, past.since, past.seen = state, since, wall

    def shown(self, name: str, wall: float) -> tuple[str, str]:
        """The letters of the last MINUTES and DAYS, the oldest first."""
        past = self._past.get(name)
        if past is None:
            return " " * MINUTES, " " * DAYS
        at = int(wall // MINUTE_S), int(wall // DAY_S)
        known = self._shown.get(name)
        if known is None or known[0] != at:
            letters = _letters(past.minutes, at[0], MINUTES), _letters(past.days, at[1], DAYS)
            known = self._shown[name] = at, 0, letters
        return known[2]

    def reasons(self, name: str) -> list[Reason]:
        """Why its bars aren't all good, the newest first."""
        past = self._past.get(name)
        return list(reversed(past.reasons)) if past else []

    def states(self, wall: float, within_s: float) -> dict[str, tuple[str, float]]:
        """In which state each name was told of last, not longer ago than that, and since when."""
        return {
            name: (past.state, past.since)
            for name, past in self._past.items()
            if past.state and 0 <= wall - past.seen <= within_s
        }

    def changed(self) -> set[str]:
        """Whose past is another than when this was asked last."""
        found, self._changed = self._changed & self._past.keys(), set()
        return found

    def packed(self, name: str) -> bytes:
        """One name's past."""
        past = self._past[name]
        return msgspec.msgpack.encode(
            _Saved(past.minutes, past.days, past.reasons, past.state, past.since, past.seen)
        )  # fmt: skip

    def unpack(self, saved: Mapping[str, bytes], wall: float) -> int:
        """Take in what `packed` gave before; how many can't be read. What is too long ago, or still to come, is left out."""
        bad = 0
        for name, data in saved.items():
            try:
                past = msgspec.msgpack.decode(data, type=_Saved)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                bad += 1
                continue
            last_minute, last_day = int(wall // MINUTE_S), int(wall // DAY_S)
            found = _Past(
                _within(past.minutes, last_minute, MINUTES),
                _within(past.days, last_day, DAYS),
                [each for each in past.reasons[-MAX_REASONS:] if wall - DAYS * DAY_S < each.start <= wall],
                past.state,
                past.since,
                past.seen,
            )
            if found.minutes or found.days or found.reasons:
                self._past[name] = found
        self._bound()
        return bad

    # --- within ---------------------------------------------------------------------------

    def _reason(self, name: str, past: _Past, letter: str, state: str, why: str, wall: float) -> None:
        last = past.reasons[-1] if past.reasons else None
        goes_on = last is not None and past.open and 0 <= wall - past.seen <= GAP_S
        if last is not None and goes_on and (last.state, last.why) == (state, why):
            past.reasons[-1] = Reason(last.start, wall, state, why)
            return  # its end is kept with the next thing that changes: at most a minute later
        if last is not None and goes_on:
            past.reasons[-1] = Reason(last.start, wall, last.state, last.why)
            self._changed.add(name)
        past.open = letter != "u"
        if past.open:
            past.reasons = [*past.reasons[-(MAX_REASONS - 1) :], Reason(wall, wall, state, why)]
            self._changed.add(name)

    def _bound(self) -> None:
        while len(self._past) > MAX_NAMES:
            oldest = min(self._past, key=lambda name: self._past[name].seen)
            del self._past[oldest]
            self._shown.pop(oldest, None)


def letter_of(state: str, *, failing: bool) -> str:
    """A state's letter in a bar."""
    if failing:
        return "f"
    return {UP: "u", SILENT: "s", DEAD: "x"}.get(state, "d")


def worst(letters: Iterable[str]) -> str:
    """The worst of some letters."""
    return max(letters, key=_WORST.index, default=" ")


def _worsen(known: dict[int, str], at: int, letter: str, count: int) -> bool:
    before = known.get(at, " ")
    if _WORST.index(letter) <= _WORST.index(before):
        return False
    known[at] = letter
    if before == " ":
        # Of a clock that was put back, what it said is still to come.
        for other in [other for other in known if not at - count < other <= at]:
            del known[other]
    return True


def _letters(known: Mapping[int, str], last: int, count: int) -> str:
    return "".join(known.get(at, " ") for at in range(last - count + 1, last + 1))


def _within(known: Mapping[int, str], last: int, count: int) -> dict[int, str]:
    return {
        at: letter
        for at, letter in known.items()
        if last - count < at <= last and len(letter) == 1 and letter in _WORST
    }
