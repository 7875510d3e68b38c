"""Two proxies measured in turns, and the lines that come of it.

A machine is seldom ours alone. What else ran during a turn is measured too; a few turns more are
taken where it was much, and those with the least of it count. What is left of it is told.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import figures, seats
from bench.figures import row
from bench.seats import Seat

SATURATED = 0.95  # of its core: less, and something else was the limit
QUIET = 0.1  # of a core, used by others

Pair = tuple[Seat, Seat]  # ours and HAProxy
NAMES = ("ours", "HAProxy")


@dataclass(frozen=True)
class Turns:
    """One proxy's."""

    values: list[float]
    shares: list[float]  # of its core that the proxy used
    others: list[float]  # of a core that was used by what isn't ours

    @property
    def per_cpu_s(self) -> list[float]:
        """The same rates for a second of the proxy's processor time."""
        return [value / share for value, share in zip(self.values, self.shares, strict=True)]


def in_turns(what: str, pair: Pair, measure: Callable[[Seat], float], turns: int) -> tuple[Turns, Turns]:
    """Measure both so many times, or half as many times more; who is first changes."""
    rounds: list[dict[int, tuple[float, float, float]]] = []
    while len(rounds) < turns + turns // 2 and sum(map(_is_quiet, rounds)) < turns:
        order = (0, 1) if len(rounds) % 2 == 0 else (1, 0)
        rounds.append({n: _turn(f"{what}, turn {len(rounds) + 1}, {NAMES[n]}", pair[n], measure) for n in order})
    best = sorted(rounds, key=lambda both: max(both[0][2], both[1][2]))[:turns]
    ours, theirs = (Turns(*map(list, zip(*(both[n] for both in best), strict=True))) for n in (0, 1))
    return ours, theirs


def _turn(what: str, seat: Seat, measure: Callable[[Seat], float]) -> tuple[float, float, float]:
    """The value, the share of its core that the proxy used, and what others used."""
    others_s, cpu_s, begun = seats.others_cpu_s(), seat.cpu_s(), time.monotonic()
    value = measure(seat)
    elapsed_s = time.monotonic() - begun
    share, others = (seat.cpu_s() - cpu_s) / elapsed_s, max(seats.others_cpu_s() - others_s, 0.0) / elapsed_s
    say(f"{what}: {value:,.6g} (CPU {share:.0%}, others {others:.0%})")
    return value, share, others


def _is_quiet(both: dict[int, tuple[float, float, float]]) -> bool:
    return max(both[0][2], both[1][2]) <= QUIET


def show_cpu(ours: Turns, theirs: Turns) -> None:
    """How much of its core each used, and others of both cores."""
    line = row("  of its core the proxy used", ours.shares, theirs.shares, figures.share, compare=False)
    others = statistics.median(ours.others + theirs.others)
    show(f"{line}   others {others:.0%}{' of a core: NOT QUIET' if others > QUIET else ''}")


def show_limit(ours: Turns, theirs: Turns, unit: Callable[[float], str]) -> None:
    """The same; where the proxies weren't what limited the rate, also what they would do by their own time."""
    show_cpu(ours, theirs)
    if min(map(statistics.median, (ours.shares, theirs.shares))) < SATURATED:
        show(row("  it had time left: per CPU second", ours.per_cpu_s, theirs.per_cpu_s, unit))


def show(line: str) -> None:
    """A line of the table."""
    print(line, flush=True)


def say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)
