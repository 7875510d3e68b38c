"""What a few hostile connections do to everybody else's requests: none may fail, and their p99 at most double.

A balancer with one worker, in front of an nginx that answers a constant, gets a constant rate of requests, with
and without an attack, in turns. Each attack is one function, which attacks once, until its connection is closed;
then it is called again. The balancer is pinned to one core; nginx, the load and the attackers have the other one.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench import pace, seats, siege
from bench.ports import free_port
from bench.turns import show

NEEDED: Final = ("nginx", "taskset")
CONNECTIONS: Final = 32  # of the load
WARM_UP_S: Final = 1.0
WAIT_S: Final = 5.0  # of an attacker whose connection isn't taken: it tries again
SMALL_CHUNKS: Final = b"1\r\na\r\n" * 4000
# Real attackers have processors of their own; ours shall take no time of those that measure.
NICE: Final = 19


class Target(NamedTuple):
    """Where the balancer listens, on loopback."""

    port: int
    admin_port: int


# --- the attacks ---------------------------------------------------------------------------------


def chunks(target: Target) -> None:
    """A body of one-byte chunks without end, to a page that isn't there."""
    with _sent(target.admin_port, _head("POST /nothing", "Transfer-Encoding: chunked")) as link:
        while True:
            link.sendall(SMALL_CHUNKS)


def length(target: Target) -> None:
    """A body of a terabyte."""
    with _sent(target.admin_port, _head("POST /stats", "Content-Length: 1000000000000")) as link:
        while True:
            link.sendall(SMALL_CHUNKS)  # whatever they are: nobody looks


def route(target: Target) -> None:
    """One-byte chunks without end where a body is wanted."""
    with _sent(target.admin_port, _head("PUT /routes/a.example", "Transfer-Encoding: chunked")) as link:
        while True:
            link.sendall(SMALL_CHUNKS)


def pages(target: Target) -> None:
    """The dearest page, again and again."""
    with _sent(target.admin_port, b"") as link:
        while True:
            link.sendall(_head("GET /metrics"))
            if not link.recv(65_536):
                return


def pipelined(target: Target) -> None:
    """As many requests at once as there is room for, and no answer is taken."""
    with _sent(target.admin_port, b"") as link:
        while True:
            link.sendall(_head("GET /health") * 1000)


ATTACKS: Final[dict[str, Callable[[Target], None]]] = {
    each.__name__: each for each in (chunks, length, route, pages, pipelined)
}


@contextlib.contextmanager
def _sent(port: int, head: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as link:
        link.sendall(head)
        yield link


def _head(line: str, *fields: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: 127.0.0.1", *fields, "", ""]).encode()


def strike(name: str, target: Target, connections: int) -> None:
    """Attack on so many connections until this process is ended."""
    os.nice(NICE)

    def again() -> None:
        while True:
            with contextlib.suppress(OSError):
                ATTACKS[name](target)

    threads = [threading.Thread(target=again) for _ in range(connections)]
    for thread in threads:
        thread.start()


@contextlib.contextmanager
def _under(name: str, target: Target, connections: int) -> Iterator[None]:
    attacker = multiprocessing.get_context("spawn").Process(target=strike, args=(name, target, connections))
    attacker.start()
    try:
        yield
    finally:
        attacker.kill()
        attacker.join()


# --- the measuring -------------------------------------------------------------------------------


def main() -> int:
    """Run the bench; 1 when others' requests failed or something it needs is missing."""
    parser = argparse.ArgumentParser(prog="bench/run attack", description=__doc__)
    siege.add_options(parser, rate=300.0, seconds=15.0, connections=5)
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="these attacks")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    missing = [program for program in NEEDED if seats.find(program) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; scripts/install-services does it", file=sys.stderr)
        return 1
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})  # ours and our children's, but for the balancer
    show(
        f"others' {options.rate:g} requests/s beside {options.connections} attacking connections: "
        f"{options.turns} turns of {options.seconds:g} s with and without in turn"
    )
    failed = 0
    with tempfile.TemporaryDirectory(prefix="hitmesh-bench-") as name, contextlib.ExitStack() as stack:
        nginx = seats.nginx(Path(name), cores[-1])
        stack.callback(nginx.stop)
        for attack in options.only:
            admin_port = free_port()
            command = [sys.executable, "-m", "balancer", "--admin", f"127.0.0.1:{admin_port}"]
            seat = seats.balancer(command, cores[0], nginx.port)
            try:
                target = Target(seat.port, admin_port)
                pace.run(target.port, options.rate, WARM_UP_S, CONNECTIONS)
                failed += siege.measure(
                    attack,
                    options,
                    load=partial(pace.run, seat.port, options.rate, options.seconds, CONNECTIONS),
                    under=partial(_under, attack, target, options.connections),
                    cpu_s=seat.cpu_s,
                )
            finally:
                seat.stop()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
