"""Hits through our balancer, beside the same through HAProxy, to one and the same collector.

The mesh behind is a real one: a collector, a processor, a pair of synced beanstalkds, Consul. Both proxies take turns under
the same load; ratios are of two turns of one round. The proxies are pinned to one core; the mesh and whatever makes the load
have the others. What a hit takes of the proxy's and of the mesh's processor time is measured in lock-step. In the end the
books are compared with the answers.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import figures, lockstep, seats
from bench.rivals.systems import Hitmesh
from bench.seats import Seat
from bench.turns import in_turns, show, show_cpu

CONNECTIONS = 64
STEPS = 100  # of lock-step, in one turn: 6,400 hits
TARGET = "0.95"


def main() -> int:
    """Run the bench; 1 when something it needs is missing."""
    parser = argparse.ArgumentParser(prog="bench/run chain", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of load in one turn")
    parser.add_argument("--turns", type=int, default=7, help="of each proxy")
    parser.add_argument("--ours", metavar="COMMAND", help="another balancer than this tree's, to compare versions")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    missing = [each for each in ("wrk", "haproxy", "taskset", *Hitmesh.programs) if seats.find(each) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    ours = shlex.split(options.ours or "") or [sys.executable, "-m", "balancer"]
    core, *other_cores = sorted(os.sched_getaffinity(0))
    if not other_cores:
        print("needs two cores: one for the proxies, one for the load and the mesh", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, other_cores)  # ours and our children's, but for the proxies
    mesh, proxies = Hitmesh(), list[Seat]()
    answered = sent = 0
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as name:
        folder = Path(name)
        try:
            mesh.start(folder / "mesh")
            proxies.append(seats.balancer(ours, core, mesh.port))
            proxies.append(seats.haproxy(folder, core, mesh.port))

            def load(seat: Seat) -> float:
                nonlocal answered, sent
                command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{options.seconds}s", "--latency"]
                url = f"http://127.0.0.1:{seat.port}{mesh.path}"
                said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
                done = figures.read_wrk(said)
                if done.failed:
                    show(f"  {done.failed:,} of {done.answers:,} requests FAILED")
                answered, sent = answered + done.answers - done.bad_answers, sent + CONNECTIONS
                return done.per_s

            def step(seat: Seat) -> tuple[float, float]:
                nonlocal answered
                with lockstep.connections(seat.port, CONNECTIONS) as opened:
                    answered += lockstep.run(opened, lambda: mesh.request, 10)
                    before_s = seat.cpu_s(), mesh.cpu_s()
                    done = lockstep.run(opened, lambda: mesh.request, STEPS)
                    answered += done
                    return (seat.cpu_s() - before_s[0]) / done * 1e6, (mesh.cpu_s() - before_s[1]) / done * 1e6

            for seat in proxies:
                load(seat)
            found = in_turns("hits", (proxies[0], proxies[1]), load, options.turns, figures.per_second)
            rates = [each.values for each in found]
            show(figures.row("hits, through to the collector", rates[0], rates[1], figures.per_second, target=TARGET))
            show_cpu(*found)
            parts = in_turns("CPU of a hit", (proxies[0], proxies[1]), step, options.turns, _proxy_and_mesh)
            for n, where in enumerate(("the proxy", "the mesh behind it")):
                ours_us, theirs_us = ([turn[n] for turn in each.values] for each in parts)
                show(figures.row(f"CPU of a hit, {where}", ours_us, theirs_us, figures.microseconds))
            show(f"  {mesh.verdict(answered, sent)}; median of ours {statistics.median(rates[0]):,.0f}/s")
        finally:
            for seat in proxies:
                seat.stop()
            mesh.stop()
    return 0


def _proxy_and_mesh(used_us: tuple[float, float]) -> str:
    return " + ".join(map(figures.microseconds, used_us))


if __name__ == "__main__":
    sys.exit(main())
