"""A constant rate of requests on a few connections, and how long each answer took.

wrk sends as fast as it is answered, and h2load's --rps sends on a clock of 10 ms, so in bursts.
Here requests fall due at random around the wanted rate (exponential gaps, as many independent
visitors make), and a time runs from when its request was due: what a proxy that stands still
keeps waiting is counted too, also where no connection was free to send it.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import random
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SUCCESS = b"HTTP/1.1 200 "
BODY_END = b"\r\n\r\nhello, world\n"  # of the bench's backend: the answer is whole
TICK_NS = 100_000  # how late a request may be sent: below what a proxy takes for one
SEED = 7
TIMEOUT_S = 10.0  # beyond twice the time that a run is meant to take
CLOCK_MONOTONIC = 1


@dataclass(frozen=True)
class Paced:
    """One run."""

    per_s: float  # answers
    times_s: list[float]  # sorted
    waited: int  # requests that found no connection free


class _TimerSpec(ctypes.Structure):
    """The kernel's itimerspec: the period, then the first time."""

    _fields_ = (
        ("period_s", ctypes.c_long),
        ("period_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def run(
    port: int,
    per_s: float,
    seconds: float,
    connections: int,
    *,
    host: str = "127.0.0.1",
    requests: Sequence[bytes] = (REQUEST,),
    end: bytes = BODY_END,
) -> Paced:
    """Send `per_s` requests a second for `seconds`, these in turn; AssertionError on any answer but a whole 200.

    An answer is whole when it ends with `end`.
    """
    sockets = [socket.create_connection((host, port)) for _ in range(connections)]
    timer = _timer()
    poll = select.epoll()
    try:
        for each in sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.setblocking(False)
            poll.register(each.fileno(), select.EPOLLIN)
        poll.register(timer, select.EPOLLIN)
        gc.disable()
        return _run([each.fileno() for each in sockets], poll, timer, per_s, seconds, itertools.cycle(requests), end)
    finally:
        gc.enable()
        poll.close()
        os.close(timer)
        for each in sockets:
            each.close()


def _run(
    files: list[int],
    poll: select.epoll,
    timer: int,
    per_s: float,
    seconds: float,
    requests: Iterator[bytes],
    end: bytes,
) -> Paced:
    draw = random.Random(SEED)
    gaps_s = [draw.expovariate(per_s) for _ in range(int(per_s * seconds))]
    idle = deque(files)
    due_of: dict[int, float] = {}
    parts: dict[int, bytes] = {}
    times_s: list[float] = []
    waited = sent = 0
    clock = time.perf_counter
    begun = due = clock()
    while len(times_s) < len(gaps_s):
        now = clock()
        while due <= now and sent < len(gaps_s) and idle:
            file = idle.popleft()
            due_of[file] = due
            os.write(file, next(requests))
            due += gaps_s[sent]
            sent += 1
        waited += due <= now and not idle
        for file, _ in poll.poll():
            if file == timer:
                os.read(timer, 8)  # which also starts the next tick
                assert clock() < begun + 2 * seconds + TIMEOUT_S, f"{len(gaps_s) - len(times_s)} answers are missing"
                continue
            data = parts.pop(file, b"") + os.read(file, 65_536)
            if not data.endswith(end):
                assert SUCCESS.startswith(data[: len(SUCCESS)]), f"not the backend's answer: {data!r}"
                parts[file] = data
                continue
            assert data.startswith(SUCCESS), f"not the backend's answer: {data!r}"
            times_s.append(clock() - due_of[file])
            idle.append(file)
    elapsed_s = clock() - begun
    times_s.sort()
    return Paced(per_s=len(times_s) / elapsed_s, times_s=times_s, waited=waited)


def _timer() -> int:
    """A file that becomes readable every TICK_NS; Python has os.timerfd_create from 3.13 only."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer: int = libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    spec = _TimerSpec(0, TICK_NS, 0, TICK_NS)
    if timer < 0 or libc.timerfd_settime(timer, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return timer
