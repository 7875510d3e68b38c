"""Hits beside what people would use instead: hits a second, processor time of a hit, how long answers take, batches.

All systems are up at once and take turns under the same load, each round in another order; ratios are of two turns of one
round, because the machine's speed wanders. Each has one web process, and all of it together, its stores and the load too,
shares the machine's cores. In the end each system's books are compared with the answers.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import figures, lockstep, pace, seats
from bench.rivals import batches
from bench.rivals.systems import FalconRedis, Hitmesh, HitmeshEmbedded, NothingCounted, System, Talk, Webdis

CONNECTIONS = 64
STEPS = 300  # of lock-step, in one turn: 19,200 requests
WARM_UP_S = 1
# After wrk, which leaves in the middle of its requests: webdis would answer them to whoever has their descriptors next.
PAUSE_S = 0.5
HALF = 0.5  # of what the slower of two can do, at which answers are timed
PARTS = ("rate", "cpu", "latency", "batches")
RIVALS: Sequence[type[System]] = (HitmeshEmbedded, Webdis, FalconRedis, Talk, NothingCounted)
TARGETS: Mapping[tuple[str, str], str] = {
    ("rate", Webdis.name): "0.90",
    ("rate", FalconRedis.name): "5",
    ("rate", Talk.name): "20",
    ("latency", Webdis.name): "at most 1.50",
}


class Field:
    """The systems that are up, how many hits each has answered, and how many more wrk may have left under way."""

    def __init__(self, systems: Sequence[System]) -> None:
        self.systems = systems
        self.answered = dict.fromkeys((each.name for each in systems), 0)
        self.left = dict.fromkeys(self.answered, 0)
        self._by_role: dict[str, list[Mapping[str, float]]] = {each.name: [] for each in systems}

    @property
    def ours(self) -> System:
        """What the others are compared with."""
        return self.systems[0]

    def rounds(
        self, what: str, systems: Sequence[System], measure: Callable[[System], float], turns: int, show: str
    ) -> dict[str, list[float]]:
        """Each system's values, one a round."""
        found: dict[str, list[float]] = {each.name: [] for each in systems}
        for turn in range(turns):
            shift = turn % len(systems)
            for each in (*systems[shift:], *systems[:shift]):
                value = measure(each)
                found[each.name].append(value)
                print(f"{what}, turn {turn + 1}, {each.name}: {show.format(value)}", file=sys.stderr, flush=True)
        return found

    def table(self, part: str, what: str, found: Mapping[str, Sequence[float]], show: str) -> None:
        """A row for each system: its median, and ours to it, turn by turn."""
        ours = found[self.ours.name]
        print(f"{what}", flush=True)
        for name, values in found.items():
            line = f"  {name:<30} {show.format(statistics.median(values)):>12}"
            if values is not ours:
                ratios = [mine / other for mine, other in zip(ours, values, strict=True)]
                line += f"   ours to it {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                target = TARGETS.get((part, name))
                line += f"   target {target}" if target else ""
            print(line, flush=True)

    def hit(self, system: System, seconds: int) -> float:
        """Hits per second that wrk gets answered."""
        command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--latency"]
        url = f"http://127.0.0.1:{system.port}{system.path}"
        done = figures.read_wrk(subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout)
        if done.failed:
            print(f"  {done.failed:,} of {done.answers:,} requests to {system.name} FAILED", flush=True)
        self.answered[system.name] += done.answers
        self.left[system.name] += CONNECTIONS
        return done.per_s

    def cpu_us(self, system: System) -> float:
        """Microseconds of processor time of all its processes that a hit takes in lock-step."""
        with lockstep.connections(system.port, CONNECTIONS) as opened:
            self.answered[system.name] += lockstep.run(opened, lambda: system.request, 10)
            before_s, roles_s = system.cpu_s(), system.cpu_s_by_role()
            answered = lockstep.run(opened, lambda: system.request, STEPS)
            used_s, role_used_s = system.cpu_s() - before_s, system.cpu_s_by_role()
        self.answered[system.name] += answered
        self._by_role[system.name].append(
            {role: (after_s - roles_s[role]) / answered * 1e6 for role, after_s in role_used_s.items()}
        )
        return used_s / answered * 1e6

    def cpu_by_role(self) -> None:
        """A line for each of ours: the mean of the turns' microseconds, as one turn is some ticks of the clock for a role."""
        for name, turns in self._by_role.items():
            if turns and turns[0]:
                means = {role: statistics.mean(turn[role] for turn in turns) for role in turns[0]}
                each = ", ".join(f"{role} {us:.1f}" for role, us in sorted(means.items(), key=lambda mean: -mean[1]))
                print(f"  {name}, by role: {each}", flush=True)

    def p99_s(self, system: System, per_s: float, seconds: int) -> float:
        """Of answers at a constant rate."""
        time.sleep(PAUSE_S)
        done = pace.run(system.port, per_s, seconds, CONNECTIONS, requests=(system.request,), end=b"}")
        self.answered[system.name] += len(done.times_s)
        return figures.percentile(done.times_s, 0.99)


def main() -> int:
    """Run the bench; 1 when something that all of it needs is missing."""
    parser = argparse.ArgumentParser(prog="bench/run rivals", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of load in one turn")
    parser.add_argument("--turns", type=int, default=7, help="of each system")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    missing = [each for each in ("wrk", *Hitmesh.programs) if seats.find(each) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as name:
        if {"rate", "cpu", "latency"} & set(options.only):
            with _up(Path(name)) as field:
                _hits(field, options.only, options.seconds, options.turns)
                _books(field)
        if "batches" in options.only:
            batches.compare(Path(name), options.seconds, options.turns)
    return 0


@contextmanager
def _up(folder: Path) -> Iterator[Field]:
    with ExitStack() as stack:
        systems: list[System] = []
        kinds: Sequence[type[System]] = (Hitmesh, *RIVALS)
        for kind in kinds:
            lacking = kind.missing()
            if lacking:
                print(f"{kind.name}: left out, {', '.join(lacking)} isn't installed (make bench tries to)", flush=True)
                continue
            system = kind()
            stack.callback(system.stop)
            system.start(folder / f"system-{len(systems)}")
            systems.append(system)
        yield Field(systems)


def _hits(field: Field, parts: Sequence[str], seconds: int, turns: int) -> None:
    print(f"a hit on one page, answered when it is on disk: {turns} turns of {seconds} s, {CONNECTIONS} connections")
    for each in field.systems:
        field.hit(each, WARM_UP_S)
    if "rate" in parts:
        rates = field.rounds("hits", field.systems, lambda each: field.hit(each, seconds), turns, "{:,.0f}/s")
        field.table("rate", "hits a second (wrk)", rates, "{:,.0f}/s")
    steady = [each for each in field.systems if each.keeps_alive]
    if "cpu" in parts:
        cpu = field.rounds("CPU", steady, field.cpu_us, turns, "{:.1f} us")
        field.table("cpu", f"processor time of a hit, all processes, {CONNECTIONS} in lock-step", cpu, "{:.1f} us")
        field.cpu_by_role()
    if "latency" in parts:
        compared = [each for each in steady if isinstance(each, Hitmesh | Webdis)]
        per_s = HALF * min(statistics.median(field.hit(each, 2) for _ in range(3)) for each in compared)
        times = field.rounds(
            "99th percentile", compared, lambda each: field.p99_s(each, per_s, seconds) * 1e3, turns, "{:.2f} ms"
        )
        field.table("latency", f"99th percentile at {per_s:,.0f}/s", times, "{:.2f} ms")


def _books(field: Field) -> None:
    time.sleep(3)  # for what was answered last to be counted
    print("books")
    for each in field.systems:
        print(f"  {each.name:<30} {each.verdict(field.answered[each.name], field.left[each.name])}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
