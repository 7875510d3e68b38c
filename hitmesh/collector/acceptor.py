"""Connections become clients of a worker's app. Knows nothing of what they say."""

from __future__ import annotations

import _socket
import os
import socket
from typing import Any

from hitmesh.collector.client import Client
from hitmesh.collector.front import Front
from hitmesh.hub.acceptor import AT_ONCE, Acceptor


class ClientAcceptor(Acceptor):
    """Makes the connections of `listener`, which stays its owner's, clients of `front`."""

    def __init__(self, front: Front, listener: socket.socket, *, at_once: int = AT_ONCE) -> None:
        # The kernel's own, whether gevent has patched or not: it never waits.
        own = _socket.socket(listener.family, listener.type, 0, os.dup(listener.fileno()))
        own.setblocking(False)
        super().__init__(own, at_once=at_once)
        self._front = front

    def is_full(self) -> bool:
        """Whether all places are taken by requests that are being carried out."""
        return self._front.connections.is_full

    def begin(self, stream: _socket.socket, address: Any) -> None:
        """A client."""
        peer = (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
        client = Client(self._front, stream, peer)
        self._front.connections.opened(client)
        client.start_reading()
