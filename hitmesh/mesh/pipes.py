"""PUSH and PULL ends for batches and acks. Owns the sockets; knows nothing of what goes through.

PUSH/PULL loses what is under way when a peer dies, in silence: whoever sends here keeps what it
sent until an ack says otherwise.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import zmq

from hitmesh.errors import MeshError
from hitmesh.mesh.connecting import bind, connect
from hitmesh.mesh.network import Network, Socket
from hitmesh.mesh.sockets import MAX_QUEUED, open_socket
from hitmesh.protocol.messages import MAX_FRAME_BYTES
from hitmesh.protocol.names import bracketed

if TYPE_CHECKING:
    from hitmesh.state.rights import Link

log = logging.getLogger(__name__)

MAX_PUSHES: Final = 512  # peers that one process sends to; far above a datacenter's collectors


def bind_pull(
    network: Network, host: str, link: Link, *, heartbeat_s: float, port: int | None = None
) -> tuple[Socket, str]:
    """A PULL socket on this port or one of the kernel's choice, and the endpoint that others reach it at.

    The context is a green one. When nobody reads, TCP pushes back after MAX_QUEUED frames a peer, and
    senders leave what is beyond to the spool.
    """
    socket = open_socket(network, zmq.PULL, heartbeat_s=heartbeat_s, receive_bytes=MAX_FRAME_BYTES)
    return socket, bind(network, socket, f"tcp://{bracketed(host)}:{port or '*'}", link)


class Pushes:
    """PUSH sockets by endpoint, opened at first use; the least recently used are closed.

    Sends never wait, so they never switch greenlets: no socket is ever used by two at once.
    """

    def __init__(
        self, network: Network, *, heartbeat_s: float, queue_unconnected: bool, queued: int = MAX_QUEUED
    ) -> None:
        """`queue_unconnected`: whether frames may wait for a connection that isn't there yet; `queued`: how many for a peer."""
        # A plain context's sockets: they are only ever used with NOBLOCK, so they need no hub.
        self._network = network.shadow()
        network.on_change(self._look)
        self._heartbeat_s = heartbeat_s
        self._queue_unconnected = queue_unconnected
        self._queued = queued
        self._sockets: OrderedDict[str, Socket] = OrderedDict()

    def open(self, endpoint: str) -> Socket | None:
        """Connect ahead of the first frame; None for an endpoint that isn't one."""
        socket = self._sockets.get(endpoint)
        if socket is None:
            socket = open_socket(
                self._network,
                zmq.PUSH,
                heartbeat_s=self._heartbeat_s,
                receive_bytes=MAX_FRAME_BYTES,
            )
            socket.setsockopt(zmq.SNDHWM, self._queued)
            socket.setsockopt(zmq.IMMEDIATE, 0 if self._queue_unconnected else 1)
            try:
                connect(self._network, socket, endpoint)
            except MeshError as error:
                socket.close(linger=0)
                log.warning("can't push: %s", error)
                return None
            self._sockets[endpoint] = socket
            while len(self._sockets) > MAX_PUSHES:
                self._sockets.popitem(last=False)[1].close(linger=0)
        else:
            self._sockets.move_to_end(endpoint)
        return socket

    def send(self, endpoint: str, frame: bytes) -> bool:
        """Hand one frame over; False when there is no room or no connection."""
        socket = self.open(endpoint)
        if socket is None:
            return False
        try:
            # Copied, whatever its size: pyzmq asks for its collector's thread before it shares a frame, and
            # under gevent that question switches greenlets.
            socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _look(self) -> None:
        """Close those whose key is on the list no more."""
        self.keep_only({endpoint for endpoint in self._sockets if self._network.is_good(endpoint)})

    def keep_only(self, endpoints: set[str]) -> None:
        """Close the sockets of all others."""
        for endpoint in set(self._sockets) - endpoints:
            self._sockets.pop(endpoint).close(linger=0)

    def close(self) -> None:
        """Close all."""
        self.keep_only(set())
