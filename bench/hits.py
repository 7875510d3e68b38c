"""Hits per second of one collector worker, beside the same gunicorn and Falcon answering a constant.

Behind the collector are the real parts: beanstalkd (a pair, synced), a Consul server, a processor
and a Nexus, all on this machine. The two systems take turns with the same load from wrk, and the
ratio is taken turn by turn: the machine's speed wanders, the ratio doesn't.

With --insecure what it is compared with is the same mesh without keys: what they cost in hits and in the CPU of
everything that the mesh consists of, its stores too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bench import seats
from bench.counting import BIN, CONNECTIONS, TEMPLATE, audit, down, load, up
from bench.ports import free_port, wait_for_answer
from hitmesh.cli import folder as state_folder

LOADS = (("one page", "one.lua"), ("1,000 pages", "pages.lua"))
COMMITTED_S = 1.5  # after a turn, for what it left to be committed: that is its CPU too


def main() -> int:
    """Run the bench; 1 when something it needs is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="of load in one turn")
    parser.add_argument("--turns", type=int, default=5, help="of each system")
    parser.add_argument("--embedded", action="store_true", help="SQLite instead of beanstalkd and Consul")
    parser.add_argument("--insecure", action="store_true", help="beside a mesh without keys instead of the constant")
    options = parser.parse_args()
    needed = ["wrk"] if options.embedded else ["wrk", "beanstalkd", "consul"]
    missing = [program for program in needed if shutil.which(program) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as folder:
        bench = _compare if options.insecure else _bench
        return bench(Path(folder), options.seconds, options.turns, embedded=options.embedded)


def _bench(folder: Path, seconds: int, turns: int, *, embedded: bool) -> int:
    constant_port = free_port()
    constant = subprocess.Popen(
        [
            str(BIN / "gunicorn"), "-k", "gevent", "-w", "1", "--keep-alive", "75", "--worker-connections", "10000",
            "--log-level", "warning", "--no-control-socket", "-b", f"127.0.0.1:{constant_port}", "bench.constant:app",
        ],
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        ours = up(folder / "var", embedded=embedded)
        theirs = f"http://127.0.0.1:{constant_port}"
        wait_for_answer(theirs + "/hit/x/y")
        _say_what(seconds, turns, embedded=embedded)
        before = _total(ours)
        for title, script in LOADS:
            ratios, counting, plain = [], [], []
            load(theirs, script, 1)
            load(ours, script, 1)
            for _ in range(turns):
                plain.append(load(theirs, script, seconds))
                counting.append(load(ours, script, seconds))
                ratios.append(counting[-1] / plain[-1])
            print(
                f"  {title:<12} counting {statistics.median(counting):7,.0f}/s   constant "
                f"{statistics.median(plain):7,.0f}/s   ratio {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )
        books = audit(folder / "var")
        print(f"  audit: balanced {books['balanced']}, committed {books['committed']:,} (before: {before:,})")
        return 0
    finally:
        constant.terminate()
        constant.wait()
        down(folder / "var")


def _compare(folder: Path, seconds: int, turns: int, *, embedded: bool) -> int:
    plain = folder / "insecure.toml"
    plain.write_text("insecure = true\n" + TEMPLATE.read_text())
    templates = {"keyed": TEMPLATE, "insecure": plain}
    try:
        urls = {name: up(folder / name, template, embedded=embedded) for name, template in templates.items()}
        _say_what(seconds, turns, embedded=embedded)
        for title, script in LOADS:
            rates: dict[str, list[float]] = {name: [] for name in urls}
            cpu_s: dict[str, list[float]] = {name: [] for name in urls}  # per million hits
            for turn in range(turns + 1):  # the first warms up
                for name in list(urls) if turn % 2 else reversed(list(urls)):
                    supervisord = int(state_folder.pid_path(folder / name).read_text())
                    before_s = seats.cpu_s(supervisord)
                    per_s = load(urls[name], script, seconds if turn else 1)
                    time.sleep(COMMITTED_S)
                    if turn:
                        rates[name].append(per_s)
                        cpu_s[name].append((seats.cpu_s(supervisord) - before_s) / (per_s * seconds) * 1e6)
            for what, found, unit in (("hits", rates, "/s"), ("CPU of a million", cpu_s, " s")):
                ratios = [mine / other for mine, other in zip(found["keyed"], found["insecure"], strict=True)]
                print(
                    f"  {title:<12} {what:<17} keyed {statistics.median(found['keyed']):7,.0f}{unit}   insecure "
                    f"{statistics.median(found['insecure']):7,.0f}{unit}   ratio {statistics.median(ratios):.3f} "
                    f"({min(ratios):.3f} to {max(ratios):.3f})",
                    flush=True,
                )
        for name in urls:
            books = audit(folder / name)
            print(f"  audit, {name}: balanced {books['balanced']}, committed {books['committed']:,}")
        return 0
    finally:
        for name in templates:
            down(folder / name)


def _say_what(seconds: int, turns: int, *, embedded: bool) -> None:
    stores = "SQLite" if embedded else "beanstalkd pair (-f 0) and Consul"
    print(f"one collector worker with {stores}, {CONNECTIONS} connections, {turns} turns of {seconds} s")


def _total(url: str) -> int:
    with urllib.request.urlopen(f"{url}/total/example.com/front") as answer:
        total: int = json.load(answer)["total"]
        return total


if __name__ == "__main__":
    sys.exit(main())
