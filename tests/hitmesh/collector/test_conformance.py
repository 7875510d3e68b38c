"""The same app under gunicorn's own gevent worker and under ours: the same bytes for the same requests.

All but the Date. Where the two differ otherwise, a test says so by name: bodies that nobody reads, and CONNECT.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import product

import msgspec
import pytest

from tests.balancer.wire.corpus import in_pieces
from tests.hitmesh.collector.gunicorns import OURS, STOCK, Gunicorn, talk

LAST = b"GET /health HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n"  # follows each on the same connection
NDJSON = b"application/x-ndjson"
MSGPACK = b"application/msgpack"
SLICES = 8

PATHS = (
    b"/hit/s/a", b"/hit/s/a/", b"/hit/s/a?b=c&d", b"/hit/caf%C3%A9/%20", b"/%68it/s%2Fa", b"/hit/" + b"x" * 1024,
    b"/hit/", b"/hit", b"/hit//s", b"//hit/s/a", b"/hit/s/%ff", b"/hit/s/../a", b"/hit/s/%00", b"/hit/" + b"x" * 1025,
    b"/hit/refused/a", b"/hit/unknown/a", b"/hit/full/a", b"/hit/stale/a", b"/hit/nobody/a", b"/hit/bug/a", b"/hit/late/a",
    b"/pixel/s/a", b"/pixel/s/a?b=c", b"/pixel/refused/a", b"/pixel/stale/a", b"/pixel/s/../a", b"/pixel/bug/a",
    b"/badge/s/a", b"/badge/s/a?count=0", b"/badge/stale/a?label=a%26b&style=plain", b"/badge/late/a?count=0",
    b"/badge/s/a?style=none", b"/badge/refused/a?color=4c1", b"/badge/nobody/a", b"/count.js", b"/robots.txt", b"/live.js",
    b"/total/s/a", b"/total/stale/a", b"/total/nobody/a", b"/total/bug/a", b"/total/late/a", b"/total/s/%ff", b"/total/",
    b"/totals", b"/totals?prefix=s&limit=2", b"/totals?sort=top&limit=3", b"/totals?limit=0", b"/totals?limit=1&limit=2",
    b"/hits", b"/hits/", b"/health", b"/health?x", b"/", b"/nothing", b"http://other/hit/s/a",
)  # fmt: skip
METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"BREW", b"TRACE")
FIELDS = (
    (),
    (b"Origin: https://a.example",),
    (b"Origin: https://a.example", b"Access-Control-Request-Method: POST"),
    (
        b"Origin: https://a.example",
        b"Access-Control-Request-Method: GET",
        b"Access-Control-Request-Headers: content-type, x-a",
    ),
    (b"Accept: text/html",),
    (b"Accept: application/xml", b"Accept-Encoding: gzip"),
    (b"Connection: close",),
    (b"X-Request-Id: 1", b"X-Forwarded-For: 1.2.3.4", b"X_Under: 1", b"X-A: 1", b"x-a: 2"),
    (b"Content-Length: 0", b"Content-Type: text/plain"),
    (b"User-Agent: Googlebot/2.1", b"If-None-Match: *"),
    (b"Sec-Purpose: prefetch;prerender",),
)


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((line, b"Host: h", *fields, b"", b"")) + body


def requests() -> Iterator[bytes]:
    """Requests without a body."""
    for method, path in product(METHODS, PATHS):
        yield request(method + b" " + path + b" HTTP/1.1")
    for method, path, fields in product((b"GET", b"POST", b"OPTIONS"), PATHS, FIELDS[1:]):
        yield request(method + b" " + path + b" HTTP/1.1", *fields)
    for path, fields in product(PATHS, ((), (b"Connection: keep-alive",))):
        yield request(b"GET " + path + b" HTTP/1.0", *fields)
    yield request(b"OPTIONS * HTTP/1.1")


def sized(line: bytes, body: bytes, *fields: bytes) -> bytes:
    return request(line, *fields, b"Content-Length: %d" % len(body), body=body)


def chunked(line: bytes, chunks: list[bytes], *fields: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"
    return request(line, *fields, b"Transfer-Encoding: chunked", body=body)


def bodies() -> Iterator[bytes]:
    """Requests with a body that the app reads to its end."""
    post, line = b"POST /hits HTTP/1.1", b'{"page": "s/a", "count": 3}\n'
    for kind, batch in (
        (NDJSON, line * 3),
        (NDJSON, line + b"nonsense\n"),
        (NDJSON, line + b'{"page": "s/../a"}'),
        (NDJSON, line.replace(b"s/a", b"refused/a")),
        (NDJSON, line.replace(b"s/a", b"unknown/a")),
        (NDJSON, line.replace(b"s/a", b"full/a")),
        (NDJSON, line.replace(b"s/a", b"bug/a")),
        (NDJSON + b"; charset=utf-8", line),
        (NDJSON, b"\xef\xbb\xbf" + line),
        (NDJSON, b"\n\n"),
        (MSGPACK, msgspec.msgpack.encode({"s/a": 3, "s/é": 1})),
        (MSGPACK, b"\x82\xa3s/a\x01\xa3s/a\x01"),
        (MSGPACK, b"nonsense"),
        (b"application/json", line),
        (NDJSON, b'{"page":"s/a"}\n' * 9_000),
        (NDJSON, b'{"page":"s/a"}\n' * 11_000),
    ):
        for fields in ((b"Content-Type: " + kind,), (b"Content-Type: " + kind, b"Origin: https://a.example")):
            yield sized(post, batch, *fields)
            yield chunked(post, [batch[:7], batch[7:]], *fields)
    yield sized(post, line)
    for body in (b"x", b"x" * 5000, b"x" * 16_384):
        for path in (b"/hit/s/a", b"/hit/refused/a", b"/hit/s/%ff"):
            yield sized(b"POST " + path + b" HTTP/1.1", body, b"Content-Type: text/plain;charset=UTF-8")
            yield chunked(b"POST " + path + b" HTTP/1.1", [body])
    yield chunked(b"POST /hit/s/a HTTP/1.1", [b"x" * 10_000, b"y" * 10_000])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of gunicorn's own worker, and of ours."""
    theirs = Gunicorn(tmp_path_factory.mktemp("stock"), STOCK, "counting")
    ours = Gunicorn(tmp_path_factory.mktemp("ours"), OURS, "counting")
    try:
        theirs.start()
        ours.start()
        yield theirs.port, ours.port
    finally:
        ours.stop()
        theirs.stop()


@pytest.mark.parametrize("part", range(SLICES))
def test_a_request_is_answered_byte_by_byte_as_gunicorn_s_own_worker_does(both: tuple[int, int], part: int) -> None:
    theirs, ours = both
    for each in list(requests())[part::SLICES]:
        assert talk(ours, [each + LAST]) == talk(theirs, [each + LAST]), each


def test_a_body_is_read_as_gunicorn_s_own_worker_does_in_whatever_pieces_it_comes(both: tuple[int, int]) -> None:
    theirs, ours = both
    rng = random.Random(1)
    for each in bodies():
        wanted = talk(theirs, [each + LAST])
        assert talk(ours, [each + LAST]) == wanted, each[:500]
        assert talk(ours, in_pieces(each + LAST, rng)) == wanted, each[:500]


def test_pipelined_requests_are_answered_as_by_gunicorn_s_own_worker(both: tuple[int, int]) -> None:
    theirs, ours = both
    rng = random.Random(2)
    some = [each for each in requests() if b" HTTP/1.1\r\n" in each and b"close" not in each]
    for _ in range(40):
        connection = b"".join(rng.choices(some, k=20)) + LAST
        wanted = talk(theirs, [connection])
        assert talk(ours, [connection]) == wanted
        assert talk(ours, in_pieces(connection, rng)) == wanted


def test_one_who_waits_for_100_continue_is_told_so_by_both(both: tuple[int, int]) -> None:
    body = b'{"page": "s/a"}'
    head = request(
        b"POST /hits HTTP/1.1", b"Content-Type: " + NDJSON, b"Expect: 100-continue", b"Content-Length: %d" % len(body)
    )
    answers = []
    for port in both:
        said = talk(port, [head, body + LAST])
        answers.append(said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))  # ours doesn't say it if the body is here
    assert answers[0] == answers[1]


# --- where they differ --------------------------------------------------------------------------


def answer_and_end(answer: bytes) -> tuple[bytes, bool]:
    """The first answer without what it says of its connection, and whether it was the last."""
    first, _, rest = answer.partition(b'{"status":"up"}')
    head = re.sub(rb"\r\nConnection: [a-z-]*\r\n", b"\r\n", first.split(b"HTTP/1.1 ")[1])
    return head, not rest and first.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "raw",
    [
        sized(b"POST /hits HTTP/1.1", b" " * (1024 * 1024 + 1), b"Content-Type: " + NDJSON),
        sized(b"POST /hit/s/a HTTP/1.1", b"x" * 100_000),
        sized(b"POST /nothing HTTP/1.1", b"x" * 100_000),
        sized(b"GET /total/s/a HTTP/1.1", b"x" * 100_000),
    ],
    ids=["batch", "hit", "404", "total"],
)
def test_a_body_that_nobody_reads_is_read_on_by_gunicorn_s_own_worker_and_ends_our_connection(
    both: tuple[int, int], raw: bytes
) -> None:
    (their_answer, _), (our_answer, is_last) = (answer_and_end(talk(port, [raw + LAST])) for port in both)
    assert our_answer == their_answer
    assert is_last


@pytest.mark.parametrize("target", [b"/hit/s/a", b"h:80"])
def test_connect_is_answered_the_same_and_ends_our_connection(both: tuple[int, int], target: bytes) -> None:
    raw = request(b"CONNECT " + target + b" HTTP/1.1")
    (their_answer, _), (our_answer, is_last) = (answer_and_end(talk(port, [raw + LAST])) for port in both)
    assert our_answer == their_answer
    assert is_last
