"""Two proxies measured in turns, and the lines that come of it.

A machine is seldom ours alone. What else ran during a turn is measured too; a few turns more are
taken where it was much, and those with the least of it count. What is left of it is told.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bench import figures, seats
from bench.figures import row
from bench.seats import Seat

SATURATED = 0.95  # of its core: less, and something else was the limit
QUIET = 0.1  # of a core, used by others

Pair = tuple[Seat, Seat]  # ours and HAProxy
T = TypeVar("T")


@dataclass(frozen=True)
class Turn(Generic[T]):
    """One turn of one proxy."""

    value: T
    share: float  # of its core that the proxy used
    others: float  # of a core that was used by what isn't ours


@dataclass(frozen=True)
class Turns(Generic[T]):
    """One proxy's."""

    turns: Sequence[Turn[T]]

    @property
    def values(self) -> list[T]:
        """What was measured."""
        return [turn.value for turn in self.turns]


def in_turns(
    what: str, pair: Pair, measure: Callable[[Seat], T], turns: int, tell: Callable[[T], str]
) -> tuple[Turns[T], Turns[T]]:
    """Measure both so many times, or up to half as many times more; who is first changes."""
    rounds: list[tuple[Turn[T], Turn[T]]] = []
    while len(rounds) < turns + turns // 2 and sum(_others(both) <= QUIET for both in rounds) < turns:
        done = {}
        for n in (0, 1) if len(rounds) % 2 == 0 else (1, 0):
            turn = done[n] = _turn(pair[n], measure)
            say(
                f"{what}, turn {len(rounds) + 1}, {('ours', 'HAProxy')[n]}: {tell(turn.value)} "
                f"(CPU {turn.share:.0%}, others {turn.others:.0%})"
            )
        rounds.append((done[0], done[1]))
    best = sorted(rounds, key=_others)[:turns]
    return Turns([both[0] for both in best]), Turns([both[1] for both in best])


def _turn(seat: Seat, measure: Callable[[Seat], T]) -> Turn[T]:
    others_s, cpu_s, begun = seats.others_cpu_s(), seat.cpu_s(), time.monotonic()
    value = measure(seat)
    elapsed_s = time.monotonic() - begun
    others_used_s = max(0.0, seats.others_cpu_s() - others_s)  # one that has ended takes its time with it
    return Turn(value, (seat.cpu_s() - cpu_s) / elapsed_s, others_used_s / elapsed_s)


def _others(both: tuple[Turn[T], Turn[T]]) -> float:
    return max(turn.others for turn in both)


def show_cpu(ours: Turns[T], theirs: Turns[T]) -> None:
    """How much of its core each used, and others of both cores."""
    shares = [[turn.share for turn in each.turns] for each in (ours, theirs)]
    others = statistics.median(turn.others for each in (ours, theirs) for turn in each.turns)
    line = row("  of its core the proxy used", shares[0], shares[1], figures.share, compare=False)
    show(f"{line}   others {others:.0%}{' of a core: NOT QUIET' if others > QUIET else ''}")


def show_limit(ours: Turns[float], theirs: Turns[float], unit: Callable[[float], str]) -> None:
    """The same; where a proxy wasn't what limited the rate, also what both would do by their own time."""
    show_cpu(ours, theirs)
    if min(statistics.median(turn.share for turn in each.turns) for each in (ours, theirs)) < SATURATED:
        per_cpu_s = [[turn.value / turn.share for turn in each.turns] for each in (ours, theirs)]
        show(row("  it had time left: per CPU second", per_cpu_s[0], per_cpu_s[1], unit))


def show(line: str) -> None:
    """A line of the table."""
    print(line, flush=True)


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)
