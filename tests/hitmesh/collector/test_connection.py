"""One connection by itself, over a pair of sockets: how its bytes become requests, and how long it is waited for."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gevent.hub import get_hub

from hitmesh.collector.body import FRAMING_BYTES
from hitmesh.collector.connection import LINGER_BYTES, READ_BYTES, TURNS
from hitmesh.collector.connections import NEVER
from hitmesh.config.checks import COLLECTOR_KEEP_ALIVE_S
from hitmesh.http.errors import BadMessage
from hitmesh.http.wsgi import Environ
from tests.hitmesh.collector.staged import Held, Stage, says

GET = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reading:
    """An app that reads its request's body in pieces of `size`, and tells them."""

    def __init__(self, size: int = READ_BYTES) -> None:
        self.size = size
        self.pieces: list[bytes] = []
        self.error: BadMessage | None = None

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        try:
            while piece := environ["wsgi.input"].read(self.size):
                self.pieces.append(piece)
        except BadMessage as error:
            self.error = error
            return says(str(error).encode(), f"{error.status} Bad")(environ, start_response)
        return says(b"read")(environ, start_response)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def reading(stage: Stage) -> Reading:
    """An app that reads at /read."""
    stage.app.answers["/read"] = reading = Reading()
    return reading


def test_requests_are_answered_in_their_order(stage: Stage) -> None:
    held = Held()
    stage.app.answers["/held"] = held
    stage.app.straight = {"/held", "/b"}
    stage.send(GET % b"/held" + GET % b"/b" + GET % b"/c")
    stage.until(lambda: held.call)
    stage.settle()
    assert stage.app.asked == ["/held"]
    held.release()
    assert stage.until_got(b"/c").count(b"HTTP/1.1 200") == 3
    assert stage.app.asked == ["/held", "/b", "/c"]


def test_a_request_may_come_byte_by_byte(stage: Stage) -> None:
    for byte in GET % b"/slow":
        stage.send(bytes([byte]))
        stage.settle()
    assert stage.until_got(b"/slow").startswith(b"HTTP/1.1 200 OK\r\n")


def test_others_have_a_turn_between_the_pieces_of_a_body(stage: Stage, reading: Reading) -> None:
    turns: list[int] = []

    def other() -> None:
        if len(turns) < 1000 and not stage.client.idle:
            turns.append(sum(map(len, reading.pieces)))
            poll.start(other)

    poll = get_hub().loop.timer(0.0)
    stage.client.stop_reading()
    stage.send(POST % (b"/read", 5 * READ_BYTES) + b"x" * (5 * READ_BYTES))
    stage.client.start_reading()
    poll.start(other)
    stage.until_got(b"read")
    assert b"".join(reading.pieces) == b"x" * (5 * READ_BYTES)
    assert max(map(len, reading.pieces)) <= READ_BYTES
    assert len(set(turns)) >= 5


def test_others_have_a_turn_between_requests_that_are_here_already(stage: Stage) -> None:
    stage.app.straight = {"/a"}
    before: list[int] = []

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if len(stage.app.asked) == 1:
            get_hub().loop.run_callback(lambda: before.append(len(stage.app.asked)))
        return says(b"a")(environ, start_response)

    stage.app.answers["/a"] = answer
    stage.send(GET % b"/a" * 3 * TURNS)
    stage.until(lambda: len(stage.app.asked) == 3 * TURNS)
    assert before == [TURNS]


def test_one_who_sends_on_without_end_is_read_no_further_than_a_piece(stage: Stage) -> None:
    stage.app.answers["/held"] = held = Held()
    stage.app.straight = {"/held"}
    stage.send(GET % b"/held" * 1000)
    stage.until(lambda: held.call)
    stage.settle()
    assert stage.client.reader.pending < 3 * READ_BYTES
    assert not stage.client.reading


def test_nobody_is_waited_for_while_a_request_is_carried_out(stage: Stage, reading: Reading) -> None:
    client = stage.client
    assert client.deadline < NEVER
    stage.app.answers["/held"] = held = Held()
    stage.send(POST % (b"/read", 3) + b"abc" + GET % b"/held")
    stage.until(lambda: held.call)
    assert client.deadline == NEVER
    held.release()
    stage.until_got(b"held")
    assert client.idle
    assert client.deadline == pytest.approx(client.since + COLLECTOR_KEEP_ALIVE_S)


def test_a_body_gives_no_more_than_it_is_asked_for(stage: Stage, reading: Reading) -> None:
    reading.size = 2
    stage.send(POST % (b"/read", 5) + b"abcde" + GET % b"/next")
    stage.until_got(b"/next")
    assert reading.pieces == [b"ab", b"cd", b"e"]


def test_a_body_that_is_cut_short_is_an_error(stage: Stage, reading: Reading) -> None:
    stage.send(POST % (b"/read", 5) + b"abc")
    stage.socket.shutdown(socket.SHUT_WR)
    assert b"400 Bad" in stage.until_over()
    assert reading.error is not None
    assert "closed within the body" in str(reading.error)


def test_a_client_that_vanishes_within_its_body_is_an_error_too(stage: Stage, reading: Reading) -> None:
    stage.send(POST % (b"/read", 5) + b"abc")
    stage.until(lambda: reading.pieces)
    stage.socket.close()
    stage.until(lambda: reading.error)
    stage.until(lambda: stage.client.closed)
    assert (len(stage.connections), stage.front.busy) == (0, 0)


def test_continue_is_said_when_the_body_is_wanted(stage: Stage, reading: Reading) -> None:
    stage.send((POST % (b"/read", 3)).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert stage.until_got(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    stage.send(b"abc")
    assert stage.until_got(b"read").startswith(b"HTTP/1.1 200")


def test_a_body_of_which_most_are_the_sizes_of_its_chunks_is_refused(stage: Stage, reading: Reading) -> None:
    stage.send(CHUNKED + b"1\r\nx\r\n" * FRAMING_BYTES)
    stage.until(lambda: reading.error)
    assert reading.error is not None
    assert reading.error.status == 413


@pytest.mark.parametrize(
    ("first", "rest"), [(b"0\r\nTrai", b"ler: 1\r\n\r\n"), (b"3\r\nabc\r", b"\r\n0\r\n\r\n")], ids=["trailer", "chunk"]
)
def test_a_body_that_went_wrong_ends_the_connection_whatever_follows_looks_like(
    stage: Stage, reading: Reading, first: bytes, rest: bytes
) -> None:
    stage.send(CHUNKED + first)
    stage.until(lambda: stage.app.asked)
    stage.settle()
    stage.send(rest + GET % b"/after")
    stage.socket.shutdown(socket.SHUT_WR)
    assert stage.until_over().startswith(b"HTTP/1.1 400 Bad\r\n")
    assert stage.app.asked == ["/read"]


def test_a_body_that_nobody_reads_ends_the_connection(stage: Stage) -> None:
    stage.send(POST % (b"/a", 3 * LINGER_BYTES) + b"x" * 1000)
    got = stage.until_got(b"/a")
    assert b"Connection: close\r\n" in got
    with contextlib.suppress(ConnectionError):
        stage.send(b"x" * 2 * LINGER_BYTES)
    assert stage.client.closed, "all that came was read"


def test_what_is_no_request_is_refused_and_nothing_more_is_read(stage: Stage) -> None:
    stage.send(b"nonsense\r\n\r\n" + GET % b"/after")
    stage.socket.shutdown(socket.SHUT_WR)
    got = stage.until_over()
    assert got.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
    assert got.count(b"HTTP/1.1 ") == 1
    assert (stage.app.asked, stage.refused) == ([], 1)


def test_the_next_request_waits_until_the_last_answer_is_taken(stage: Stage) -> None:
    large = b"x" * 5_000_000
    stage.app.answers["/large"] = says(large)
    stage.send(GET % b"/large" + GET % b"/next")
    stage.until(lambda: stage.client.kept)
    stage.settle()
    assert stage.app.asked == ["/large"]
    assert stage.client.deadline < NEVER
    assert stage.until_got(b"/next").count(large) == 1


# --- time-outs ----------------------------------------------------------------------------------


def test_half_a_head_is_told_that_it_came_too_late(stage: Stage) -> None:
    stage.send(b"GET /a HT")
    stage.until(lambda: stage.client.reader.pending)
    stage.client.expire(408)
    assert stage.until_got(b"}").startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert not stage.client.closed, "it may read that"
    stage.client.expire(408)
    assert stage.client.closed


def test_half_a_head_that_has_to_make_room_is_told_so_and_makes_it(stage: Stage) -> None:
    stage.send(b"GET /a HT")
    stage.until(lambda: stage.client.reader.pending)
    stage.client.expire(503)
    assert stage.client.closed
    assert b"503 Service Unavailable" in stage.until_over()
    assert len(stage.connections) == 0


def test_one_that_has_said_nothing_goes_in_silence(stage: Stage) -> None:
    stage.client.expire(408)
    assert stage.until_over() == b""


@pytest.mark.parametrize(("status", "word"), [(408, "too little"), (503, "connections")])
def test_a_body_that_doesn_t_come_is_an_error_of_its_request(
    stage: Stage, reading: Reading, status: int, word: str
) -> None:
    stage.send(POST % (b"/read", 5) + b"abc")
    stage.until(lambda: reading.pieces)
    stage.until(lambda: stage.client.deadline < NEVER)
    stage.client.expire(status)
    stage.until(lambda: reading.error)
    assert (reading.error.status, word in str(reading.error)) == (status, True)  # type: ignore[union-attr]
    assert b"%d Bad" % status in stage.until_got(str(reading.error).encode())


def test_one_that_takes_nothing_of_its_answer_is_reset(stage: Stage) -> None:
    stage.app.answers["/large"] = says(b"x" * 5_000_000)
    stage.send(GET % b"/large")
    stage.until(lambda: stage.client.kept)
    client = stage.client
    client.front.bounds.write_s = 0.001
    client.expire(408)
    stage.settle()
    client.expire(408)
    assert client.closed


def test_one_that_doesn_t_even_take_its_100_continue_is_reset_when_its_body_is_late(
    stage: Stage, reading: Reading
) -> None:
    stage.send(POST % (b"/read", 5) + b"abc")
    stage.until(lambda: reading.pieces)
    stage.until(lambda: stage.client.deadline < NEVER)
    stage.client._keep(b"HTTP/1.1 100 Continue\r\n\r\n")
    stage.client.expire(408)
    assert stage.client.closed
    stage.until(lambda: reading.error)
    stage.until(lambda: not stage.front.busy)


def test_who_ends_connections_is_spared_a_fault_of_one(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.client, "reader", SimpleNamespace())
    stage.client.expire(408)
    assert stage.client.closed
    assert len(stage.connections) == 0


def test_one_that_takes_its_answer_slowly_has_time(stage: Stage) -> None:
    stage.app.answers["/large"] = says(b"x" * 5_000_000)
    stage.send(GET % b"/large")
    stage.until(lambda: stage.client.kept)
    stage.client.expire(408)
    assert not stage.client.closed
    assert stage.client.deadline < NEVER
    stage.until_got(b"x")


def test_a_fault_of_the_handler_ends_its_connection_and_is_forgotten(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = SimpleNamespace(feed=lambda data: None, next=lambda: 1 / 0, pending=1)
    monkeypatch.setattr(stage.client, "reader", broken)
    stage.send(GET % b"/a")
    stage.until(lambda: stage.client.closed)
    assert len(stage.connections) == 0
