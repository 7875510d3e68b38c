"""What a mesh does with more pages, and with more collectors; and what a million hits take of each role.

`pages`: hits a second of one collector, spread evenly over 10 to a million pages; each round takes all numbers in turn, and
ratios are to the fewest pages of the round. `width`: 1, 2 and 4 collectors, each behind as many balancer workers, on
the cores that there are, load and stores included. Each line has the processor seconds that a million hits took, by role.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import figures
from bench.counting import HERE, Roles, audit, down, up

CONNECTIONS = 64
PARTS = ("pages", "width")
PAGES = (10, 1000, 100_000, 1_000_000)
WIDTHS = (1, 2, 4)
COMMITTED_S = 3.0  # after a turn, for what it left to be committed: that is its time too
COLLECTOR = 10  # ports from the balancer's to it, in the block of a datacenter

TEMPLATE = """
name = "bench"
balancer = {{ workers = {count} }}

[nodes.local]
address = "127.0.0.1"
nexus = 1
processor = 1
collector = {count}
balancer = 1
"""


def main() -> int:
    """Run the bench; 1 when something it needs is missing."""
    parser = argparse.ArgumentParser(prog="bench/run width", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of load in one turn")
    parser.add_argument("--turns", type=int, default=7, help="of each number of pages")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    missing = [each for each in ("wrk", "beanstalkd", "consul") if shutil.which(each) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as name:
        folder = Path(name)
        if "pages" in options.only:
            _pages(folder / "pages", options.seconds, options.turns)
        if "width" in options.only:
            for count in WIDTHS:
                _width(folder / f"width-{count}", count, options.seconds, options.turns)
    return 0


def _pages(folder: Path, seconds: int, turns: int) -> None:
    folder.mkdir()
    try:
        url = up(folder / "var", embedded=False)
        print(f"hits spread over so many pages, one collector: {turns} turns of {seconds} s", flush=True)
        rates: dict[int, list[float]] = {pages: [] for pages in PAGES}
        for pages in PAGES:
            _load(url, pages, 1)
        for turn in range(turns):
            for pages in PAGES if turn % 2 == 0 else reversed(PAGES):
                rates[pages].append(_load(url, pages, seconds).per_s)
            told = ", ".join(f"{pages:,}: {rates[pages][-1]:,.0f}/s" for pages in PAGES)
            print(f"pages, turn {turn + 1}: {told}", file=sys.stderr, flush=True)
        for pages, values in rates.items():
            ratios = [value / fewest for value, fewest in zip(values, rates[PAGES[0]], strict=True)]
            print(
                f"  {pages:>9,} pages {statistics.median(values):>9,.0f}/s   to {PAGES[0]} pages "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )
        _books(folder / "var")
    finally:
        down(folder / "var")


def _width(folder: Path, count: int, seconds: int, turns: int) -> None:
    folder.mkdir()
    template = folder / "bench.toml"
    template.write_text(TEMPLATE.format(count=count))
    state_dir = folder / "var"
    try:
        host, _, collector = up(state_dir, template, embedded=False).rpartition(":")
        url = f"{host}:{int(collector) - COLLECTOR}"
        _load(url, 1000, 1)
        time.sleep(COMMITTED_S)
        roles, answered, rates = Roles(state_dir), 0, list[float]()
        before = roles.cpu_s()
        for _ in range(turns):
            done = _load(url, 1000, seconds)
            answered += done.answers
            rates.append(done.per_s)
        time.sleep(COMMITTED_S)
        used = roles.cpu_s()
        spent = {role: (used[role] - before[role]) / answered * 1e6 for role in sorted(used)}
        each = ", ".join(f"{role} {value:.0f}" for role, value in spent.items())
        print(
            f"{count} collectors, {count} balancer workers: {statistics.median(rates):,.0f}/s; CPU seconds of a million "
            f"hits: {sum(spent.values()):.0f} ({each})",
            flush=True,
        )
        _books(state_dir)
    finally:
        down(state_dir)


def _load(url: str, pages: int, seconds: int) -> figures.Load:
    command = [
        "wrk",
        "-t",
        "1",
        "-c",
        str(CONNECTIONS),
        "-d",
        f"{seconds}s",
        "--latency",
        "-s",
        str(HERE / "spread.lua"),
    ]
    said = subprocess.run([*command, url, "--", str(pages)], capture_output=True, text=True, check=True).stdout
    done = figures.read_wrk(said)
    if done.failed:
        print(f"  {done.failed:,} of {done.answers:,} requests FAILED", flush=True)
    return done


def _books(state_dir: Path) -> None:
    books = audit(state_dir)
    print(f"  audit: balanced {books['balanced']}, committed {books['committed']:,}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
