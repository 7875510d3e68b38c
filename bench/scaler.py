"""A saw-tooth of load on a mesh that resizes itself: how often it changed, how long answers took, what failed.

One node, one collector that is always there, and places for more. Each tooth is a few runs of wrk through the balancer,
each with more connections than the one before, and then nothing. The windows are short, so that three minutes show what
thirty do with the defaults; that the decisions don't flap in thirty is a test in virtual time.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.counting import BIN, HERE, audit, down
from bench.ports import free_block

PIECE_S: Final = 7  # of one number of connections
TEETH: Final = (2, 8, 24, 48)  # connections, one after the other
REST_S: Final = 12.0  # between two teeth
AFTER_S: Final = 90.0  # for what was started to be stopped again
TEMPLATE: Final = """
name = "bench"
[nodes.local]
address = "127.0.0.1"
nexus = 2
processor = 1
collector = 1
balancer = 1
scaler = 1
[timing]
missed_heartbeats = 20
[scaler]
host_busy = 1.0    # the load comes from this very machine
host_free_mb = 0
warm_s = 3.0
[scaler.collector]
max = {most}
busy = {busy}
p99_ms = {p99_ms}
up_s = 4.0
down_s = 45.0      # longer than a tooth: what one has started is there for the next one
[scaler.balancer]
max = {workers}
busy = {busy}
up_s = 4.0
down_s = 45.0
"""


class Piece(NamedTuple):
    """What wrk saw."""

    connections: int
    requests: int
    failed: int
    p99_ms: float


def main() -> int:
    """Run the bench; 1 when something it needs is missing, or a request failed, or the books don't balance."""
    parser = argparse.ArgumentParser(prog="bench/run scaler", description=__doc__)
    parser.add_argument("--seconds", type=int, default=180, help="of saw-tooth (%(default)s)")
    parser.add_argument("--most", type=int, default=4, help="collectors (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="most workers of the balancer; 0: one (%(default)s)")
    parser.add_argument("--busy", type=float, default=0.3, help="share of a CPU that each is to use (%(default)s)")
    parser.add_argument("--p99-ms", type=float, default=50.0, help="that 99 of 100 answers may take (%(default)s)")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        print("not installed: wrk; scripts/install-services does it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as folder:
        template, state_dir, base = Path(folder, "scaler.toml"), Path(folder, "var"), free_block()
        template.write_text(
            TEMPLATE.format(most=options.most, workers=options.workers, busy=options.busy, p99_ms=options.p99_ms)
        )
        words = ["--config", str(template), "--dcs", "bench", "--state-dir", str(state_dir), "--base-port", str(base)]
        try:
            subprocess.run([str(BIN / "hitmesh"), "up", "-d", *words], check=True, stdout=subprocess.DEVNULL)
            return _measure(state_dir, f"http://127.0.0.1:{base}", options.seconds)
        finally:
            down(state_dir)


def _measure(state_dir: Path, url: str, seconds: int) -> int:
    pieces: list[Piece] = []
    began = time.monotonic()
    print("| at | connections | requests/s | p99 | failed | collectors | workers |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    while time.monotonic() - began < seconds:
        for connections in TEETH:
            piece = _piece(url, connections)
            pieces.append(piece)
            print(
                f"| {time.monotonic() - began:.0f} s | {connections} | {piece.requests / PIECE_S:,.0f} | {piece.p99_ms:.1f} ms "
                f"| {piece.failed} | {_living(state_dir, 'collector')} | {_living(state_dir, 'balancer')} |",
                flush=True,
            )
        time.sleep(REST_S)
    during = _changes(state_dir)
    deadline = time.monotonic() + AFTER_S
    while max(_living(state_dir, "collector"), _living(state_dir, "balancer")) > 1 and time.monotonic() < deadline:
        time.sleep(1)
    books, total = _books(state_dir), _total(state_dir)
    changes, failed = _changes(state_dir), sum(piece.failed for piece in pieces)
    answered, open_at_ends = sum(p.requests for p in pieces), sum(p.connections for p in pieces)
    ways = [now > was for was, now in during]
    reversals = sum(a != b for a, b in pairwise(ways))
    print(
        f"changes in the saw-tooth: {_words(during)}, {reversals} reversals; afterwards: {_words(changes[len(during) :])}"
    )
    print(f"workers of the balancer: {_words(_changes(state_dir, 'workers of each balancer'))}")
    exact = answered <= total <= answered + open_at_ends and books["balanced"]
    print(
        f"failed requests: {failed}; answered {answered:,}, counted {total:,} (wrk leaves {open_at_ends} unread at most);"
    )
    print(f"books: {'balanced' if books['balanced'] else books['problems']}, {books['committed']:,} committed")
    return 0 if exact and not failed and books["committed"] == total else 1


def _piece(url: str, connections: int) -> Piece:
    command = ["wrk", "--latency", "-t", "1", "-c", str(connections), "-d", f"{PIECE_S}s", "-s", str(HERE / "one.lua")]
    output = subprocess.run(
        [*command, f"{url}/hit/example.com/front"], capture_output=True, text=True, check=True
    ).stdout
    requests = re.search(r"(\d+) requests in", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    assert requests and p99, output
    failed = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    failed += sum(
        int(number) for line in re.findall(r"Socket errors: (.*)", output) for number in re.findall(r"\d+", line)
    )
    return Piece(connections, int(requests[1]), failed, float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]])


def _hitmesh(state_dir: Path, *words: str) -> Any:
    command = [str(BIN / "hitmesh"), *words, "--json", "--state-dir", str(state_dir)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)


def _living(state_dir: Path, role: str) -> int:
    return sum(each["role"] == role and each["state"] == "up" for each in _hitmesh(state_dir, "status"))


def _books(state_dir: Path) -> Any:
    deadline = time.monotonic() + AFTER_S
    while (books := audit(state_dir))["in_flight"] or books["spooled"]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return books


def _total(state_dir: Path) -> int:
    return int(_hitmesh(state_dir, "total", "example.com/front")["total"])


def _changes(state_dir: Path, of: str = "collector") -> list[tuple[int, int]]:
    log = (state_dir / "log" / "bench-scaler-1.log").read_text()
    return [(int(was), int(now)) for was, now in re.findall(rf": {of} (\d+) -> (\d+)[,:]", log)]


def _words(changes: list[tuple[int, int]]) -> str:
    return ", ".join(f"{was} -> {now}" for was, now in changes) or "none"


if __name__ == "__main__":
    sys.exit(main())
