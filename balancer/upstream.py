"""One connection to a backend: connecting, idle, or with an exchange that it belongs to."""

from __future__ import annotations

import _socket
import math
import socket
from typing import TYPE_CHECKING, Final

from balancer.forward import ResponseForwarder
from hitmesh.http.limits import HeadLimits
from hitmesh.http.responses import ResponseReader
from hitmesh.hub.link import Link

if TYPE_CHECKING:
    from balancer.backend import Backend
    from balancer.exchange import Exchange
    from balancer.tunnel import Tunnel

NEVER: Final = math.inf
# A backend is ours: what it says may be larger than what a stranger may say.
HEAD_LIMITS: Final = HeadLimits(headers=256, header_bytes=32 * 1024, head_bytes=64 * 1024)


class Upstream(Link):
    """A connection to `backend`. `deadline` is when its present state has lasted too long."""

    __slots__ = ("backend", "connecting", "deadline", "exchange", "forwarder", "reader", "served", "stream")

    def __init__(self, backend: Backend) -> None:
        stream = _socket.socket(backend.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if backend.family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Before any client: an idle connection that the backend has closed must not get the request that
        # came at the same time.
        super().__init__(stream, first=True)
        self.backend = backend
        self.exchange: Exchange | Tunnel | None = None
        self.reader = ResponseReader(HEAD_LIMITS)
        self.forwarder = ResponseForwarder()
        self.deadline = NEVER
        self.connecting = False
        self.served = 0
        backend.open.add(self)

    def open(self, exchange: Exchange) -> None:
        """Connect for `exchange`."""
        self.exchange = exchange
        self.connecting = True
        self.connect(self.backend.address)

    def drop(self) -> None:
        """Close; nobody is told."""
        self.exchange = None
        self.backend.open.discard(self)
        self.close()

    def expire(self) -> None:
        """The deadline has passed."""
        if self.exchange is None:
            self._left()
        else:
            self.exchange.backend_timed_out()

    def connected(self) -> None:
        """The hub's call: the exchange goes on."""
        self.connecting = False
        self.start_reading()
        if self.exchange is not None:
            self.exchange.connected()

    def received(self, data: bytes) -> None:
        """The hub's call: bytes of an answer, or of something that nobody asked for."""
        exchange = self.exchange
        if exchange is None:
            self._left()
            return
        exchange.answered(data)

    def ended(self) -> None:
        """The hub's call: the backend closes."""
        if self.exchange is None:
            self._left()
        else:
            self.exchange.backend_ended()

    def lost(self, error: OSError) -> None:
        """The hub's call: the connection broke, or couldn't be made."""
        if self.exchange is None:
            self._left()
        elif self.connecting:
            self.exchange.not_connected(error)
        else:
            self.exchange.backend_lost(error)

    def cannot_send(self, error: OSError) -> None:
        """The hub's call: the backend takes no more of a request. It may have answered before it closed."""
        if self.exchange is None or not self.exchange.one_way:
            self.lost(error)
            return
        self.drop_kept()
        self.start_reading()  # the answer, or the end

    def drained(self) -> None:
        """The hub's call: the backend took what was kept for it."""
        if self.exchange is not None:
            self.exchange.backend_drained()

    def _left(self) -> None:
        """An idle connection ended: that is no failure."""
        if self in self.backend.idle:
            self.backend.idle.remove(self)
        self.drop()
