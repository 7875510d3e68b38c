"""One worker process: what its master gave it, and what both say to each other. Runs on gevent.

The word on the descriptors is in `balancer.process.processes`; what a worker does is `balancer.worker`'s.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import time
from typing import Any, Final

from gevent import get_hub
from gevent.monkey import get_original

from balancer.front import Front
from balancer.process import beats
from balancer.process.beats import BEAT_S
from balancer.process.listeners import KINDS
from balancer.process.processes import BEGIN, KILL_GRACE_S, READY

log = logging.getLogger(__name__)

READ: Final = 1  # of gevent's watchers
UNWANTED: Final = 1


def serve(front: Front, *, index: int, fds: str, ready_fd: int, alive_fd: int, beats_fd: int | None) -> int:
    """Run worker `index` with these descriptors until it has drained; the exit status."""
    from balancer.worker import run

    watcher = _end_with_master(alive_fd, front.drain_s)
    beating = _beat(beats_fd)
    channel = socket.socket(fileno=ready_fd)  # gevent's: to wait on it holds nobody up

    def ready() -> None:
        """Tell the master, and return when it says that connections may be taken."""
        try:
            channel.sendall(READY)
            told = channel.recv(1)
        except OSError:  # the master is gone
            told = b""
        channel.close()
        if told != BEGIN:
            raise SystemExit(UNWANTED)

    def hung() -> int:
        """How many workers of this instance have been killed because they hung."""
        return 0 if beats_fd is None else beats.hung(beats_fd)

    def tell_wanted(count: int) -> None:
        """So many workers are wanted at least. A master of an earlier version doesn't look."""
        if beats_fd is not None:
            beats.tell_wanted(beats_fd, count)

    status = run(
        front,
        index=index,
        sockets=_sockets(fds),
        ready=ready,
        hung=hung,
        tell_wanted=tell_wanted,
        generation=0 if beats_fd is None else beats.generation(beats_fd),
    )
    beating.stop()
    watcher.stop()
    return status


def _sockets(fds: str) -> dict[str, list[socket.socket]]:
    """The standard library's own sockets, not gevent's: their readers are the hub's watchers."""
    make = get_original("socket", "socket")
    given: dict[str, list[socket.socket]] = {}
    for part in filter(None, fds.split(",")):
        kind, _, fd = part.partition("=")
        assert kind in KINDS, f"no socket is for {kind}"
        sock = make(fileno=int(fd))
        sock.setblocking(False)
        given.setdefault(kind, []).append(sock)
    return given


def _beat(beats_fd: int | None) -> Any:
    """Tell the master, from now on, that our hub turns. None: a master of an earlier version doesn't look."""
    timer = get_hub().loop.timer(BEAT_S, BEAT_S, ref=False)
    if beats_fd is not None:
        beats.beat(beats_fd, time.monotonic())
        timer.start(lambda: beats.beat(beats_fd, time.monotonic()))
    return timer


def _end_with_master(alive_fd: int, drain_s: float) -> Any:
    """Drain once the master is gone, as if it had said so; nobody else would kill us if that hung."""
    watcher = get_hub().loop.io(alive_fd, READ, ref=False)

    def gone() -> None:
        watcher.stop()
        log.warning("the master is gone: drains and ends")
        signal.alarm(math.ceil(drain_s + KILL_GRACE_S))
        os.kill(os.getpid(), signal.SIGTERM)

    watcher.start(gone)
    return watcher
