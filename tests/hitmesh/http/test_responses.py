"""A server's bytes read as answers: whole, byte by byte, and one behind the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from hitmesh.http.errors import BadMessage
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import CHUNKED
from hitmesh.http.responses import HEADS, UNTIL_CLOSE, Response, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
LIMITS = HeadLimits(headers=5, header_bytes=100, head_bytes=300)

# What is asked, what comes, and what it says: status, length, body, trailers, whether the connection stays.
Seen = tuple[int, int, bytes, bytes, bool]
ANSWERS: dict[str, tuple[bytes, bytes, Seen]] = {
    "sized": (b"GET", OK + b"Content-Length: 3\r\n\r\nabc", (200, 3, b"abc", b"", True)),
    "empty": (b"GET", OK + b"Content-Length: 0\r\n\r\n", (200, 0, b"", b"", True)),
    "no reason": (b"GET", b"HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n", (299, 0, b"", b"", True)),
    "no space": (b"GET", b"HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", (299, 0, b"", b"", True)),
    "chunked": (
        b"GET",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nX-T: 1\r\n\r\n",
        (200, CHUNKED, b"abc", b"X-T: 1\r\n", True),
    ),
    "closing": (b"GET", OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na", (200, 1, b"a", b"", False)),
    "old": (b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", (200, 1, b"a", b"", False)),
    "old that stays": (
        b"GET",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        (200, 1, b"a", b"", True),
    ),
    "to HEAD": (b"HEAD", OK + b"Content-Length: 3\r\n\r\n", (200, 0, b"", b"", True)),
    "to HEAD, chunked": (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", (200, 0, b"", b"", True)),
    "to HEAD, without a length": (b"HEAD", OK + b"\r\n", (200, 0, b"", b"", True)),
    "204": (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", (204, 0, b"", b"", True)),
    "304 with a length": (b"GET", b"HTTP/1.1 304 Not\r\nContent-Length: 3\r\n\r\n", (304, 0, b"", b"", True)),
    "100": (b"POST", b"HTTP/1.1 100 Continue\r\n\r\n", (100, 0, b"", b"", True)),
}
REFUSED: dict[str, bytes] = {
    "garbage": b"SSH-2.0-OpenSSH\r\n",
    "a line end first": b"\r\n" + OK,
    "another version": b"HTTP/2.0 200 OK\r\n\r\n",
    "a short status": b"HTTP/1.1 20 OK\r\n\r\n",
    "a long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\n\r\n",
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "length and coding": OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunks of old": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded line": OK + b"X: 1\r\n 2\r\n\r\n",
    "204 with a length": b"HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\n",
    "100 with a length": b"HTTP/1.1 100 Go\r\nContent-Length: 1\r\n\r\n",
    "204 in chunks": b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
    "too many lines": OK + b"X: 1\r\n" * 6 + b"\r\n",
    "too long a line": OK + b"X: %b\r\n\r\n" % (b"x" * 100),
    "too long a head": OK + b"X: %b\r\n" % (b"x" * 90) * 4 + b"\r\n",
    "a head without end": OK + b"X: 1\r\n" * 60,
    "an odd chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
}


def read(method: bytes, pieces: Iterable[bytes]) -> Iterator[Seen]:
    """The answers in these bytes, all to requests of one method."""
    reader = ResponseReader(LIMITS)
    response = None
    body = b""
    for piece in pieces:
        reader.feed(piece)
        while True:
            if response is None:
                response = reader.next(method)
                if response is None:
                    break
                body = reader.first
            if not reader.body_done:
                body += reader.body()
            if not reader.body_done:
                break
            yield response.status, response.length, body, reader.trailers, response.keep_alive
            response = None


def ways(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    yield [data[:-1], data[-1:]]


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_the_same_however_it_comes(name: str) -> None:
    method, data, seen = ANSWERS[name]
    for pieces in ways(data):
        assert list(read(method, pieces)) == [seen]


@pytest.mark.parametrize("name", ANSWERS)
def test_one_answer_after_the_other_is_read(name: str) -> None:
    method, data, seen = ANSWERS[name]
    other, seen_other = OK + b"Content-Length: 0\r\nX: 1\r\n\r\n", (200, 0, b"", b"", True)
    for pieces in ways(data + data + other + data):
        assert list(read(method, pieces)) == [seen, seen, seen_other, seen]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_answer_is_refused_however_it_comes(name: str) -> None:
    for pieces in ways(REFUSED[name]):
        with pytest.raises(BadMessage):
            list(read(b"GET", pieces))


@pytest.mark.parametrize("data", [data for _, data, _ in ANSWERS.values()])
def test_half_an_answer_is_waited_for(data: bytes) -> None:
    for end in range(len(data) - 1):
        seen = list(read(b"GET", [data[:end]]))
        assert len(seen) <= data.count(b"HTTP/1")
        assert all(status in (200, 299, 204, 304, 100) for status, *_ in seen)


def test_a_body_without_a_length_ends_with_its_connection() -> None:
    reader = ResponseReader(LIMITS)
    reader.feed(OK + b"\r\nabc")
    response = reader.next(b"GET")
    assert response is not None
    assert (response.length, response.keep_alive, reader.body_done) == (UNTIL_CLOSE, False, False)
    assert reader.first + reader.body() == b"abc"
    reader.feed(b"def")
    assert reader.body() == b"def"
    assert not reader.body_done


def test_what_comes_behind_an_answer_is_still_there() -> None:
    reader = ResponseReader(LIMITS)
    reader.feed(OK + b"Content-Length: 1\r\n\r\naHTTP")
    assert reader.next(b"GET") is not None
    assert (reader.first, reader.body_done, reader.pending) == (b"a", True, 4)
    assert reader.rest() == b"HTTP"
    assert reader.pending == 0


def test_the_same_head_means_something_else_to_another_method() -> None:
    reader = ResponseReader(LIMITS)
    head = OK + b"Content-Length: 3\r\n\r\n"
    for method, length, body in ((b"GET", 3, b"abc"), (b"HEAD", 0, b""), (b"GET", 3, b"abc")):
        reader.feed(head + body)
        response = reader.next(method)
        assert response is not None
        assert (response.length, reader.first, reader.body_done, reader.pending) == (length, body, True, 0)


def answers_with_lengths(*lengths: int) -> list[Response]:
    """What a reader makes of answers of these lengths, one after the other on one connection."""
    reader = ResponseReader(LIMITS)
    found = []
    for length in lengths:
        reader.feed(OK + b"Content-Length: %d\r\n\r\n" % length + b"x" * length)
        response = reader.next(b"GET")
        assert response is not None
        assert (response.length, reader.first, reader.pending) == (length, b"x" * length, 0)
        found.append(response)
    return found


def test_heads_that_come_in_turn_are_read_once() -> None:
    one, other, again, other_again = answers_with_lengths(79, 80, 79, 80)
    assert (one, other) == (again, other_again)


def test_of_many_heads_a_few_are_remembered() -> None:
    several = answers_with_lengths(*range(HEADS + 1), 0)
    assert several[-1] is not several[0]
