"""What ZeroMQ tells of a socket's connections: how their handshakes end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import zmq

if TYPE_CHECKING:
    from hitmesh.mesh.network import Context, Socket

_NUMBERS: Final = Struct("=hi")  # zmq_socket_monitor(3): what happened, and a value

_numbers = itertools.count(1)


class Event(NamedTuple):
    """What happened to a connection."""

    kind: int  # one of zmq.EVENT_*
    value: int  # by its kind: an errno, a file descriptor, or what was wrong in a handshake
    place: str  # the connection's, or where the socket is bound


def decode(kind_and_value: bytes, place: bytes) -> Event:
    """An event from its two frames. zmq.utils.monitor would do it, and brings asyncio into every process."""
    kind, value = _NUMBERS.unpack(kind_and_value)
    return Event(kind, value, place.decode("ascii", "replace"))


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


def events_of(monitor: Socket) -> Iterator[Event]:
    """The events of a socket's monitor, until that socket is closed."""
    try:
        while True:
            event = decode(*monitor.recv_multipart())
            if event.kind == zmq.EVENT_MONITOR_STOPPED:
                return
            yield event
    except zmq.ZMQError:
        if not monitor.closed:
            raise
    finally:
        monitor.close(linger=0)
