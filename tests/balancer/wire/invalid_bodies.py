"""Bodies that can't be told from the next request in one way only, and chunks that aren't chunks. Pure.

A chunked body is passed on as it comes, so the backend may see the beginning of such a request; it
never sees the whole of it, and so never counts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.balancer.wire.case import Case, chunked, invalid, request, sized
from tests.balancer.wire.invalid_fields import SMUGGLED

POST: Final = b"POST / HTTP/1.1"
ABC: Final = b"3\r\nabc\r\n0\r\n\r\n"
LAST: Final = b"0\r\n\r\n"
LENGTHS: Final = (
    b"", b" ", b"+3", b"-3", b"-0", b"3 3", b"3,3", b"3, 3", b"3, 4", b"3,", b",3", b"0x3", b"3x", b"x", b"3.0", b"3e0", b"3;", b'"3"', b"3_0",
    b"1" * 19, b"9" * 20, b"18446744073709551619", b"\xb3", b"\xd9\xa3", b"\xef\xbc\x93", b"3\x00", b"\x0b3", b"3\x0c", b"0b11", b"1" * 400,
)  # fmt: skip
# Codings that are tokens in a list but that nobody here decodes: 501. Everything else is malformed.
UNKNOWN_CODINGS: Final = (
    b"gzip",
    b"identity",
    b"xchunked",
    b"chunkedx",
    b"gzip, chunked",
    b"gzip,deflate",
    b"identity, chunked",
    b"chunke",
    b"x-gzip",
)
MALFORMED_CODINGS: Final = (
    b"", b" ", b"chunked, chunked", b"chunked,chunked", b"chunked, identity", b"chunked, gzip", b"chunked,", b",chunked", b", chunked", b"chunked;q=1",
    b"chunked; a=b", b'"chunked"', b"chunked chunked", b"chunked\x00", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\x7f",
    b"chun\x00ked", b"chun ked", b"\xa0chunked", b"chunked\xa0", b"chunked\x85", b"chunked=1", b"[chunked]", b"\r\n chunked", b"\n chunked", b"chunked\rx",
)  # fmt: skip
SIZES: Final = (
    b"", b" ", b"+3", b"-3", b"0x3", b"3h", b"g", b"3 ", b" 3", b"\t3", b"3\t", b"3_0", b"_3", b"3.0", b"3,", b"00000000000000003", b"fffffffffffffffff", b"ffffffffffffffff",
    b"1000000000000000", b"3\x00", b"\x003", b"\x0b3", b"3\x0c", b"\xb3", b"3\xa0", b"3 3", b"'3'", b'"3"', b"3\r", b"3=a", b"3:", b"NaN", b"\xef\xbc\x93",
)  # fmt: skip
EXTENSIONS: Final = (
    b";", b"; ", b";=", b";=a", b";a=", b";a=;b", b";a;;b", b";a b", b";a=b c", b";a=\"", b";a=\"b", b";a=b\"", b";a=\"b\"c", b";a=\"\\", b";a=\"\\\"", b";a='b c'", b";\x00", b";a\x00", b";a=\x01",
    b";a=\"\x00\"", b";a=\"\x7f\"", b";a=\x7f", b";a\x0b", b";a\x0c=b", b";a\rb", b";a=\"\r\"", b";\xe9", b";a=\xe9", b";a,b", b";a=b,c", b";(a)", b";a/b", b" ;", b";a ", b";a=b\t", b";a=\"b\" ",
)  # fmt: skip


ODD_ENDS: Final = (b"", b"\n", b"\r", b"x\r\n", b"\r\r\n", b"\n\r\n", b"\x00\n", b" \r\n", b"\rx", b"xx")
ODD_LINE_ENDS: Final = (b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\x00\r\n", b"\r\x00\n")
FORBIDDEN: Final = (
    b"Content-Length", b"Transfer-Encoding", b"Host", b"TE", b"Trailer", b"Connection", b"Authorization", b"Content-Type", b"Expect",
    b"X-Forwarded-For", b"Via", b"Cookie", b"content-length",
)  # fmt: skip
ODD_TRAILERS: Final = (
    b"X-A : 1", b" X-A: 1", b"X-A", b": 1", b"X A: 1", b"X-A: \x00", b"X-A: a\x7f", b"X-A: a\rb", b"X-A: 1\r\n 2", b"X-A: 1\r\n\t2", b"\x00: 1",
    b"X-A: 1\r", b"GET /smuggled HTTP/1.1",
)  # fmt: skip
# As James Kettle's "HTTP Desync Attacks" has them: lines that one parser takes for the coding.
DISGUISES: Final = (
    b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b" Transfer-Encoding: chunked",
    b"X: x\nTransfer-Encoding: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    b"Transfer-Encoding\r\n: chunked", b"Transfer-Encoding: \x0bchunked", b"X: x\rTransfer-Encoding: chunked",
)  # fmt: skip


def invalid_bodies() -> Iterator[Case]:
    """All of them."""
    yield from _lengths()
    yield from _codings()
    yield from _both()
    yield from _chunks()
    yield from _trailers()
    yield from _smuggling()


def _lengths() -> Iterator[Case]:
    for value in LENGTHS:
        for line in (b"Content-Length: " + value, b"content-length:" + value):
            yield invalid(f"{line[:40]!r}", request(line, start=POST, body=b"abc"), "9110 8.6")
    for second in (b"3", b"4", b"0", b"+3", b""):
        for start in (POST, b"POST / HTTP/1.0"):
            lines = (b"Content-Length: 3", b"X-A: 1", b"content-length: " + second)
            raw = request(*lines, start=start, body=b"abc")
            yield invalid(f"{start.decode()}, a second Content-Length {second!r}", raw, "9112 6.3")
    for char in (b" ", b"\t", b"\x00", b"\x0b"):
        for line in (b"Content-Length" + char + b": 3", char + b"Content-Length: 3"):
            yield invalid(f"{line!r}", request(line, start=POST, body=b"abc"), "9112 5.1")


def _codings() -> Iterator[Case]:
    for value in (*UNKNOWN_CODINGS, *MALFORMED_CODINGS):
        for line in (b"Transfer-Encoding: " + value, b"transfer-encoding:" + value):
            status = 501 if value in UNKNOWN_CODINGS else 400
            yield invalid(f"{line!r}", request(line, start=POST, body=ABC), "9112 6.1", status=status)
    for second in (b"CHUNKED", b"chunked ", b"identity", b"gzip", b"", b"x"):
        for pair in ((b"chunked", second), (second, b"chunked")):
            raw = request(*(b"Transfer-Encoding: " + each for each in pair), start=POST, body=ABC)
            yield invalid(f"Transfer-Encoding twice, {pair!r}", raw, "9112 6.1")
    start = b"POST / HTTP/1.0"
    yield invalid("chunked in HTTP/1.0", chunked(start=start), "9112 6.1")
    yield invalid("chunked in HTTP/1.0 keep-alive", chunked(b"Connection: keep-alive", start=start), "9112 6.1")
    for char in (b" ", b"\t", b"\x00", b"\xad"):
        for form in (b"Transfer-Encoding%b: chunked", b"%bTransfer-Encoding: chunked", b"Transfer%bEncoding: chunked"):
            line = form % char
            yield invalid(f"{line!r}", request(line, start=POST, body=ABC), "9112 5.1")


def _both() -> Iterator[Case]:
    for length in (b"3", b"0", b"13", b"999", b"+3", b""):
        for coding in (b"chunked", b"Chunked", b"gzip", b"identity", b"xchunked", b""):
            lines = (b"Content-Length: " + length, b"Transfer-Encoding: " + coding)
            for order in (lines, lines[::-1]):
                yield invalid(f"{order!r}", request(*order, start=POST, body=ABC), "9112 6.3")


def _chunks() -> Iterator[Case]:
    places = {
        "first": (b"3", b"%b\r\nabc\r\n" + LAST),
        "second": (b"3", b"2\r\nxy\r\n%b\r\nabc\r\n" + LAST),
        "last": (b"0", b"3\r\nabc\r\n%b\r\n\r\n"),
    }
    for place, (digit, wire) in places.items():
        for size in SIZES:
            bad = size.replace(b"3", digit)
            yield invalid(f"{place} size {bad!r}", chunked(body=wire % bad), "9112 7.1")
        for extension in EXTENSIONS:
            raw = chunked(body=wire % (digit + extension))
            yield invalid(f"{place} extension {extension!r}", raw, "9112 7.1.1")
        for end in ODD_LINE_ENDS:
            raw = chunked(body=wire.replace(b"%b\r\n", digit + end))
            yield invalid(f"{place} chunk line ends in {end!r}", raw, "9112 7.1")
    yield invalid("a chunk line ends twice", chunked(body=b"3\r\n\r\nabc\r\n" + LAST), "9112 7.1")
    for end in ODD_ENDS:
        yield invalid(f"a chunk ends in {end!r}", chunked(body=b"3\r\nabc" + end + LAST), "9112 7.1")
        raw = chunked(body=b"1\r\nx\r\n3\r\nabc" + end + LAST)
        yield invalid(f"a second chunk ends in {end!r}", raw, "9112 7.1")
    yield invalid("a chunk longer than its size", chunked(body=b"3\r\nabcd\r\n" + LAST), "9112 7.1")
    yield invalid("a chunk shorter than its size", chunked(body=b"5\r\nabc\r\n" + LAST), "9112 7.1")
    raw = chunked(body=b"3;a=" + b"x" * 4200 + b"\r\nabc\r\n" + LAST)
    yield invalid("a chunk extension of 4200 bytes", raw, "9112 7.1.1")
    raw = chunked(body=b"1;a=xxxxxxxxxxxxxxxxx\r\nx\r\n" * 300 + LAST)
    yield invalid("300 extensions of 20 bytes", raw, "9112 7.1.1")


def _trailers() -> Iterator[Case]:
    bad = [name + b": 1\r\n" for name in FORBIDDEN] + [line + b"\r\n" for line in ODD_TRAILERS] + [b"X-A: 1\n", b"\n"]
    for lines in (*bad, *(b"X-B: 1\r\n" + each for each in bad)):
        raw = chunked(body=b"3\r\nabc\r\n0\r\n" + lines + b"\r\n")
        yield invalid(f"trailers {lines!r}", raw, "9110 6.5.1")
    many = {"10,000 trailers": b"X-A: 1\r\n" * 10_000, "9 KiB of trailers": (b"X-A: " + b"a" * 3000 + b"\r\n") * 3}
    for name, lines in many.items():
        raw = chunked(body=b"3\r\nabc\r\n0\r\n" + lines + b"\r\n")
        yield invalid(name, raw, "6585 5", status=431)


def _smuggling() -> Iterator[Case]:
    """The classics: what one parser takes for a body is a request for another."""
    inner = b"0\r\n\r\n" + SMUGGLED
    length = b"Content-Length: %d" % len(inner)
    chunk = b"%x\r\n%b\r\n" % (len(SMUGGLED), SMUGGLED)
    for coding in DISGUISES:
        yield invalid(f"CL.TE, {coding!r}", request(length, coding, start=POST, body=inner), "9112 11.2")
        raw = request(coding, b"Content-Length: 4", start=POST, body=chunk + LAST)
        yield invalid(f"TE.CL, {coding!r}", raw, "9112 11.2")
    yield invalid("CL.0", request(b"Content-Length: 0", length, start=POST, body=inner), "9112 11.2")
    yield invalid("a request behind LF LF", request(b"X-A: 1\n\n" + SMUGGLED.rstrip()), "9112 11.1")
    raw = request(b"X-A: 1\r\r" + SMUGGLED.replace(b"\r\n", b"\r").rstrip())
    yield invalid("a request behind a bare CR", raw, "9112 11.1")
    raw = chunked(body=b"2;\nxx\r\n%x\r\n" % 0x2F + SMUGGLED + LAST)
    yield invalid("a request behind an extension with LF", raw, "9112 7.1.1")
    yield invalid("a request after a bad one", request(b"X-A : 1") + SMUGGLED, "9112 5.1")
    yield invalid("a request after a bad chunk", chunked(body=b"x\r\nabc\r\n" + LAST) + SMUGGLED, "9112 7.1")
    yield invalid("a request after two lengths", sized(b"abc", b"Content-Length: 5") + SMUGGLED, "9112 6.3")
