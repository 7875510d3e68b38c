"""An answer's head, as clients of either version get it, whether they stay or not, in any order."""

from __future__ import annotations

import pytest

from balancer.middle.forward import response_head
from hitmesh.http.limits import HeadLimits
from hitmesh.http.responses import Response, ResponseReader

SIZED = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nA: b\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"

# For which client: minor version, whether it stays, what it is upgraded to; and what it gets.
CLIENTS = {
    "stays": (1, True, b""),
    "goes": (1, False, b""),
    "old, stays": (0, True, b""),
    "old, goes": (0, False, b""),
    "upgraded": (1, True, b"websocket"),
}
HEADS = {
    SIZED: {
        "stays": b"HTTP/1.1 200 OK|A: b|Content-Length: 0||",
        "goes": b"HTTP/1.1 200 OK|A: b|Content-Length: 0|Connection: close||",
        "old, stays": b"HTTP/1.1 200 OK|A: b|Content-Length: 0|Connection: keep-alive||",
        "old, goes": b"HTTP/1.1 200 OK|A: b|Content-Length: 0|Connection: close||",
        "upgraded": b"HTTP/1.1 200 OK|A: b|Content-Length: 0|Connection: upgrade|Upgrade: websocket||",
    },
    CHUNKED: {
        "stays": b"HTTP/1.1 200 OK|Transfer-Encoding: chunked|Trailer: x||",
        "goes": b"HTTP/1.1 200 OK|Transfer-Encoding: chunked|Trailer: x|Connection: close||",
        "old, goes": b"HTTP/1.1 200 OK|Connection: close||",
    },
    OLD: {
        "stays": b"HTTP/1.1 200 OK|Content-Length: 0||",
        "old, goes": b"HTTP/1.1 200 OK|Content-Length: 0|Connection: close||",
    },
}


def read(head: bytes) -> Response:
    reader = ResponseReader(HeadLimits())
    reader.feed(head)
    response = reader.next(b"GET")
    assert response is not None
    return response


@pytest.mark.parametrize("head", HEADS)
def test_whoever_had_the_same_answer_before_each_client_gets_it_as_it_takes_it(head: bytes) -> None:
    response, wanted = read(head), HEADS[head]
    for first in wanted:
        for client in (first, *wanted):
            minor, stays, upgrade = CLIENTS[client]
            assert response_head(response, minor, stays, upgrade) == wanted[client].replace(b"|", b"\r\n"), client
