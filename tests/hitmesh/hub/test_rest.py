"""A rest of the hub: what is at hand comes first, whoever else rests again and again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.hub import get_hub

from hitmesh.hub.rest import rest

TURNS = 10_000


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.fixture
def heard(ends: tuple[socket.socket, socket.socket]) -> Iterator[list[bytes]]:
    """What the hub has read from the second of the two."""
    found: list[bytes] = []
    loop: Any = get_hub().loop
    watcher = loop.io(ends[1].fileno(), 1)
    watcher.start(lambda: found.append(ends[1].recv(100)))
    yield found
    watcher.stop()
    watcher.close()


def test_what_has_come_before_a_rest_is_read_in_it(
    ends: tuple[socket.socket, socket.socket], heard: list[bytes]
) -> None:
    for number in range(100):
        ends[0].send(b"%d" % number)
        rest()
        assert heard.pop() == b"%d" % number


def test_whoever_was_woken_by_what_a_rest_has_read_runs_in_the_next(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    woken, said = Event(), list[str]()
    loop: Any = get_hub().loop
    watcher = loop.io(ends[1].fileno(), 1)

    def read() -> None:
        ends[1].recv(100)
        woken.set()

    watcher.start(read)

    def other() -> None:
        woken.wait()
        said.append("woken")

    waiting = gevent.spawn(other)
    rest()
    ends[0].send(b"x")
    rest()
    rest()
    assert said == ["woken"]
    waiting.join()
    watcher.stop()
    watcher.close()


def test_many_who_rest_keep_no_socket_waiting(ends: tuple[socket.socket, socket.socket], heard: list[bytes]) -> None:
    turns = 0

    def work() -> None:
        nonlocal turns
        while not heard and turns < TURNS:
            turns += 1
            rest()

    workers = [gevent.spawn(work) for _ in range(10)]
    ends[0].send(b"x")
    gevent.joinall(workers)
    assert heard == [b"x"]
    assert turns <= 3 * len(workers)
