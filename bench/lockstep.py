"""Requests in lock-step: one on each of some connections, and the next ones only once all are answered.

So every system works on batches of one size, however fast it is, and its processor time for a request can be compared
with another's: under a load without steps a slower one gets larger batches.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMEOUT_S = 20.0
READ_BYTES = 65_536
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@contextmanager
def connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open ones, to 127.0.0.1."""
    opened = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(count)]
    try:
        for each in opened:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield opened
    finally:
        for each in opened:
            each.close()


def run(opened: list[socket.socket], request: Callable[[], bytes], steps: int) -> int:
    """How many requests were answered with a 200: all, or it raises ConnectionError."""
    by_file = {each.fileno(): each for each in opened}
    poll = select.epoll()
    for file in by_file:
        poll.register(file, select.EPOLLIN)
    try:
        for _ in range(steps):
            for each in opened:
                each.sendall(request())
            parts = dict.fromkeys(by_file, b"")
            while parts:
                found = poll.poll(TIMEOUT_S)
                if not found:
                    raise ConnectionError(f"{len(parts)} answers are missing")
                for file, _ in found:
                    if file not in parts:
                        continue  # it has its answer, and its end, while others wait for theirs
                    parts[file] += _received(by_file[file])
                    if is_whole(parts[file]):
                        del parts[file]
    finally:
        poll.close()
    return steps * len(opened)


def is_whole(answer: bytes) -> bool:
    """Whether all of a 200 with a Content-Length is here; ConnectionError for another answer."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise ConnectionError(f"not a 200 with a length: {answer!r}")
    return len(body) == int(length[1])


def _received(link: socket.socket) -> bytes:
    data = link.recv(READ_BYTES)
    if not data:
        raise ConnectionError("closed before an answer")
    return data
