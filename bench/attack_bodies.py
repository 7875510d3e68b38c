"""What thousands of slow clients do to everybody else's hits: none may fail, and their p99 at most double.

A datacenter of its own, by the commands that an operator has, gets a constant rate of hits through its balancer,
with and without an attack, in turns. An attacker's connection sends its beginning, then a drop every few
seconds; once it is answered or closed it is opened anew.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from bench import pace
from bench.figures import milliseconds, percentile, ratio_of_percentiles
from bench.reload import Mesh
from bench.turns import say, show

CONNECTIONS: Final = 32  # of the load
WARM_UP_S: Final = 3.0
DROP_S: Final = 3.0  # between two drops on one connection
SMOOTH: Final = 20  # connections served at once
TARGET: Final = 2.0  # the p99 with the attack, of that without
HIT: Final = b"POST /hit/example.com/front HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n"
HIT_END: Final = b"}}}"
POST: Final = b"POST /hit/example.com/slow HTTP/1.1\r\nHost: example.com\r\n"


class Attack(NamedTuple):
    """What each connection sends at once, and then again and again."""

    begin: bytes
    drop: bytes


ATTACKS: Final = {
    "small": Attack(POST + b"Content-Length: 16000\r\n\r\n", b"a"),
    "chunked": Attack(POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "large": Attack(
        b"POST /hits HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000000\r\n\r\n"
        + b"\n" * 16_384,
        b"\n",
    ),
    "heads": Attack(b"GET /total/example.com/slow HTTP/1.1\r\nHost: example.com\r\n", b"X-A: 1\r\n"),
}


def strike(name: str, port: int, count: int) -> None:
    """Attack on so many connections until this process is ended."""
    attack = ATTACKS[name]
    links: list[socket.socket | None] = [None] * count
    while True:
        begun = time.monotonic()
        for number, link in enumerate(links):
            if number % SMOOTH == 0:
                time.sleep(max(0.0, begun + DROP_S * number / count - time.monotonic()))
            if link is not None and not _goes_on(link, attack.drop):
                link.close()
                link = None
            if link is None:
                with contextlib.suppress(OSError):
                    link = socket.create_connection(("127.0.0.1", port), timeout=1.0)
                    link.sendall(attack.begin)
                    link.setblocking(False)
            links[number] = link
        time.sleep(max(0.0, begun + DROP_S - time.monotonic()))


def _goes_on(link: socket.socket, drop: bytes) -> bool:
    """Whether nothing was said to it yet; then it sends a drop more."""
    try:
        link.recv(1000)
    except BlockingIOError:
        with contextlib.suppress(OSError):
            link.send(drop)
            return True
    except OSError:
        pass
    return False


@contextlib.contextmanager
def _under(name: str, port: int, connections: int, settle_s: float) -> Iterator[None]:
    attacker = multiprocessing.get_context("spawn").Process(target=strike, args=(name, port, connections))
    attacker.start()
    try:
        time.sleep(settle_s)  # all are connected
        yield
    finally:
        attacker.kill()
        attacker.join()


def main() -> int:
    """Run the bench; 1 when others' hits failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.attack_bodies", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of load in one turn")
    parser.add_argument("--turns", type=int, default=3, help="with each attack, and as many without")
    parser.add_argument("--rate", type=float, default=250.0, help="hits a second of the others")
    parser.add_argument("--connections", type=int, default=2100, help="of the attackers")
    parser.add_argument("--settle", type=float, default=2 * DROP_S, help="seconds from an attack's begin to the load")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="these attacks")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    show(
        f"others' {options.rate:g} hits/s beside {options.connections:,} slow connections: "
        f"{options.turns} turns of {options.seconds:g} s with and without in turn"
    )
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-attack-"))
    failed = 0
    try:
        mesh = Mesh(folder / "var", [])
        try:
            for attack in options.only:
                failed += _measure(attack, urlsplit(mesh.balancer).port or 0, options)
        finally:
            mesh.down()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed > 0)


def _measure(attack: str, port: int, options: argparse.Namespace) -> int:
    """One line of the table; how many turns had a failure."""
    times_s: dict[bool, list[list[float]]] = {False: [], True: []}
    failures = []
    pace.run(port, options.rate, WARM_UP_S, CONNECTIONS, requests=(HIT,), end=HIT_END)
    for turn in range(options.turns):
        for attacked in (False, True) if turn % 2 == 0 else (True, False):
            under = _under(attack, port, options.connections, options.settle) if attacked else contextlib.nullcontext()
            with under:
                try:
                    run = pace.run(port, options.rate, options.seconds, CONNECTIONS, requests=(HIT,), end=HIT_END)
                except (AssertionError, OSError) as error:
                    failures.append(error)
                    say(f"{attack}, turn {turn + 1}, {'attacked' if attacked else 'alone'}: FAILED: {error}")
                    continue
            times_s[attacked].append(run.times_s)
            worst = milliseconds(percentile(run.times_s, 0.99))
            say(f"{attack}, turn {turn + 1}, {'attacked' if attacked else 'alone'}: p99 {worst}")
    if failures:
        show(f"  {attack:<8} others' hits FAILED in {len(failures)} of {2 * options.turns} turns: {failures[0]}")
        return len(failures)
    ratio, low, high = ratio_of_percentiles(times_s[True], times_s[False], 0.99)
    alone, attacked_s = (sorted(itertools.chain(*times_s[each])) for each in (False, True))
    show(
        f"  {attack:<8} {len(attacked_s):,} hits, 0 failed   "
        f"p50 {milliseconds(percentile(alone, 0.5))} -> {milliseconds(percentile(attacked_s, 0.5))}   "
        f"p99 {milliseconds(percentile(alone, 0.99))} -> {milliseconds(percentile(attacked_s, 0.99))}   "
        f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})   target at most {TARGET:g}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
