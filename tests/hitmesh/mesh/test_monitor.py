from __future__ import annotations

import errno
import struct

import pytest
import zmq
from zmq.utils.monitor import parse_monitor_message

from hitmesh.mesh.monitor import Event, decode

PLACE = b"tcp://127.0.0.1:8020"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (zmq.EVENT_ACCEPTED, 12),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EAGAIN),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH),
        (zmq.EVENT_HANDSHAKE_SUCCEEDED, 0),
        (zmq.EVENT_MONITOR_STOPPED, 0),
    ],
)
def test_an_event_is_read_as_pyzmq_reads_it(kind: int, value: int) -> None:
    frames = [struct.pack("=hi", kind, value), PLACE]
    theirs = parse_monitor_message(frames)
    assert decode(*frames) == Event(theirs["event"], theirs["value"], PLACE.decode())
