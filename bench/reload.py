"""A soak: full load while what answers it is restarted.

wrk keeps 64 connections busy with hits through the balancer of a whole datacenter. Meanwhile the
collectors are restarted one after another, then all at once; then the balancer reads its
configuration anew (SIGHUP) and runs a new copy of its code (SIGUSR2). No request may fail, and
afterwards the books must balance and the total must be the number of answers.

There the collectors set the pace. So then a balancer alone, in front of an nginx that is faster
than any balancer, is replaced again and again at its own full speed: no request may fail, nor
reach nginx twice. Exit status 1 if one does.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from bench import seats
from bench.figures import Load, read_wrk
from bench.ports import free_block

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
DC = "soak"
PAGE = "example.com/front"

CONNECTIONS = 64
TIMEOUT_S = 45  # after which wrk gives up: more than the balancer holds a request
STEP_S = 40.0  # that a restart may take
ALONE_TIMES = 3  # both signals
AUDIT_S = 30.0  # for what is spooled or under way to be committed

Step = tuple[str, Callable[[], object]]


class Mesh:
    """One datacenter of its own, by the commands that an operator has."""

    def __init__(self, state_dir: Path, options: Sequence[str]) -> None:
        self.state_dir = state_dir
        command = [str(BIN / "hitmesh"), "up", "-d", "--dcs", DC, "--base-port", str(free_block()), *options]
        subprocess.run([*command, "--state-dir", str(state_dir)], check=True, stdout=subprocess.DEVNULL)
        try:
            endpoints = self.ask("endpoints")[DC]
        except BaseException:
            self.down()
            raise
        self.balancer: str = endpoints["balancer"][0]
        self.collectors: list[str] = endpoints["collector"]

    def ask(self, *words: str) -> Any:
        """What a hitmesh command answers as JSON, whatever its status."""
        command = [str(BIN / "hitmesh"), *words, "--json", "--state-dir", str(self.state_dir)]
        return json.loads(subprocess.run(command, check=False, capture_output=True, text=True).stdout)

    def control(self, *words: str) -> str:
        """What supervisorctl says."""
        command = [str(BIN / "supervisorctl"), "-c", str(self.state_dir / "supervisord.conf"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def restart_collectors(self, *numbers: int) -> None:
        """Stop all of these, start them, and wait until they would take hits."""
        self.control("restart", *(f"{DC}-collector-{number}" for number in numbers))
        for number in numbers:
            _wait(partial(_is_healthy, self.collectors[number - 1]), f"collector-{number} to answer")

    def replace_workers(self, name: str) -> None:
        """Send the balancer's master a signal, and wait until other workers have taken over."""
        master = int(self.control("pid", f"{DC}-balancer-1"))
        _replace_workers(master, partial(self.control, "signal", name, f"{DC}-balancer-1"))

    def down(self) -> None:
        """Drain and stop it."""
        command = [str(BIN / "hitmesh"), "down", "--state-dir", str(self.state_dir)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> int:
    """Run the soak; 1 when something it needs is missing, or something was lost."""
    parser = argparse.ArgumentParser(prog="bench/run reload", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of load")
    parser.add_argument("--alone-seconds", type=int, default=20, help="of load on the balancer alone; 0: leave it out")
    parser.add_argument("--consul", action="store_true", help="totals in Consul")
    parser.add_argument("--beanstalkd", action="store_true", help="spools in a pair of beanstalkd")
    parser.add_argument("--keep", action="store_true", help="leave the state folder, with its logs, for reading")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    stores = [f"--{name}" for name in ("consul", "beanstalkd") if getattr(options, name)]
    missing = [program for program in ("wrk", "nginx", "taskset") if seats.find(program) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-soak-"))
    try:
        mesh = Mesh(folder / "var", stores)
        try:
            is_good = _soak(mesh, options.seconds, stores)
        finally:
            mesh.down()
        if options.alone_seconds:
            is_good &= _alone(folder, options.alone_seconds)
    finally:
        if options.keep:
            print(f"  logs: {folder / 'var' / 'log'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if is_good else 1


def _soak(mesh: Mesh, seconds: int, stores: Sequence[str]) -> bool:
    print(
        f"a datacenter of {len(mesh.collectors)} collectors with {' '.join(stores) or 'SQLite'}: "
        f"{CONNECTIONS} connections keep its balancer busy with hits for {seconds} s",
        flush=True,
    )
    everyone = range(1, len(mesh.collectors) + 1)
    steps: list[Step] = [
        *((f"collector-{n} restarted", partial(mesh.restart_collectors, n)) for n in everyone),
        ("all collectors restarted at once", partial(mesh.restart_collectors, *everyone)),
        ("the balancer's configuration read anew (SIGHUP)", partial(mesh.replace_workers, "HUP")),
        ("the balancer replaced (SIGUSR2)", partial(mesh.replace_workers, "USR2")),
    ]
    load = _under_load(["-s", str(HERE / "one.lua"), f"{mesh.balancer}/hit/{PAGE}"], seconds, steps)
    return load is not None and _books(mesh, load) and not load.failed


def _alone(folder: Path, seconds: int) -> bool:
    """Whether a balancer that is replaced under its own full load loses and doubles nothing."""
    print(f"the balancer alone in front of nginx: {CONNECTIONS} connections for {seconds} s", flush=True)
    cores = sorted(os.sched_getaffinity(0))
    nginx = seats.nginx(folder, cores[-1])
    try:
        balancer = seats.balancer([sys.executable, "-m", "balancer"], cores[0], nginx.port)
        try:
            steps = [
                (f"SIG{name}", partial(_replace_workers, balancer.pid, partial(os.kill, balancer.pid, number)))
                for name, number in (("HUP", signal.SIGHUP), ("USR2", signal.SIGUSR2)) * ALONE_TIMES
            ]
            before = seats.requests_seen(nginx)
            load = _under_load([f"http://127.0.0.1:{balancer.port}/"], seconds, steps)
        finally:
            balancer.stop()
        # the second of these questions is among what it answers
        seen = seats.requests_seen(nginx) - before - 1
    finally:
        nginx.stop()
    if load is None:
        return False
    least, most = load.answers - load.bad_answers, load.answers + load.socket_errors + CONNECTIONS
    fits = least <= seen <= most
    print(
        f"  nginx saw {seen:,} requests, {'within' if fits else 'NOT WITHIN'} {least:,} (answered 2xx) "
        f"to {most:,} (with those that wrk had under way or lost)"
    )
    return fits and not load.failed


def _under_load(target: Sequence[str], seconds: int, steps: Sequence[Step]) -> Load | None:
    """Run wrk and meanwhile, evenly over its time, the steps; None when it ended before them."""
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--timeout", f"{TIMEOUT_S}s", "--latency"]
    begun = time.monotonic()
    wrk = subprocess.Popen([*command, *target], stdout=subprocess.PIPE, text=True)
    try:
        for n, (title, step) in enumerate(steps, start=1):
            # with load before the first and after the last
            time.sleep(max(begun + seconds * n / (len(steps) + 1) - time.monotonic(), 0))
            at_s = time.monotonic() - begun
            step()
            print(f"  {at_s:5.1f} s  {title}: took {time.monotonic() - begun - at_s:.1f} s", flush=True)
        in_time = wrk.poll() is None
        output, _ = wrk.communicate(timeout=seconds + TIMEOUT_S)
    finally:
        wrk.kill()
        wrk.wait()
    load = read_wrk(output)
    print(
        f"  {load.answers:,} answers, {load.per_s:,.0f}/s, the slowest after {load.slowest_s:.2f} s; FAILED: {load.failed} "
        f"({load.socket_errors} on sockets or timed out, {load.bad_answers} by their status)"
    )
    if not in_time:
        print("  the load ended BEFORE the last of these: --seconds makes it last longer")
    return load if in_time else None


def _books(mesh: Mesh, load: Load) -> bool:
    """Whether nothing was lost and nothing counted twice."""
    deadline = time.monotonic() + AUDIT_S
    while True:
        audit = mesh.ask("audit")
        at_rest = audit["balanced"] and not audit["spooled"] and not audit["in_flight"]
        if at_rest or time.monotonic() > deadline:
            break
    total = mesh.ask("total", PAGE)["total"]
    # wrk leaves without the last answers: at most one for each connection was counted besides
    least, most = load.answers - load.bad_answers, load.answers + load.socket_errors + CONNECTIONS
    fits: bool = least <= total <= most
    print(
        f"  audit: balanced {audit['balanced']}, committed {audit['committed']:,}, spooled {audit['spooled']:,}, "
        f"in flight {audit['in_flight']:,}; total {total:,}, {'within' if fits else 'NOT WITHIN'} "
        f"{least:,} (answered 2xx) to {most:,} (with those that wrk had under way or lost)"
    )
    return at_rest and fits


def _replace_workers(master: int, ask: Callable[[], object]) -> None:
    """Ask a balancer's master for new workers, and wait until the old ones have ended."""
    before = set(seats.tree(master)[1:])
    ask()
    _wait(lambda: not before & (after := set(seats.tree(master))) and len(after) > 1, "new workers")


def _is_healthy(collector: str) -> bool:
    try:
        with urlopen(f"{collector}/health", timeout=STEP_S) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + STEP_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {STEP_S:.0f} s for {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
