"""What a flood of strangers' handshakes does to everybody else's hits: none may fail, and their p99 at most double.

A datacenter of its own gets a constant rate of hits through its balancer, with and without the flood, in turns. Each
stranger's connection knows a socket's own key, has a key that nobody knows, and stays until so many are open.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import zmq

from bench import pace, siege
from bench.reload import DC, Mesh
from bench.slow import CONNECTIONS, HIT, HIT_END, WARM_UP_S
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped
    show(
        f"others' {options.rate:g} hits/s beside {options.per_second:g} strangers a second, {options.connections:,} at "
        f"most: {options.turns} turns of {options.seconds:g} s with and without in turn"
    )
    folder = Path(tempfile.mkdtemp(prefix="hitmesh-strangers-"))
    failed = 0
    try:
        mesh = Mesh(folder / "var", [])
        try:
            port = urlsplit(mesh.balancer).port or 0
            with Lookups.of(load(state_folder.config_path(folder / "var", DC)), timeout_s=5.0) as lookups:
                seen = lookups.snapshot().seen
            told = [where for one in seen if one.alive for where in one.instance.endpoints.values()]
            _load(port, options.rate, WARM_UP_S)
            failed += siege.measure(
                "handshakes",
                options,
                load=partial(_load, port, options.rate, options.seconds),
                under=partial(
                    _under, [one for one in told if split_key(one)[1]], options.per_second, options.connections
                ),
            )
        finally:
            mesh.down()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed > 0)


def _load(port: int, rate: float, seconds: float) -> pace.Paced:
    return pace.run(port, rate, seconds, CONNECTIONS, requests=(HIT,), end=HIT_END)


if __name__ == "__main__":
    sys.exit(main())
