"""Reading a socket fairly, and closing it under its reader; on real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import zmq.green
from gevent.hub import get_hub

from hitmesh.errors import DecodeError
from hitmesh.hub.rest import rest
from hitmesh.mesh.network import Network, Socket
from hitmesh.mesh.sockets import (
    COMPLAINT_S,
    FAIR_FRAMES,
    FAIR_MESSAGES,
    FrameReader,
    open_socket,
    receive_message,
)
from hitmesh.protocol.messages import MAX_FRAMES
from tests.services import PATIENCE_S

Ends = tuple[Socket, Socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A PUSH and a PULL, connected to each other."""
    network = Network(zmq.green.Context())
    sender, receiver = (open_socket(network, kind, heartbeat_s=1.0, receive_bytes=100) for kind in (zmq.PUSH, zmq.PULL))
    receiver.bind("inproc://ends")
    sender.connect("inproc://ends")
    yield sender, receiver
    network.close()


def reader_of(receiver: Socket) -> FrameReader:
    return FrameReader(Network(receiver.context), receiver, "inproc://ends", clock=time.monotonic, rest=rest)


def test_a_reader_with_messages_at_hand_lets_others_have_their_turn(ends: Ends) -> None:
    sender, receiver = ends
    count = FAIR_MESSAGES * 10
    for _ in range(count):
        sender.send(b"x")
    turns = []

    def other() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    reader = reader_of(receiver)
    for _ in range(count):
        assert reader.read() == [b"x"]
    greenlet.kill()
    assert len(turns) >= 9


def test_a_reader_with_messages_at_hand_keeps_no_other_socket_waiting(ends: Ends) -> None:
    sender, receiver = ends
    count = FAIR_MESSAGES * 10
    for _ in range(count):
        sender.send(b"x")
    one, other = socket.socketpair()
    loop: Any = get_hub().loop
    watcher = loop.io(other.fileno(), 1)
    reader, read, heard_at = reader_of(receiver), 0, list[int]()

    def hear() -> None:
        other.recv(1)
        heard_at.append(read)

    watcher.start(hear)
    one.send(b"x")
    for _ in range(count):
        assert reader.read() == [b"x"]
        read += 1
    watcher.stop()
    watcher.close()
    one.close()
    other.close()
    assert heard_at
    assert heard_at[0] <= FAIR_MESSAGES


def test_a_reader_whose_socket_is_closed_is_told(ends: Ends) -> None:
    _, receiver = ends
    reading = gevent.spawn(reader_of(receiver).read)
    gevent.sleep(0.01)
    receiver.close(linger=0)
    assert reading.get(timeout=PATIENCE_S) is None


def test_a_message_of_many_frames_is_thrown_away_one_by_one_while_others_have_their_turn(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    sender, receiver = ends
    count, turns = 50 * FAIR_FRAMES, 0
    for _ in range(count):
        sender.send(b"", zmq.SNDMORE)
    sender.send(b"")
    sender.send(b"the next one")

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    greenlet = gevent.spawn(other)
    reader = reader_of(receiver)
    assert reader.read() == [b"the next one"]
    greenlet.kill()
    assert turns >= 40
    assert (reader.bad, caplog.messages) == (1, [f"inproc://ends: bad message (1 so far): {count + 1} frames"])


def test_a_message_of_as_many_frames_as_there_may_be_is_taken_and_one_of_more_is_an_error(ends: Ends) -> None:
    sender, receiver = ends
    sender.send_multipart([b"x"] * MAX_FRAMES)
    assert receive_message(receiver) == [b"x"] * MAX_FRAMES
    sender.send_multipart([b"x"] * (MAX_FRAMES + 1))
    with pytest.raises(DecodeError, match="more than 8 frames"):
        receive_message(receiver)


def test_bad_messages_are_all_counted_and_seldom_logged(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    reader = FrameReader(Network(ends[1].context), ends[1], "tcp://x:1", clock=lambda: now, rest=lambda: None)
    for _ in range(50):
        reader.refuse("no message")
    now = COMPLAINT_S
    reader.refuse("still none")
    assert reader.bad == 51
    assert [record.getMessage() for record in caplog.records] == [
        "tcp://x:1: bad message (1 so far): no message",
        "tcp://x:1: bad message (51 so far): still none",
    ]


def test_a_connection_whose_greeting_got_lost_is_begun_anew() -> None:
    """Whoever accepts never greets: as when a link was cut after TCP's handshake and before ZeroMQ's."""
    begun_anew_s = 20.0  # libzmq alone takes 30 s
    network = Network(zmq.Context())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=100)
        sender.connect(f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        silent.settimeout(PATIENCE_S)
        first, _ = silent.accept()
        silent.settimeout(begun_anew_s)
        second, _ = silent.accept()
        first.close()
        second.close()
    network.close()
