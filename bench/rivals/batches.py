"""Batches of 1,000 hits over HTTP, until they are committed, beside Redis's INCR with 64 in one pipeline.

Both over 1,000 pages. Redis syncs its file before it answers a pipeline (appendfsync always), and has as many
connections as the batches, so that one sync serves all of them.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench import seats
from bench.counting import HERE
from bench.rivals.systems import Hitmesh, RedisAlone

CONNECTIONS = 8
LINES = 1000
PIPELINE = 64
TARGET = "2"
COMMIT_S = 60.0  # for what was answered to be committed
LOOK_S = 0.1


def compare(folder: Path, seconds: int, turns: int) -> None:
    """Print hits a second of both, and the ratio."""
    if lacking := [each for each in ("redis-server", "redis-benchmark") if seats.find(each) is None]:
        print(f"batches: left out, {', '.join(lacking)} isn't installed (make bench tries to)", flush=True)
        return
    with ExitStack() as stack:
        ours, redis = Hitmesh(), RedisAlone()
        for number, system in enumerate((ours, redis)):
            stack.callback(system.stop)
            system.start(folder / f"batches-{number}")
        print(
            f"batches of {LINES:,} lines, counted and committed: {turns} turns of {seconds} s, {CONNECTIONS} connections"
        )
        _committed_per_s(ours, 1)
        mine, others = [], []
        for turn in range(turns):
            for system in (ours, redis) if turn % 2 else (redis, ours):
                if system is ours:
                    mine.append(_committed_per_s(ours, seconds))
                else:
                    others.append(_increments_per_s(redis, seconds))
            print(
                f"batches, turn {turn + 1}: {mine[-1]:,.0f}/s, Redis {others[-1]:,.0f}/s", file=sys.stderr, flush=True
            )
        ratios = [one / other for one, other in zip(mine, others, strict=True)]
        print(f"  {ours.name:<30} {statistics.median(mine):>10,.0f}/s")
        print(
            f"  {f'Redis, INCR, {PIPELINE} in a pipeline':<30} {statistics.median(others):>10,.0f}/s   ours to it "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})   target {TARGET}"
        )


def _committed_per_s(ours: Hitmesh, seconds: int) -> float:
    before, begun = ours.committed(), time.monotonic()
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", str(HERE / "batch.lua")]
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{ours.port}/hits"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"(\d+) requests in ", said)
    assert found, said
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"batches failed:\n{said}")
    hits = int(found[1]) * LINES
    while (committed := ours.committed() - before) < hits:
        if time.monotonic() > begun + seconds + COMMIT_S:
            raise SystemExit(f"only {committed:,} of {hits:,} hits are committed")
        time.sleep(LOOK_S)
    return committed / (time.monotonic() - begun)


def _increments_per_s(redis: RedisAlone, seconds: int) -> float:
    """As many as take about so long: redis-benchmark wants a number."""
    rate = redis.rate or 50_000.0
    command = ["redis-benchmark", "-p", str(redis.port), "-c", str(CONNECTIONS), "-P", str(PIPELINE), "-r", str(LINES)]
    said = subprocess.run(
        [*command, "-n", str(int(rate * seconds)), "--csv", "INCR", "page:__rand_int__"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    # "test","rps",... and below it the values
    redis.rate = float(said.splitlines()[1].split(",")[1].strip('"'))
    return redis.rate
