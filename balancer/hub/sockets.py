"""The balancer's connections as sockets on the hub: each tells the pure end that speaks on it what happens, and when.

Owns the clock that they are told, and the opening of connections to backends; decides nothing.
"""

from __future__ import annotations

import _socket
import random
import socket
import time
from typing import Final

from balancer.middle.backend import Backend
from balancer.middle.client import Client
from balancer.middle.service import World
from balancer.middle.upstream import Upstream
from hitmesh.hub.link import Link, Stream

_monotonic: Final = time.monotonic


class ClientLink(Link):
    """A client's connection. Whoever makes it sets its `client`, before it reads."""

    __slots__ = ("client",)

    client: Client

    def received(self, data: bytes) -> None:
        """The hub's call."""
        self.client.received(data, _monotonic())

    def ended(self) -> None:
        """The hub's call."""
        self.client.ended(_monotonic())

    def lost(self, error: OSError) -> None:
        """The hub's call."""
        self.client.lost(error, _monotonic())

    def drained(self) -> None:
        """The hub's call."""
        self.client.drained(_monotonic())

    def close_after_bug(self) -> None:
        """The hub's call."""
        self.client.close_after_bug(_monotonic())
        self.close()


class UpstreamLink(Link):
    """A connection to a backend."""

    __slots__ = ("upstream",)

    def __init__(self, stream: Stream, upstream: Upstream) -> None:
        # Before any client: an idle connection that the backend has closed must not get the request that
        # came at the same time.
        super().__init__(stream, first=True)
        self.upstream = upstream

    def connected(self) -> None:
        """The hub's call."""
        self.upstream.connected(_monotonic())

    def received(self, data: bytes) -> None:
        """The hub's call."""
        self.upstream.carried.answered(data, _monotonic())

    def ended(self) -> None:
        """The hub's call."""
        self.upstream.carried.backend_ended(_monotonic())

    def lost(self, error: OSError) -> None:
        """The hub's call."""
        self.upstream.lost(error, _monotonic())

    def cannot_send(self, error: OSError) -> None:
        """The hub's call."""
        self.upstream.cannot_send(error, _monotonic())

    def drained(self) -> None:
        """The hub's call."""
        self.upstream.carried.backend_drained(_monotonic())

    def close_after_bug(self) -> None:
        """The hub's call."""
        self.upstream.close_after_bug(_monotonic())
        self.close()


class Sockets(World):
    """The world as it is."""

    def open(self, upstream: Upstream, backend: Backend) -> None:
        """Begin to connect. Raises OSError when no file descriptor is left."""
        stream = _socket.socket(backend.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if backend.family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = UpstreamLink(stream, upstream)
        upstream.wire = link
        link.connect(backend.address)

    def draw(self) -> float:
        """A number in [0, 1)."""
        return random.random()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()
