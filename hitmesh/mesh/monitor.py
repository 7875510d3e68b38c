"""What ZeroMQ tells of a socket's connections: how their handshakes end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import zmq
from zmq.utils.monitor import parse_monitor_message

if TYPE_CHECKING:
    from hitmesh.mesh.network import Socket


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
