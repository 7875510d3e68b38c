"""PUSH and PULL ends for batches and acks. Owns the sockets; knows nothing of what goes through.

PUSH/PULL loses what is under way when a peer dies, in silence: whoever sends here keeps what it
sent until an ack says otherwise.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

import zmq
import zmq.green

from hitmesh.protocol.messages import MAX_FRAME_BYTES

log = logging.getLogger(__name__)

RECEIVE_MARK = 1000  # frames queued in a PULL before TCP pushes back; senders then leave it to the spool
SEND_MARK = 1000  # frames queued in one PUSH
MAX_PUSHES = 512  # peers that one process sends to; far above a datacenter's collectors
PING_MS = 2000  # ZeroMQ's own heartbeats: notice a dead TCP peer
PING_TIMEOUT_MS = 6000
RECONNECT_MS = 50
RECONNECT_MAX_MS = 1000  # a restarted peer is back within a second


def tune(socket: zmq.Socket[bytes]) -> None:
    """The options that every socket between processes has; before bind or connect."""
    socket.setsockopt(zmq.LINGER, 0)  # a lingering close has frozen the hub
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)  # the default is no limit
    socket.setsockopt(zmq.HEARTBEAT_IVL, PING_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PING_TIMEOUT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)


def bind_pull(context: zmq.green.Context, host: str) -> tuple[zmq.green.Socket, str]:
    """A PULL socket on a port of the kernel's choice, and the endpoint that others reach it at."""
    socket = context.socket(zmq.PULL)
    tune(socket)
    socket.setsockopt(zmq.RCVHWM, RECEIVE_MARK)
    socket.bind(f"tcp://{host}:*")
    return socket, socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")


class Pushes:
    """PUSH sockets by endpoint, opened at first use; the least recently used are closed.

    Sends never wait, so they never switch greenlets: no socket is ever used by two at once.
    """

    def __init__(self, context: zmq.green.Context, *, queue_unconnected: bool) -> None:
        """`queue_unconnected`: whether frames may wait for a connection that isn't there yet."""
        self._context = context
        self._queue_unconnected = queue_unconnected
        self._sockets: OrderedDict[str, zmq.Socket[bytes]] = OrderedDict()

    def open(self, endpoint: str) -> zmq.Socket[bytes] | None:
        """Connect ahead of the first frame; None for an endpoint that isn't one."""
        socket = self._sockets.get(endpoint)
        if socket is None:
            socket = zmq.Socket(self._context, zmq.PUSH)  # a plain one: only ever used with NOBLOCK
            tune(socket)
            socket.setsockopt(zmq.SNDHWM, SEND_MARK)
            socket.setsockopt(zmq.IMMEDIATE, 0 if self._queue_unconnected else 1)
            try:
                socket.connect(endpoint)
            except zmq.ZMQError as error:
                socket.close(linger=0)
                log.warning("can't push to %r: %s", endpoint, error)
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
            socket.send(frame, zmq.NOBLOCK, copy=len(frame) < 65_536)
        except zmq.Again:
            return False
        return True

    def keep_only(self, endpoints: set[str]) -> None:
        """Close the sockets of all others."""
        for endpoint in set(self._sockets) - endpoints:
            self._sockets.pop(endpoint).close(linger=0)

    def close(self) -> None:
        """Close all."""
        self.keep_only(set())
