"""Two proxies measured in turns, and the lines that come of it."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import figures
from bench.figures import row
from bench.seats import Seat

SATURATED = 0.95  # of its core: less, and something else was the limit

Pair = tuple[Seat, Seat]  # ours and HAProxy


@dataclass(frozen=True)
class Turns:
    """One proxy's."""

    values: list[float]
    shares: list[float]  # of its core that the proxy used

    @property
    def per_cpu_s(self) -> list[float]:
        """The same rates for a second of the proxy's processor time."""
        return [value / share for value, share in zip(self.values, self.shares, strict=True)]


def in_turns(what: str, pair: Pair, measure: Callable[[Seat], float], turns: int) -> tuple[Turns, Turns]:
    """Measure both so many times; who is first changes."""
    results = (Turns([], []), Turns([], []))
    for turn in range(turns):
        for n in (0, 1) if turn % 2 == 0 else (1, 0):
            cpu_s, begun = pair[n].cpu_s(), time.monotonic()
            results[n].values.append(measure(pair[n]))
            results[n].shares.append((pair[n].cpu_s() - cpu_s) / (time.monotonic() - begun))
            say(f"{what}, turn {turn + 1} of {turns}, {('ours', 'HAProxy')[n]}: {results[n].values[-1]:,.6g}")
    return results


def show_cpu(ours: Turns, theirs: Turns) -> None:
    """How much of its core each used."""
    show(row("  of its core the proxy used", ours.shares, theirs.shares, figures.share, compare=False))


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
