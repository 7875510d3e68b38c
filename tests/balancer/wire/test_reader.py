"""The reader of requests by itself, without sockets: every case whole, byte by byte and in random pieces."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.http.errors import BadMessage
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import CHUNKED, Request, RequestReader
from tests.balancer.wire.case import Case, chunked, request
from tests.balancer.wire.corpus import combinations, in_pieces, named_cases
from tests.balancer.wire.mutate import Mutator
from tests.balancer.wire.oracle import End, Reading, read, seen_of
from tests.balancer.wire.strict import CHUNKED as STRICT_CHUNKED
from tests.balancer.wire.strict import Head, Pair
from tests.balancer.wire.strict_body import Body

OWN = b"own.example"
PIECEWISE_BYTES = 2500  # what is longer comes in fewer pieces: byte by byte it only takes time


def read_pieces(pieces: Iterable[bytes]) -> tuple[list[str], int]:
    """Digests of the requests that the reader finds in a connection's bytes, and the status of its refusal or 0."""
    reader = RequestReader(HeadLimits())
    digests: list[str] = []
    request: Request | None = None
    body = b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if request is None:
                    request = reader.next()
                    if request is None:
                        break
                    if request.method in (b"CONNECT", b"TRACE"):
                        raise BadMessage("not forwarded", status=405)
                    body = b""
                if not reader.body_done:
                    body += reader.body()
                if not reader.body_done:
                    break
                digests.append(_digest(request, body, reader.trailers))
                if not request.keep_alive:
                    return digests, 0
                request = None
    except BadMessage as error:
        return digests, error.status
    return digests, 0


def _digest(request: Request, body: bytes, trailers: bytes) -> str:
    length = STRICT_CHUNKED if request.length == CHUNKED else request.length
    head = Head(request.method, request.target, request.minor, tuple(request.pairs), length)
    assert request.fields.connection == head.tokens
    lines = [line.partition(b":") for line in trailers.split(b"\r\n") if line]
    pairs: tuple[Pair, ...] = tuple((name, value.strip(b" \t")) for name, _, value in lines)
    host = request.fields.authority or OWN
    return seen_of(head, Body(body, pairs, 0), target=request.target, host=host).digest


def check(pieces: Sequence[bytes], reading: Reading) -> None:
    digests, status = read_pieces(pieces)
    assert digests == [seen.digest for seen in reading.seen], reading
    if reading.end is not End.INCOMPLETE:
        assert bool(status) == (reading.end is End.REFUSED), (status, reading)


@pytest.mark.parametrize("case", named_cases(), ids=lambda case: case.name)
def test_a_case_is_read_as_the_corpus_says(case: Case) -> None:
    reading = read(case.sent, own=OWN)
    rng = random.Random(case.name)
    wanted = [tuple(each) for each in case.wanted]
    seen = [(each.method, each.target, each.body, each.host, each.trailers) for each in reading.seen[: len(wanted)]]
    assert [each[:3] + each[4:] for each in seen] == [each[:3] + each[4:] for each in wanted]
    assert len(reading.seen) - len(wanted) == (not case.closes and not case.status), "AFTER is read, or isn't"
    assert reading.status == case.status

    digests, status = read_pieces([case.sent])
    assert digests == [each.digest for each in reading.seen]
    assert status == case.status
    if len(case.sent) <= PIECEWISE_BYTES:
        check([case.sent[at : at + 1] for at in range(len(case.sent))], reading)
    for _ in range(5):
        check(in_pieces(case.sent, rng), reading)


HOPELESS = {
    "not a method": (b"\x16\x03\x01", 400),
    "a space": (b" ", 400),
    "a method that is too long": (b"M" * 33, 400),
    "an odd character in a method": (b"GE{T", 400),
    "empty lines": (b"\r\n" * 5, 400),
    "a request line without end": (b"GET /" + b"a" * 8200, 414),
    "another version": (b"GET / HTTP/2.0\r\n", 505),
    "a bare LF": (b"GET / HTTP/1.1\r\nHost: a.example\n", 400),
    "a head without end": (request(*[b"X-A: " + b"a" * 1000] * 17)[:-2], 431),
    "a chunk size that is none": (chunked(body=b"x"), 400),
    "a chunk size without end": (chunked(body=b"3;a=" + b"a" * 5000), 400),
    "a chunk's end that is none": (chunked(body=b"3\r\nabcd"), 400),
    "trailers without end": (chunked(body=b"0\r\n" + (b"X-A: " + b"a" * 1000 + b"\r\n") * 9), 431),
    "a trailer that ends in LF": (chunked(body=b"0\r\nX-A: 1\n"), 400),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_what_can_t_become_a_request_is_refused_before_its_end(name: str) -> None:
    begun, status = HOPELESS[name]
    assert read_pieces([begun]) == ([], status)
    assert read_pieces([begun[at : at + 50] for at in range(0, len(begun), 50)]) == ([], status)


def test_every_combination_is_read_as_the_oracle_says() -> None:
    rng = random.Random(1)
    for data in combinations():
        reading = read(data, own=OWN)
        check([data], reading)
        check(in_pieces(data, rng), reading)


@given(st.integers(min_value=0))
def test_a_mutated_connection_is_read_as_the_oracle_says_in_whatever_pieces(seed: int) -> None:
    rng = random.Random(seed)
    data = Mutator(rng).one()
    reading = read(data, own=OWN)
    check([data], reading)
    check(in_pieces(data, rng), reading)
