"""What dashboards and recorders cost hits: the same collector in turns with a pair of each, and without.

One mesh, whose dashboards and recorders are stopped and started by supervisord: two of each, unless told otherwise, and as
many who listen to /events at each dashboard as are asked for. Without them roles still keep their records, for nobody.
The ratio is taken turn by turn: the machine's speed wanders, the ratio doesn't.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import seats
from bench.counting import BIN, TEMPLATE, audit, down, load, up
from hitmesh.cli import folder as state_folder

DASHBOARDS: Final = 2
TARGET: Final = 0.97
SETTLE_S: Final = 3.0  # after they were started or stopped, and for what a turn left to be committed
PATIENCE_S: Final = 60.0


def main() -> int:
    """Run the bench; 1 when something it needs is missing, or the target is missed."""
    parser = argparse.ArgumentParser(prog="bench/run dashboard", description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="of load in one turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=7, help="of each (%(default)s)")
    parser.add_argument("--listeners", type=int, default=3, help="at each dashboard (%(default)s)")
    parser.add_argument("--recorders", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--embedded", action="store_true", help="SQLite instead of beanstalkd and Consul")
    options = parser.parse_args()
    needed = ["wrk"] if options.embedded else ["wrk", "beanstalkd", "consul"]
    if missing := [program for program in needed if shutil.which(program) is None]:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as folder:
        template = Path(folder, "dashboards.toml")
        template.write_text(
            TEMPLATE.read_text().rstrip() + f"\ndashboard = {DASHBOARDS}\nrecorder = {options.recorders}\n"
        )
        state_dir = Path(folder, "var")
        try:
            url = up(state_dir, template, embedded=options.embedded)
            return _compare(
                Dashboards(state_dir, options.listeners, options.recorders), url, options.seconds, options.turns
            )
        finally:
            down(state_dir)


class Dashboards:
    """Those of a mesh, who listens to them, and its recorders."""

    def __init__(self, state_dir: Path, listeners: int, recorders: int) -> None:
        self.state_dir, self.listeners, self.recorders = state_dir, listeners, recorders
        told = json.loads(self._run("hitmesh", "endpoints", "--json", "--state-dir", str(state_dir)))
        self.urls: list[str] = told["bench"]["dashboard"]
        self.heard_bytes = 0
        self.cpu_s = 0.0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """They run, and are listened to; their processor time and what they said is added up."""
        self._control("start")
        for url in self.urls:
            _wait_until_well(url)
        over = threading.Event()
        threads = [
            threading.Thread(target=self._listen, args=(url, over)) for url in self.urls for _ in range(self.listeners)
        ]
        for thread in threads:
            thread.start()
        pids = [int(self._control("pid", name)) for name in self.names]
        before_s = sum(map(seats.cpu_s, pids))
        try:
            yield
            self.cpu_s += sum(map(seats.cpu_s, pids)) - before_s
        finally:
            over.set()
            for thread in threads:
                thread.join()
            self.stop()

    def stop(self) -> None:
        """End them."""
        self._control("stop")

    @property
    def names(self) -> list[str]:
        counts = {"dashboard": DASHBOARDS, "recorder": self.recorders}
        return [f"bench-{role}-{number + 1}" for role, count in counts.items() for number in range(count)]

    def _control(self, action: str, *names: str) -> str:
        config = state_folder.conf_path(self.state_dir)
        return self._run("supervisorctl", "-c", str(config), action, *(names or self.names))

    def _run(self, program: str, *words: str) -> str:
        return subprocess.run([str(BIN / program), *words], check=True, capture_output=True, text=True).stdout

    def _listen(self, url: str, over: threading.Event) -> None:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
        with contextlib.closing(connection), contextlib.suppress(ConnectionError):
            connection.request("GET", "/events")
            answer = connection.getresponse()
            while not over.is_set():
                self.heard_bytes += len(answer.read1(65_536))
            if connection.sock:
                connection.sock.shutdown(socket.SHUT_RDWR)


def _wait_until_well(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/status.json") as answer:
            if json.load(answer)["ok"]:
                return
        time.sleep(0.2)
    raise SystemExit(f"{url} doesn't say that all is well after {PATIENCE_S:g} s")


def _compare(dashboards: Dashboards, url: str, seconds: int, turns: int) -> int:
    print(
        f"hits per second of one collector worker, {turns} turns of {seconds} s each with and without {DASHBOARDS} "
        f"dashboards, {dashboards.listeners} listeners at each, and {dashboards.recorders} recorders"
    )
    dashboards.stop()
    load(url, "one.lua", 2)
    ratios = []
    for turn in range(turns):
        rates: dict[bool, float] = {}
        for watched in (True, False) if turn % 2 else (False, True):
            with dashboards.watched() if watched else contextlib.nullcontext():
                time.sleep(SETTLE_S)
                rates[watched] = load(url, "one.lua", seconds)
        ratios.append(rates[True] / rates[False])
        print(
            f"  turn {turn + 1}: with {rates[True]:,.0f}/s, without {rates[False]:,.0f}/s, {ratios[-1]:.3f}", flush=True
        )
    ratio = statistics.median(ratios)
    told = f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), target {TARGET:g}"
    print(f"  with to without, median: {told}{'' if ratio >= TARGET else '   MISSED'}")
    took_s = turns * (seconds + SETTLE_S)
    print(
        f"  a dashboard or recorder: {dashboards.cpu_s / took_s / len(dashboards.names):.1%} of a core; a listener heard "
        f"{dashboards.heard_bytes / took_s / max(1, DASHBOARDS * dashboards.listeners) / 1000:.1f} kB/s"
    )
    books = audit(dashboards.state_dir)
    print(f"  audit: balanced {books['balanced']}, committed {books['committed']:,}")
    return int(ratio < TARGET)


if __name__ == "__main__":
    sys.exit(main())
