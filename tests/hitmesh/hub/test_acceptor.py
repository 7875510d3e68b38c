"""Connections taken on the hub: as many as there is room for, and whatever becomes of one, the next is taken."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from hitmesh.hub.acceptor import Acceptor
from tests.services import PATIENCE_S


class Seats(Acceptor):
    """Has room for so many."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener)
        self.places = 1
        self.taken: list[_socket.socket] = []
        self.faults: list[type[Exception]] = []
        self.failures: list[OSError] = []

    def is_full(self) -> bool:
        return len(self.taken) >= self.places

    def begin(self, stream: _socket.socket, address: Any) -> None:
        del address
        if self.faults:
            raise self.faults.pop()("on purpose")
        self.taken.append(stream)

    def failed(self, error: OSError) -> None:
        self.failures.append(error)


@pytest.fixture
def seats() -> Iterator[Seats]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    acceptor = Seats(listener)
    acceptor.start()
    yield acceptor
    acceptor.stop()
    for stream in acceptor.taken:
        stream.close()


def visit(seats: Seats) -> socket.socket:
    return socket.create_connection(seats._listener.getsockname())


def until_taken(seats: Seats, count: int) -> None:
    with gevent.Timeout(PATIENCE_S):
        while len(seats.taken) < count:
            gevent.sleep(0.01)


def test_who_finds_no_place_waits_until_there_is_one(seats: Seats) -> None:
    with visit(seats), visit(seats):
        until_taken(seats, 1)
        gevent.sleep(0.05)
        assert len(seats.taken) == 1
        seats.places = 2
        until_taken(seats, 2)


def test_one_that_ends_before_it_begins_is_closed_and_keeps_nobody_out(seats: Seats) -> None:
    seats.faults = [ConnectionResetError]
    with visit(seats) as first, visit(seats):
        until_taken(seats, 1)
        first.settimeout(PATIENCE_S)
        assert first.recv(1) == b""
    assert len(seats.failures) == 1


def test_a_fault_at_the_beginning_of_one_keeps_nobody_out(seats: Seats) -> None:
    seats.faults = [ZeroDivisionError]
    with visit(seats), visit(seats):
        until_taken(seats, 1)


def test_one_that_was_stopped_takes_nobody(seats: Seats) -> None:
    seats.stop()
    seats.stop()
    assert not seats.taken
