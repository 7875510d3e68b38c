"""What the benches make of what they measured: wrk's output read, percentiles, rows of a table.

Pure: it starts nothing and reads no clock. Two systems are compared turn by turn, because the
machine's speed wanders and the ratio of two turns beside each other doesn't.
"""

from __future__ import annotations

import math
import random
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

DRAWS = 400
SEED = 7
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Load:
    """What wrk said of one run with --latency."""

    per_s: float
    answers: int  # whatever their status
    bad_answers: int  # neither 2xx nor 3xx
    socket_errors: int  # connect, read, write and time-outs, as wrk counts them
    slowest_s: float

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return self.bad_answers + self.socket_errors


def read_wrk(output: str) -> Load:
    """A run's figures from wrk's output; ValueError where it isn't such an output."""
    per_s = re.search(r"^Requests/sec:\s+([0-9.]+)", output, re.MULTILINE)
    answers = re.search(r"^\s+(\d+) requests in ", output, re.MULTILINE)
    latency = re.search(r"^\s+Latency\s+\S+\s+\S+\s+([0-9.]+)(us|ms|s|m|h)\s", output, re.MULTILINE)
    if not (per_s and answers and latency):
        raise ValueError(f"not what wrk prints: {output!r}")
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Load(
        per_s=float(per_s[1]),
        answers=int(answers[1]),
        bad_answers=int(bad[1]) if bad else 0,
        socket_errors=sum(map(int, sockets.groups())) if sockets else 0,
        slowest_s=float(latency[1]) * UNITS[latency[2]],
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that at least `share` (0 to 1) of them don't exceed."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def ratio_of_percentiles(
    ours: Sequence[Sequence[float]], base: Sequence[Sequence[float]], share: float
) -> tuple[float, float, float]:
    """The ratio of two percentiles, each of all turns' values together, and the interval that holds it to 90%.

    The interval is a bootstrap's: turn by turn, because the values of one turn have its troubles in common.
    """
    dice = random.Random(SEED)
    pairs = list(zip(ours, base, strict=True))

    def ratio(turns: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
        mine, others = (sorted(chain.from_iterable(side)) for side in zip(*turns, strict=True))
        return percentile(mine, share) / percentile(others, share)

    drawn = sorted(ratio(dice.choices(pairs, k=len(pairs))) for _ in range(DRAWS))
    return ratio(pairs), percentile(drawn, 0.05), percentile(drawn, 0.95)


def row(
    title: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    show: Callable[[float], str],
    *,
    target: str = "",
    compare: bool = True,
) -> str:
    """One line: both medians, and the median of the turns' ratios with the lowest and the highest."""
    line = f"  {title:<40} ours {show(statistics.median(ours)):>11}   HAProxy {show(statistics.median(theirs)):>11}"
    if compare:
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        line += f"   ratio {statistics.median(ratios):.2f}"
        line += f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return line + (f"   target {target}" if target else "")


def per_second(value: float) -> str:
    """Requests."""
    return f"{value:,.0f}/s"


def bytes_per_second(value: float) -> str:
    """In powers of ten, as rates are."""
    return f"{value / 1e6:,.0f} MB/s"


def share(value: float) -> str:
    """Of a whole."""
    return f"{value:.0%}"


def milliseconds(seconds: float) -> str:
    """With two digits behind the point."""
    return f"{seconds * 1e3:.2f} ms"


def microseconds(value: float) -> str:
    """Of processor time; given as such."""
    return f"{value:.1f} us"


def mebibytes(value: float) -> str:
    """As memory is counted."""
    return f"{value / 2**20:.1f} MiB"


def kibibytes(value: float) -> str:
    """As memory is counted."""
    return f"{value / 2**10:.2f} KiB"
