"""The HTTP listener beside a role, on a real socket: what a client may do, hold and wait for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from hitmesh.dashboard.app import HEADERS
from hitmesh.hub import listener as module
from hitmesh.hub.listener import Listener

PATIENCE_S = 20.0


class Stage:
    """A listener with an app that says "hello", streams at /events and fails at /fault."""

    def __init__(self, *, places: int = module.PLACES, turn_s: float = 0.0) -> None:
        self.listener = Listener("127.0.0.1", 0, headers=HEADERS, places=places, streams=5, turn_s=turn_s)
        self.listener.start(self.app)
        self.closed = 0
        self.pieces: list[bytes] = [b"data: 1\n\n", b"data: 2\n\n"]

    def app(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/fault":
            raise RuntimeError
        if environ["PATH_INFO"] == "/events":
            start("200 OK", [("content-type", "text/event-stream")])
            return Pieces(self)
        start("200 OK", [("content-type", "text/plain")])
        return [b"hello"]

    def connect(self) -> Any:
        return socket.create_connection(self.listener.own, timeout=PATIENCE_S)

    def ask(self, request: bytes) -> bytes:
        """All that comes until the other side closes."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_to_end(connection)


class Pieces:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.left = iter(stage.pieces)

    def __iter__(self) -> Iterator[bytes]:
        return self.left

    def close(self) -> None:
        self.stage.closed += 1


def read_to_end(connection: Any) -> bytes:
    found = b""
    while data := connection.recv(65_536):
        found += data
    return found


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.listener.stop()


HELLO = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def test_several_requests_are_answered_on_one_connection(stage: Stage) -> None:
    answer = stage.ask(HELLO + HELLO + LAST)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.count(b"\r\n\r\nhello") == 3


def test_a_head_is_answered_without_its_body(stage: Stage) -> None:
    assert stage.ask(LAST.replace(b"GET", b"HEAD")).endswith(b"\r\n\r\n")


def test_a_stream_has_no_length_and_ends_its_connection(stage: Stage) -> None:
    answer = stage.ask(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert b"length" not in head.lower()
    assert body == b"data: 1\n\ndata: 2\n\n"
    assert stage.closed == 1


def test_what_is_streamed_is_sent_at_once_and_who_goes_away_gives_its_seat_back(stage: Stage) -> None:
    more = gevent.event.Event()

    def pieces() -> Iterator[bytes]:
        yield b"data: first\n\n"
        more.wait()
        while True:
            yield b"data: again\n\n"
            gevent.sleep(0.01)

    stage.pieces = pieces()  # type: ignore[assignment]
    with stage.connect() as connection:
        connection.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        found = b""
        while b"first" not in found:
            found += connection.recv(1000)
        assert b"again" not in found
    more.set()
    with gevent.Timeout(PATIENCE_S):
        while not stage.closed:
            gevent.sleep(0.01)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"413"),
        (b"GET /\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\xa5\x01\x00", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n", b"414"),
        (b"GET /fault HTTP/1.1\r\nHost: a\r\n\r\n", b"500"),
    ],
)
def test_what_is_no_request_for_it_is_refused_in_words_and_ends_the_connection(
    stage: Stage, request_bytes: bytes, status: bytes
) -> None:
    answer = stage.ask(request_bytes)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'"description":' in answer
    assert b"default-src 'none'" in answer
    assert stage.ask(LAST).endswith(b"hello")


def test_whoever_sends_too_slowly_is_told_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.1)
    assert stage.ask(b"GET / HT").startswith(b"HTTP/1.1 408")


def test_whoever_takes_nothing_loses_the_connection(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITE_S", 0.2)
    stage.pieces = [b"x" * 100_000] * 1000
    with stage.connect() as connection:
        connection.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        with gevent.Timeout(PATIENCE_S):
            while not stage.closed:
                gevent.sleep(0.01)


def test_idle_connections_take_no_place_from_whoever_asks() -> None:
    stage = Stage(places=8)
    idle = [stage.connect() for _ in range(30)]
    assert stage.ask(LAST).endswith(b"hello")
    for each in idle:
        each.close()
    stage.listener.stop()


def test_those_who_ask_without_end_take_no_place_from_whoever_asks_once() -> None:
    stage = Stage(places=8, turn_s=0.002)
    asked = 0

    def ask_without_end() -> None:
        nonlocal asked
        while True:
            with contextlib.suppress(OSError), stage.connect() as connection:
                connection.sendall(HELLO * 20)
                while connection.recv(1000):  # there is a next request before this answer is taken
                    connection.sendall(HELLO * 4)
                    asked += 1

    busy = [gevent.spawn(ask_without_end) for _ in range(8 + 5 + 3)]  # of places, of streams, and more
    with gevent.Timeout(PATIENCE_S):
        while asked < 40:
            gevent.sleep(0.001)
        for _ in range(3):
            assert stage.ask(LAST).endswith(b"hello")
    gevent.killall(busy)
    stage.listener.stop()


@pytest.mark.parametrize("request_bytes", [LAST, b"GET /fault HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\r\n\r\n"])
def test_all_clients_together_get_one_answer_in_a_turns_time(request_bytes: bytes) -> None:
    stage = Stage(turn_s=0.05)
    began = time.monotonic()
    jobs = [gevent.spawn(stage.ask, request_bytes) for _ in range(9)]
    gevent.joinall(jobs, timeout=PATIENCE_S)
    assert all(job.value and job.value.startswith(b"HTTP/1.1") for job in jobs)
    assert time.monotonic() - began >= 8 * 0.05
    stage.listener.stop()


def test_its_end_waits_for_nobody_who_only_listens(stage: Stage) -> None:
    with stage.connect() as idle:
        idle.sendall(HELLO)
        assert idle.recv(1000).endswith(b"hello")
        began = time.monotonic()
        stage.listener.stop()
        assert idle.recv(1000) == b""
        assert time.monotonic() - began < PATIENCE_S
    with pytest.raises(OSError, match="refused"):
        stage.connect()
