"""Requests with bodies, or where one might be expected, that must reach the backend. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.balancer.wire.case import GET, POST_ABC, Case, Wanted, chunked, request, sized, valid

POST: Final = b"POST / HTTP/1.1"
EVERY_BYTE: Final = bytes(range(256)) * 50


def valid_bodies() -> Iterator[Case]:
    """All of them."""
    yield from _sized()
    yield from _chunked()
    yield from _trailers()
    yield from _unusual_methods()
    yield from _expectations()


def _sized() -> Iterator[Case]:
    yield valid("sized", sized(b"abc"), "9112 6.2", POST_ABC)
    yield valid("sized 0", sized(b""), "9112 6.2", Wanted(b"POST", b"/"))
    yield valid("leading zeros", request(b"Content-Length: 0003", start=POST, body=b"abc"), "9110 8.6", POST_ABC)
    yield valid("a body like a request", sized(request()), "9112 6.3", Wanted(b"POST", b"/", request()))
    yield valid("a body of every byte", sized(EVERY_BYTE), "9112 6", Wanted(b"POST", b"/", EVERY_BYTE))
    yield valid("no body at all", request(start=POST), "9112 6.3", Wanted(b"POST", b"/"))
    yield valid("bodies one after another", sized(b"abc") * 10, "9112 9.3.2", *[POST_ABC] * 10)


def _chunked() -> Iterator[Case]:
    def post(name: str, wire: bytes, body: bytes = b"abc", section: str = "9112 7.1") -> Case:
        return valid(name, chunked(body=wire), section, Wanted(b"POST", b"/", body))

    yield post("chunked", b"3\r\nabc\r\n0\r\n\r\n")
    yield post("an empty chunked body", b"0\r\n\r\n", b"")
    yield post("several chunks", b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    yield post("hexadecimal sizes", b"A\r\n0123456789\r\n0b\r\n0123456789a\r\n000\r\n\r\n", b"01234567890123456789a")
    yield post("sizes with zeros before", b"0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n")
    yield post("a chunk like chunks", b"b\r\n1\r\na\r\n0\r\n\r\n\r\n0\r\n\r\n", b"1\r\na\r\n0\r\n\r\n")
    yield post("a large chunk", b"10000\r\n" + b"x" * 65_536 + b"\r\n0\r\n\r\n", b"x" * 65_536)
    yield post("a thousand small chunks", b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n", b"x" * 1000)
    yield post("an extension", b"3;a=b\r\nabc\r\n0\r\n\r\n", section="9112 7.1.1")
    yield post("extensions", b'3;a;b=1 ; c = "x\\"; y" ;d="\x80\t"\r\nabc\r\n0;last\r\n\r\n', section="9112 7.1.1")
    yield post("many extensions", b"3;" + b"a" * 4000 + b"\r\nabc\r\n0\r\n\r\n", section="9112 7.1.1")
    raw = request(b"TRANSFER-ENCODING:CHUNKED\t", start=POST, body=b"3\r\nabc\r\n0\r\n\r\n")
    yield valid("Transfer-Encoding in capitals", raw, "9112 7", POST_ABC)


def _trailers() -> Iterator[Case]:
    def post(name: str, lines: bytes, *trailers: tuple[bytes, bytes], announced: tuple[bytes, ...] = ()) -> Case:
        raw = chunked(*announced, body=b"3\r\nabc\r\n0\r\n" + lines + b"\r\n")
        return valid(name, raw, "9112 7.1.2", Wanted(b"POST", b"/", b"abc", trailers=trailers))

    yield post("a trailer", b"X-Sum: 900150983cd2\r\n", (b"x-sum", b"900150983cd2"))
    yield post("two trailers", b"X-A: 1\r\nx-b:\t2 \r\n", (b"x-a", b"1"), (b"x-b", b"2"))
    yield post("a trailer announced", b"X-T: 1\r\n", (b"x-t", b"1"), announced=(b"Trailer: X-T",))
    yield post("an empty trailer", b"X-T:\r\n", (b"x-t", b""))


def _unusual_methods() -> Iterator[Case]:
    for method in (b"GET", b"DELETE", b"OPTIONS", b"HEAD"):
        start = method + b" / HTTP/1.1"
        wanted = Wanted(method, b"/", b"abc")
        name = method.decode()
        yield valid(f"{name} with a sized body", sized(b"abc", start=start), "9110 9.3", wanted)
        yield valid(f"{name} with chunks", chunked(start=start), "9110 9.3", wanted)


def _expectations() -> Iterator[Case]:
    section = "9110 10.1.1"
    expect = b"Expect: 100-continue"
    yield valid("Expect", sized(b"abc", expect), section, POST_ABC)
    yield valid("Expect in capitals", sized(b"abc", b"Expect: 100-CONTINUE"), section, POST_ABC)
    yield valid("Expect with chunks", chunked(expect), section, POST_ABC)
    yield valid("Expect twice", sized(b"abc", expect, expect), section, POST_ABC)
    yield valid("Expect without a body", request(expect), section, GET)
    raw = sized(b"abc", expect, start=b"POST / HTTP/1.0")
    yield valid("Expect in HTTP/1.0", raw, section, POST_ABC, closes=True)
    yield valid("an empty Expect", request(b"Expect:"), "9110 5.6.1", GET)
