"""What ZeroMQ tells of a socket's connections: how their handshakes end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import zmq
from zmq.utils.monitor import parse_monitor_message

if TYPE_CHECKING:
    from hitmesh.mesh.network import Context, Socket

_numbers = itertools.count(1)


def monitor_of(context: Context, socket: Socket, events: int) -> Socket:
    """What tells of these events of a socket, which has one such at most."""
    address = f"inproc://hitmesh.monitor.{next(_numbers)}"
    socket.monitor(address, events)
    monitor: Socket = context.socket(zmq.PAIR)
    # Without a limit: were it full, the thread that carries all messages would wait for us, and we perhaps for it.
    monitor.rcvhwm = 0
    monitor.linger = 0
    monitor.connect(address)
    return monitor


def events_of(monitor: Socket) -> Iterator[Any]:
    """The events of a socket's monitor, until that socket is closed."""
    try:
        while True:
            event = parse_monitor_message(monitor.recv_multipart())
            if event["event"] == zmq.EVENT_MONITOR_STOPPED:
                return
            yield event
    except zmq.ZMQError:
        if not monitor.closed:
            raise
    finally:
        monitor.close(linger=0)
