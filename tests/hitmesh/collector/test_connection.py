"""One connection by itself, over a pair of sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import gevent
import pytest

from hitmesh.collector.bounds import Bounds
from hitmesh.collector.connection import NEVER, READ_BYTES, Connection, Request
from hitmesh.http.errors import BadMessage
from tests.hitmesh.collector.test_bounds import config

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"

Pair = tuple[socket.socket, Connection]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A client's socket, and the connection at the other end."""
    client, connected = socket.socketpair()
    with client, connected:
        client.settimeout(30.0)
        yield client, Connection(connected, Bounds(config()))


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """An entry for each time that others were let in."""
    found: list[float] = []
    monkeypatch.setattr(gevent, "sleep", found.append)
    return found


def taken(connection: Connection) -> Request:
    request = connection.next()
    assert request is not None
    return request


def test_others_have_a_turn_between_the_pieces_of_a_body(pair: Pair, turns: list[float]) -> None:
    client, connection = pair
    client.sendall(POST % (5 * READ_BYTES) + b"x" * (5 * READ_BYTES))
    body = taken(connection).body
    size = 0
    while piece := body.read(READ_BYTES):
        size += len(piece)
    assert size == 5 * READ_BYTES
    assert len(turns) >= 5


def test_others_have_a_turn_between_requests_that_are_here_already(pair: Pair, turns: list[float]) -> None:
    client, connection = pair
    client.sendall(GET * 20)
    for _ in range(20):
        taken(connection)
    assert len(turns) >= 19


def test_nobody_is_waited_for_while_a_request_is_carried_out(pair: Pair) -> None:
    client, connection = pair
    assert connection.deadline < NEVER
    client.sendall(POST % 3 + b"abc")
    request = taken(connection)
    assert request.body.read(10) == b"abc"
    assert connection.deadline == NEVER
    connection.sendall(b"an answer")
    assert connection.deadline == NEVER


def test_a_body_gives_no_more_than_it_is_asked_for(pair: Pair) -> None:
    client, connection = pair
    client.sendall(POST % 5 + b"abcde" + GET)
    body = taken(connection).body
    assert [body.read(2) for _ in range(4)] == [b"ab", b"cd", b"e", b""]
    assert taken(connection).method == "GET"


def test_a_body_that_is_cut_short_is_an_error(pair: Pair) -> None:
    client, connection = pair
    client.sendall(POST % 5 + b"abc")
    client.shutdown(socket.SHUT_WR)
    body = taken(connection).body
    assert body.read(10) == b"abc"
    with pytest.raises(BadMessage, match="closed within the body"):
        body.read(10)


def test_continue_is_said_when_the_body_is_wanted(pair: Pair) -> None:
    client, connection = pair
    client.sendall(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 3)
    request = taken(connection)
    connection.sendall(b".")
    assert client.recv(1) == b"."
    client.sendall(b"abc")
    assert request.body.read(10) == b"abc"
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
