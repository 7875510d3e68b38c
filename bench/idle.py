"""Keep-alive connections that have made one request each and are then left alone."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass

from bench import pace

SOURCES = 8  # addresses of 127.0.0.0/8: none runs out of ports, whatever the kernel still remembers of earlier runs
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Held:
    """What became of them."""

    closed: int  # by the proxy, unasked
    answered: int  # of those that were asked again
    asked: int


def connect(port: int, count: int) -> list[socket.socket]:
    """So many connections, each with one answered request behind it."""
    return [_connect(port, n) for n in range(count)]


def check(links: list[socket.socket], *, every: int) -> Held:
    """Whether all are still there, and each `every`-th still answers."""
    poll = select.poll()
    for link in links:
        poll.register(link, select.POLLIN)
    closed = len(poll.poll(0))
    asked = links[::every]
    return Held(closed=closed, answered=sum(map(_answers, asked)), asked=len(asked))


def _connect(port: int, n: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), TIMEOUT_S, (f"127.0.0.{2 + n % SOURCES}", 0))
    assert _answers(link), "a new connection wasn't answered"
    return link


def _answers(link: socket.socket) -> bool:
    data = b""
    try:
        link.sendall(pace.REQUEST)
        while not data.endswith(pace.BODY_END):
            more = link.recv(65_536)
            if not more:
                return False
            data += more
    except OSError:
        return False
    return data.startswith(pace.SUCCESS)
