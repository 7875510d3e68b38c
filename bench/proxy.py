"""The balancer beside HAProxy: requests a second, latency at half load, large bodies, idle connections.

Ours with one worker and HAProxy with one thread stand in front of the same nginx and take turns
under the same load. The proxies are pinned to one core; nginx and whatever makes the load have
the other one. Where that other core is the limit, requests per second of the proxies' own
processor time are what tells them apart, and are told too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench import bulk, figures, idle, lockstep, pace, seats
from bench.figures import row
from bench.seats import Seat
from bench.turns import Pair, in_turns, say, show, show_cpu, show_limit

HERE = Path(__file__).parent
PARTS = ("requests", "cpu", "latency", "bulk", "idle")
NEEDED = ("haproxy", "nginx", "wrk", "taskset")

CONNECTIONS = 64
WARM_UP_S = 1
BODY_BYTES = 10**9
STEPS = 300  # of lock-step, in one turn: 19,200 requests
BULK_TURNS = 3  # each takes the proxy a second or so
STANDSTILL_S = 1.0  # time enough to swallow a whole body, without back-pressure
IDLE_CONNECTIONS = 10_000
SPARE_FILES = 300  # of those that a process may open: what else it needs
IDLE_CHECKED = 100  # each so many-th connection is asked again


@dataclass(frozen=True)
class Bench:
    """What all parts share."""

    folder: Path
    core: int  # of the proxies
    ours: Sequence[str]  # a balancer's command line; none: HAProxy in our seat too
    nginx: Seat
    seconds: int
    turns: int

    @contextlib.contextmanager
    def pair(self, backend: int) -> Iterator[Pair]:
        """Both proxies, fresh, in front of that port."""
        with contextlib.ExitStack() as stack:
            started = []
            for command in (self.ours, []):
                if command:
                    seat = seats.balancer(command, self.core, backend)
                else:
                    seat = seats.haproxy(self.folder, self.core, backend)
                stack.callback(seat.stop)
                started.append(seat)
            yield started[0], started[1]


def main() -> int:
    """Run the bench; 1 when something it needs is missing."""
    parser = argparse.ArgumentParser(prog="bench/run proxy", description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="of load in one turn")
    parser.add_argument("--turns", type=int, default=5, help="of each system")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    parser.add_argument("--ours", metavar="COMMAND", help="another balancer than this tree's, to compare versions")
    parser.add_argument("--same", action="store_true", help="HAProxy in both seats: how far equals come out apart")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    missing = [program for program in NEEDED if seats.find(program) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("needs two cores: one for the proxies, one for the load and the backend", file=sys.stderr)
        return 1
    ours = [] if options.same else shlex.split(options.ours or "") or [sys.executable, "-m", "balancer"]
    _raise_file_limit()
    os.sched_setaffinity(0, {cores[1]})  # ours and our children's, but for the proxies
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-", dir=_memory_folder()) as name:
        folder = Path(name)
        nginx = seats.nginx(folder, cores[1])
        try:
            bench = Bench(folder, cores[0], ours, nginx, options.seconds, options.turns)
            _head(bench, cores[1])
            _run(bench, options.only)
        finally:
            nginx.stop()
    return 0


def _run(bench: Bench, parts: Sequence[str]) -> None:
    if {"requests", "cpu", "latency"} & set(parts):
        with bench.pair(bench.nginx.port) as pair:
            half = _requests(bench, pair, "GET, bare", None, "1.00") / 2
            if "requests" in parts:
                _requests(bench, pair, "GET, a browser's 12 headers", HERE / "browser.lua", "1.05")
            if "cpu" in parts:
                _cpu(bench, pair, "CPU of a GET, bare", pace.REQUEST)
                _cpu(bench, pair, "CPU of a GET, a browser's 12 headers", browser())
            if "latency" in parts:
                _latency(bench, pair, half)
    if "bulk" in parts:
        _bulk(bench)
    if "idle" in parts:
        _idle(bench)


def _requests(bench: Bench, pair: Pair, title: str, script: Path | None, target: str) -> float:
    """Print requests per second; the slower one's median."""

    def load(seat: Seat, seconds: int) -> float:
        command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--latency"]
        command += ["-s", str(script)] if script else []
        command += [f"http://127.0.0.1:{seat.port}/"]
        done = figures.read_wrk(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        if done.failed:
            print(f"  {done.failed:,} of {done.answers:,} requests FAILED in the next row", flush=True)
        return done.per_s

    for seat in pair:
        load(seat, WARM_UP_S)
    ours, theirs = in_turns(title, pair, lambda seat: load(seat, bench.seconds), bench.turns, figures.per_second)
    show(row(title, ours.values, theirs.values, figures.per_second, target=target))
    show_limit(ours, theirs, figures.per_second)
    return min(statistics.median(each.values) for each in (ours, theirs))


def _cpu(bench: Bench, pair: Pair, title: str, request: bytes) -> None:
    """Print the processor time that a proxy takes for a request in lock-step."""

    def step(seat: Seat) -> float:
        with lockstep.connections(seat.port, CONNECTIONS) as opened:
            lockstep.run(opened, lambda: request, 10)
            before_s = seat.cpu_s()
            answered = lockstep.run(opened, lambda: request, STEPS)
            return (seat.cpu_s() - before_s) / answered * 1e6

    ours, theirs = in_turns(title, pair, step, bench.turns, figures.microseconds)
    show(row(title, ours.values, theirs.values, figures.microseconds, target="at most 1.00"))


def _latency(bench: Bench, pair: Pair, per_s: float) -> None:
    """Print how long answers take at a rate that is at most half of what either can do."""

    def load(seat: Seat) -> pace.Paced:
        return pace.run(seat.port, per_s, bench.seconds, CONNECTIONS)

    def tell(done: pace.Paced) -> str:
        return figures.milliseconds(figures.percentile(done.times_s, 0.99))

    for seat in pair:
        pace.run(seat.port, per_s, WARM_UP_S, CONNECTIONS)
    ours, theirs = in_turns(f"99th percentile at {per_s:,.0f}/s", pair, load, bench.turns, tell)
    for title, share, target in (("median", 0.5, ""), ("99th percentile", 0.99, "at most 1.20"), ("99.9th", 0.999, "")):
        both = [[figures.percentile(run.times_s, share) for run in each.values] for each in (ours, theirs)]
        show(row(f"{title} at {per_s:,.0f}/s", both[0], both[1], figures.milliseconds, target=target))
    show_cpu(ours, theirs)
    waited = [[run.waited / len(run.times_s) for run in each.values] for each in (ours, theirs)]
    if max(map(statistics.median, waited)) > 0:
        show(row("  due when all connections were busy", waited[0], waited[1], "{:.1%}".format, compare=False))


def _bulk(bench: Bench) -> None:
    path = f"/files/{bulk.sparse(bench.folder / 'zeros', BODY_BYTES).name}"
    growth: list[list[float]] = []
    with bench.pair(bench.nginx.port) as pair:
        for seat in pair:
            seat.forget_peak()
            bulk.download(seat.port, path, BODY_BYTES, pause_s=STANDSTILL_S)
        growth.append([seat.growth_bytes() for seat in pair])
        ours, theirs = in_turns(
            "download",
            pair,
            lambda seat: bulk.download(seat.port, path, BODY_BYTES),
            BULK_TURNS,
            figures.bytes_per_second,
        )
        show(row("download of 1 GB", ours.values, theirs.values, figures.bytes_per_second, target="0.70"))
        show_limit(ours, theirs, figures.bytes_per_second)
    with bulk.Sink() as sink, (bench.folder / "zeros").open("rb") as zeros, bench.pair(sink.port) as pair:
        sink.pause_s = STANDSTILL_S
        for seat in pair:
            seat.forget_peak()
            bulk.upload(seat.port, zeros, BODY_BYTES)
        growth.append([seat.growth_bytes() for seat in pair])
        sink.pause_s = 0.0
        ours, theirs = in_turns(
            "upload", pair, lambda seat: bulk.upload(seat.port, zeros, BODY_BYTES), BULK_TURNS, figures.bytes_per_second
        )
        show(row("upload of 1 GB", ours.values, theirs.values, figures.bytes_per_second))
        show_limit(ours, theirs, figures.bytes_per_second)
    for title, (mine, other) in zip(("download", "upload"), growth, strict=True):
        title = f"  peak memory, {title}, taker still for 1 s"
        show(row(title, [mine], [other], lambda value: "+" + figures.mebibytes(value), compare=False))


def _idle(bench: Bench) -> None:
    count = min(IDLE_CONNECTIONS, _raise_file_limit() - SPARE_FILES)
    each: list[list[float]] = []
    lost = []
    with bench.pair(bench.nginx.port) as pair:
        for seat in pair:
            for link in idle.connect(seat.port, CONNECTIONS):
                link.close()
            before = seat.memory_bytes()
            links = idle.connect(seat.port, count)
            try:
                each.append([(seat.memory_bytes() - before) / count])
                held = idle.check(links, every=IDLE_CHECKED)
            finally:
                for link in links:
                    link.close()
            lost.append(held.closed + held.asked - held.answered)
            say(f"idle connections: {each[-1][0]:,.0f} bytes each, {held}")
    show(row(f"{count:,} idle connections, memory of each", each[0], each[1], figures.kibibytes))
    if any(lost):
        show(f"  LOST of these: ours {lost[0]:,}, HAProxy {lost[1]:,}")


def _head(bench: Bench, other_core: int) -> None:
    print(f"the balancer, one worker, beside HAProxy, one thread: turns of {bench.seconds} s, medians")
    if not bench.ours:
        print("  HAProxy in BOTH seats")
    print(
        f"  hitmesh {version('hitmesh')} (gevent {version('gevent')}, Python {sys.version.split()[0]}), "
        f"{_version('haproxy', '-v')}, {_version('nginx', '-v')}, {_version('wrk', '-v')}"
    )
    print(
        f"  proxies on core {bench.core}; nginx with a constant, and the load, on core {other_core}; "
        f"{CONNECTIONS} keep-alive connections; load: wrk; at half load: bench/pace.py"
    )
    sys.stdout.flush()


def browser() -> bytes:
    """The request of browser.lua."""
    pairs = re.findall(r'\["?([\w-]+)"?\] = "([^"]*)"', (HERE / "browser.lua").read_text())
    return pace.REQUEST[:-2] + "".join(f"{name}: {value}\r\n" for name, value in pairs).encode() + b"\r\n"


def _version(program: str, option: str) -> str:
    said = subprocess.run([seats.find(program) or program, option], capture_output=True, text=True, check=False)
    words = (said.stdout + said.stderr).replace("nginx/", "").splitlines()[0].split()
    number = next(word for word in words if any(map(str.isdigit, word)))
    return f"{program} {number}"


def _memory_folder() -> str | None:
    """Where files are in memory, if there is such a place: large bodies then read no disk."""
    shared = Path("/dev/shm")
    return str(shared) if os.access(shared, os.W_OK) else None


def _raise_file_limit() -> int:
    """As many open files as we may have, also for our children."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


if __name__ == "__main__":
    sys.exit(main())
