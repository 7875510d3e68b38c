"""What a flood of strangers' handshakes does to everybody else's hits: none may fail, and their p99 at most double.

A datacenter of its own gets a constant rate of hits through its balancer, with and without the flood, in turns. Each
stranger's connection knows a socket's own key, has a key that nobody knows, and stays until so many are open.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import zmq

from bench import siege
from bench.reload import DC, Mesh
from bench.turns import show
from hitmesh.cli import folder as state_folder
from hitmesh.config import load
from hitmesh.mesh.lookup import Lookups
from hitmesh.protocol.names import split_key

SETTLE_S: Final = 3.0


def strike(endpoints: Sequence[str], per_second: float, most: int) -> None:
    """Open so many connections a second, and keep the last `most`, until this process is ended."""
    os.nice(19)  # as if it were another machine: what it computes itself shall cost others little
    context = zmq.Context()
    context.max_sockets = most + 100
    opened: deque[zmq.Socket[Any]] = deque()
    begun, count = time.monotonic(), 0
    while True:
        place, key = split_key(endpoints[count % len(endpoints)])
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.reconnect_ivl = -1  # each connection is begun once: the rate is what it is said to be
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_serverkey = bytes.fromhex(key)
        socket.connect(place)
        opened.append(socket)
        if len(opened) > most:
            opened.popleft().close()
        count += 1
        time.sleep(max(0.0, begun + count / per_second - time.monotonic()))


@contextlib.contextmanager
def _under(endpoints: Sequence[str], per_second: float, most: int) -> Iterator[None]:
    attacker = multiprocessing.get_context("spawn").Process(target=strike, args=(endpoints, per_second, most))
    attacker.start()
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        attacker.kill()
        attacker.join()


def main() -> int:
    """Run the bench; 1 when others' hits failed."""
    parser = argparse.ArgumentParser(prog="bench/run strangers", description=__doc__)
    siege.add_options(parser, rate=250.0, seconds=20.0, connections=2000)
    parser.add_argument("--per-second", type=float, default=200.0, help="connections that are begun (%(default)s)")
    options = parser.parse_args()
    show(
        f"others' {options.rate:g} hits/s beside {options.per_second:g} strangers a second, {options.connections:,} at "
        f"most: {options.turns} turns of {options.seconds:g} s with and without in turn"
    )

    def attacks(mesh: Mesh) -> Mapping[str, Callable[[], AbstractContextManager[None]]]:
        with Lookups.of(load(state_folder.config_path(mesh.state_dir, DC)), timeout_s=5.0) as lookups:
            seen = lookups.snapshot().seen
        told = [where for one in seen if one.alive for where in one.instance.endpoints.values()]
        sockets = [one for one in told if split_key(one)[1]]
        return {"handshakes": partial(_under, sockets, options.per_second, options.connections)}

    return siege.against_a_mesh(options, attacks)


if __name__ == "__main__":
    sys.exit(main())
