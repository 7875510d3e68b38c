"""What thousands of slow clients do to everybody else's hits: none may fail, and their p99 at most double.

A datacenter of its own, by the commands that an operator has, gets a constant rate of hits through its balancer,
with and without an attack, in turns. An attacker's connection sends its beginning, then a drop every few
seconds; once it is answered or closed it is opened anew.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from bench import siege
from bench.reload import Mesh
from bench.turns import show

DROP_S: Final = 3.0  # between two drops on one connection
SMOOTH: Final = 20  # connections served at once
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
    parser = argparse.ArgumentParser(prog="bench/run slow", description=__doc__)
    siege.add_options(parser, rate=250.0, seconds=20.0, connections=2100)
    parser.add_argument("--settle", type=float, default=2 * DROP_S, help="seconds from an attack's begin to the load")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="these attacks")
    options = parser.parse_args()
    show(
        f"others' {options.rate:g} hits/s beside {options.connections:,} slow connections: "
        f"{options.turns} turns of {options.seconds:g} s with and without in turn"
    )

    def attacks(mesh: Mesh) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        port = urlsplit(mesh.balancer).port or 0
        return {name: partial(_under, name, port, options.connections, options.settle) for name in options.only}

    return siege.against_a_mesh(options, attacks)


if __name__ == "__main__":
    sys.exit(main())
