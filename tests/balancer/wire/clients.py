"""Many clients at once, without a thread each: they send given bytes and keep what comes back.

A client ends when its peer closes. Where its bytes end in the middle of a request it says, by
closing its own side, that no more will come; before that it waits for the answers to what it sent
whole. A client that isn't through at its deadline hung: that is never right.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

RECV_BYTES: Final = 262_144
AT_ONCE: Final = 100
DEADLINE_S: Final = 25.0  # below the silence after which the balancer would close by itself, 30 s
TICK_S: Final = 0.05


@dataclass(slots=True)
class Talk:
    """One connection: what is sent, in which pieces, and what became of it.

    `half_close_after`: answers of the backend after which the client closes its side; None: never.
    `idle_s`: silence after which it does so all the same; None: never.
    """

    pieces: Sequence[bytes]
    half_close_after: int | None = None
    idle_s: float | None = None
    received: bytes = b""
    was_reset: bool = False
    hung: bool = False

    _sent: int = 0
    _at: int = 0
    _half_closed: bool = False
    _quiet_since: float = 0.0
    _deadline: float = 0.0


def talk_all(
    port: int, talks: Iterable[Talk], *, at_once: int = AT_ONCE, deadline_s: float = DEADLINE_S
) -> Iterator[Talk]:
    """Hold all talks, so many at a time; gives each when it has ended."""
    return _Clients(port, at_once, deadline_s).run(iter(talks))


class _Clients:
    def __init__(self, port: int, at_once: int, deadline_s: float) -> None:
        self._port = port
        self._at_once = at_once
        self._deadline_s = deadline_s
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Talk]] = {}
        self._ended: deque[Talk] = deque()

    def run(self, talks: Iterator[Talk]) -> Iterator[Talk]:
        more = True
        ticked = 0.0
        try:
            while more or self._open:
                while more and len(self._open) < self._at_once:
                    talk = next(talks, None)
                    if talk is None:
                        more = False
                    else:
                        self._start(talk)
                for number, events in self._poll.poll(TICK_S):
                    self._turn(number, events)
                now = time.monotonic()
                if now - ticked > TICK_S:
                    ticked = now
                    self._look_at_clock(now)
                while self._ended:
                    yield self._ended.popleft()
        finally:
            for connection, _ in self._open.values():
                connection.close()
            self._poll.close()

    def _start(self, talk: Talk) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk._quiet_since = time.monotonic()
        talk._deadline = talk._quiet_since + self._deadline_s
        self._open[connection.fileno()] = (connection, talk)
        self._poll.register(connection, select.EPOLLIN)
        self._send(connection, talk)

    def _turn(self, number: int, events: int) -> None:
        connection, talk = self._open[number]
        if events & ~select.EPOLLOUT:
            try:
                data = connection.recv(RECV_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
                talk.was_reset = True
            if not data:
                self._end(number)
                return
            talk.received += data
            talk._quiet_since = time.monotonic()
        if events & select.EPOLLOUT:
            self._send(connection, talk)
        else:
            self._half_close_if_due(connection, talk)

    def _send(self, connection: socket.socket, talk: Talk) -> None:
        """The next piece, or what is left of it; one at a time, so that the others get their turns."""
        if talk._at < len(talk.pieces):
            piece = talk.pieces[talk._at]
            try:
                talk._sent += connection.send(piece[talk._sent :])
            except BlockingIOError:
                pass
            except ConnectionError:  # it has closed: nothing of the rest was wanted
                talk._at = len(talk.pieces)
            if talk._at < len(talk.pieces) and talk._sent >= len(piece):
                talk._at += 1
                talk._sent = 0
            talk._quiet_since = time.monotonic()
        more = talk._at < len(talk.pieces)
        self._poll.modify(connection, select.EPOLLIN | (select.EPOLLOUT if more else 0))
        if not more:
            self._half_close_if_due(connection, talk)

    def _half_close_if_due(self, connection: socket.socket, talk: Talk, *, idle: bool = False) -> None:
        if talk._half_closed or talk._at < len(talk.pieces):
            return
        wanted = talk.half_close_after
        if idle or (wanted is not None and talk.received.count(b"X-Serial:") >= wanted):
            talk._half_closed = True
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                talk.was_reset = True

    def _look_at_clock(self, now: float) -> None:
        for number, (connection, talk) in list(self._open.items()):
            if now > talk._deadline:
                talk.hung = True
                self._end(number)
            elif talk.idle_s is not None and now - talk._quiet_since > talk.idle_s:
                self._half_close_if_due(connection, talk, idle=True)

    def _end(self, number: int) -> None:
        connection, talk = self._open.pop(number)
        self._poll.unregister(number)
        connection.close()
        self._ended.append(talk)
