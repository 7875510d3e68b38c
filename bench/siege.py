"""Others' requests with and without an attack, in turns: none may fail, and their p99 at most double.

Owns the turns and the line of the table; knows nothing of what is attacked, nor how.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench import pace
from bench.figures import milliseconds, percentile, ratio_of_percentiles
from bench.reload import Mesh
from bench.turns import say, show

CONNECTIONS: Final = 32  # of the load
WARM_UP_S: Final = 3.0
HIT: Final = b"POST /hit/example.com/front HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n"
HIT_END: Final = b"}}}"
TARGET: Final = 2.0  # the p99 with the attack, of that without


def add_options(parser: argparse.ArgumentParser, *, rate: float, seconds: float, connections: int) -> None:
    """Those that every siege has."""
    parser.add_argument("--seconds", type=float, default=seconds, help="of load in one turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="with each attack, and as many without (%(default)s)")
    parser.add_argument("--rate", type=float, default=rate, help="requests a second of the others (%(default)s)")
    parser.add_argument("--connections", type=int, default=connections, help="of the attackers (%(default)s)")


def against_a_mesh(
    options: argparse.Namespace, attacks: Callable[[Mesh], Mapping[str, Callable[[], AbstractContextManager[None]]]]
) -> int:
    """The lines of some attacks on a datacenter of its own, which gets hits through its balancer; 1 if any failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-siege-"))
    failed = 0
    try:
        mesh = Mesh(folder / "var", [])
        try:
            port = urlsplit(mesh.balancer).port or 0

            def load(seconds: float) -> pace.Paced:
                return pace.run(port, options.rate, seconds, CONNECTIONS, requests=(HIT,), end=HIT_END)

            for attack, under in attacks(mesh).items():
                load(WARM_UP_S)
                failed += measure(attack, options, load=partial(load, options.seconds), under=under)
        finally:
            mesh.down()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed > 0)


def measure(
    attack: str,
    options: argparse.Namespace,
    *,
    load: Callable[[], pace.Paced],
    under: Callable[[], AbstractContextManager[None]],
    cpu_s: Callable[[], float] | None = None,
) -> int:
    """One line of the table; how many turns had a failure.

    `load` are the others' requests of one turn, `under` the attack, `cpu_s` what the attacked have used so far.
    """
    shares: dict[bool, list[float]] = {False: [], True: []}  # of a core
    times_s: dict[bool, list[list[float]]] = {False: [], True: []}
    failures = []
    for turn in range(options.turns):
        for attacked in (False, True) if turn % 2 == 0 else (True, False):
            what = f"{attack}, turn {turn + 1}, {'attacked' if attacked else 'alone'}"
            with under() if attacked else contextlib.nullcontext():
                used_s, begun = cpu_s() if cpu_s else 0.0, time.monotonic()
                try:
                    run = load()
                except (AssertionError, OSError) as error:
                    failures.append(error)
                    say(f"{what}: FAILED: {error}")
                    continue
                if cpu_s:
                    shares[attacked].append((cpu_s() - used_s) / (time.monotonic() - begun))
            times_s[attacked].append(run.times_s)
            say(f"{what}: p99 {milliseconds(percentile(run.times_s, 0.99))}")
    if failures:
        show(f"  {attack:<10} others' requests FAILED in {len(failures)} of {2 * options.turns} turns: {failures[0]}")
        return len(failures)
    ratio, low, high = ratio_of_percentiles(times_s[True], times_s[False], 0.99)
    alone, beside = (sorted(chain.from_iterable(times_s[each])) for each in (False, True))
    used = f"   CPU {statistics.median(shares[False]):.0%} -> {statistics.median(shares[True]):.0%}" if cpu_s else ""
    show(
        f"  {attack:<10} {len(beside):,} requests, 0 failed   "
        f"p50 {milliseconds(percentile(alone, 0.5))} -> {milliseconds(percentile(beside, 0.5))}   "
        f"p99 {milliseconds(percentile(alone, 0.99))} -> {milliseconds(percentile(beside, 0.99))}   "
        f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})   target at most {TARGET:g}{used}"
    )
    return 0
