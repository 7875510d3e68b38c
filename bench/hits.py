"""Hits per second of one collector worker, beside the same gunicorn and Falcon answering a constant.

Behind the collector are the real parts: beanstalkd (a pair, synced), a Consul server, a processor
and a Nexus, all on this machine. The two systems take turns with the same load from wrk, and the
ratio is taken turn by turn: the machine's speed wanders, the ratio doesn't.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from bench.ports import free_block, free_port, wait_for_answer

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CONNECTIONS = 64


def main() -> int:
    """Run the bench; 1 when something it needs is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="of load in one turn")
    parser.add_argument("--turns", type=int, default=5, help="of each system")
    parser.add_argument("--embedded", action="store_true", help="SQLite instead of beanstalkd and Consul")
    options = parser.parse_args()
    needed = ["wrk"] if options.embedded else ["wrk", "beanstalkd", "consul"]
    missing = [program for program in needed if shutil.which(program) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as folder:
        return _bench(Path(folder), options.seconds, options.turns, embedded=options.embedded)


def _bench(folder: Path, seconds: int, turns: int, *, embedded: bool) -> int:
    base = free_block()
    mesh = [str(BIN / "hitmesh"), "up", "-d", "--config", str(HERE / "bench.toml"), "--dcs", "bench"]
    mesh += ["--state-dir", str(folder / "var"), "--base-port", str(base)]
    if not embedded:
        mesh += ["--consul", "--beanstalkd"]
    constant_port = free_port()
    constant = subprocess.Popen(
        [
            str(BIN / "gunicorn"), "-k", "gevent", "-w", "1", "--keep-alive", "75", "--worker-connections", "10000",
            "--log-level", "warning", "--no-control-socket", "-b", f"127.0.0.1:{constant_port}", "bench.constant:app",
        ],
        cwd=HERE.parent,
    )  # fmt: skip
    try:
        subprocess.run(mesh, check=True, stdout=subprocess.DEVNULL)
        ours = f"http://127.0.0.1:{base + 10}"
        theirs = f"http://127.0.0.1:{constant_port}"
        wait_for_answer(theirs + "/hit/x/y")
        stores = "SQLite" if embedded else "beanstalkd pair (-f 0) and Consul"
        print(f"one collector worker with {stores}, {CONNECTIONS} connections, {turns} turns of {seconds} s")
        before = _total(ours)
        for title, script in (("one page", "one.lua"), ("1,000 pages", "pages.lua")):
            ratios, counting, plain = [], [], []
            _load(theirs, script, 1)
            _load(ours, script, 1)
            for _ in range(turns):
                plain.append(_load(theirs, script, seconds))
                counting.append(_load(ours, script, seconds))
                ratios.append(counting[-1] / plain[-1])
            print(
                f"  {title:<12} counting {statistics.median(counting):7,.0f}/s   constant "
                f"{statistics.median(plain):7,.0f}/s   ratio {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )
        audit = subprocess.run(
            [str(BIN / "hitmesh"), "audit", "--json", "--state-dir", str(folder / "var")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        books = json.loads(audit.stdout)
        print(f"  audit: balanced {books['balanced']}, committed {books['committed']:,} (before: {before:,})")
        return 0
    finally:
        constant.terminate()
        constant.wait()
        subprocess.run(
            [str(BIN / "hitmesh"), "down", "--state-dir", str(folder / "var")],
            check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip


def _load(url: str, script: str, seconds: int) -> float:
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", str(HERE / script)]
    output = subprocess.run([*command, f"{url}/hit/example.com/front"], capture_output=True, text=True, check=True)
    if "Non-2xx" in output.stdout or "Socket errors" in output.stdout:
        print(f"  errors from {url}:\n{output.stdout}", file=sys.stderr)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", output.stdout)
    assert found, output.stdout
    return float(found[1])


def _total(url: str) -> int:
    with urllib.request.urlopen(f"{url}/total/example.com/front") as answer:
        total: int = json.load(answer)["total"]
        return total


if __name__ == "__main__":
    sys.exit(main())
