"""Request lines, and lengths of heads, of which nothing may reach the backend. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.balancer.wire.case import Case, invalid, request


def invalid_heads() -> Iterator[Case]:
    """Request lines, targets, methods, limits."""
    yield from _request_lines()
    yield from _targets()
    yield from _methods()
    yield from _limits()


ODD_VERSIONS: Final = (
    b"HTTP/11", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.", b"HTTP/1", b"HTTP/.1", b"HTTP/1,1", b"HTTP/ 1.1", b"HTTP/1.1x", b"HTTP-1.1",
    b"http/1.1", b"Http/1.1", b"HTTPS/1.1", b"ICY/1.1", b"RTSP/1.0", b"HTTP/1.1 HTTP/1.1", b"HTTP/1.\xb2", b"HTTP/-1.1", b"HTTP/+1.1",
)  # fmt: skip
ODD_LINES: Final = {
    "no version": b"GET /",
    "a space instead of a version": b"GET / ",
    "two spaces before the target": b"GET  / HTTP/1.1",
    "two spaces after the target": b"GET /  HTTP/1.1",
    "a space after the version": b"GET / HTTP/1.1 ",
    "a tab after the version": b"GET / HTTP/1.1\t",
    "a space before the method": b" GET / HTTP/1.1",
    "a tab before the method": b"\tGET / HTTP/1.1",
    "tabs instead of spaces": b"GET\t/\tHTTP/1.1",
    "a vertical tab instead of a space": b"GET\x0b/ HTTP/1.1",
    "a form feed instead of a space": b"GET /\x0cHTTP/1.1",
    "no target": b"GET HTTP/1.1",
    "an empty target": b"GET  HTTP/1.1",
    "only a method": b"GET",
    "no method": b" / HTTP/1.1",
    "a status line": b"HTTP/1.1 200 OK",
    "a bare CR in the line": b"GET /\rHTTP/1.1",
    "a NUL in the line": b"GET /\x00 HTTP/1.1",
    "a space in the target": b"GET /a b HTTP/1.1",
}
ODD_FORMS: Final = (
    b"* */ a.example a.example:80 index.html ?q ./ ftp://a.example/ http:/a http:a ://a javascript:1 ws://a/".split()
)
ODD_AUTHORITIES: Final = (
    b"http:// http:/// http://:80/ http://?q http://a,b/ http://[::1/ http://a:b/ http://a:99999/".split()
)
USERS: Final = b"http://user@a.example/ http://u:p@a.example/ http://@a.example/ http://good@evil.example/".split()
ODD_METHODS: Final = b'G@T GET/ G(T) G,T G:T G;T "GET" G\xc9T G\x00T G\x7fT {GET} [GET] G=T <GET> G?T G\\T'.split(b" ")


def _request_lines() -> Iterator[Case]:
    for name, start in ODD_LINES.items():
        yield invalid(name, request(start=start), "9112 3")
    yield invalid("HTTP/0.9", b"GET /\r\n", "9112 3")
    for version in (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3.0"):
        yield invalid(f"{version.decode()} said", request(start=b"GET / " + version), "9112 2.3", status=505)
    yield invalid("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "9113 3.4", status=505)
    for version in ODD_VERSIONS:
        yield invalid(f"version {version!r}", request(start=b"GET / " + version), "9112 2.3")
    yield invalid("a bare LF before", b"\n" + request(), "9112 2.2")
    yield invalid("a bare CR before", b"\r" + request(), "9112 2.2")
    yield invalid("spaces before", b"  \r\n" + request(), "9112 2.2")
    yield invalid("empty lines without end", b"\r\n" * 200 + request(), "9112 2.2")
    yield invalid("a field line first", b"Host: a.example\r\n\r\n", "9112 3")
    yield invalid("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "9112 3")
    yield invalid("a PROXY line of a stranger", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + request(), "9112 3")


def _targets() -> Iterator[Case]:
    bad = [form % char for char in b'#"<>\\' for form in (b"/%c", b"/a%cb", b"/?q=%c")]
    bad += [b"/a%cb" % char for char in (0, 1, 8, 9, 11, 12, 27, 127, 128, 160, 195, 255)]
    for target in (*bad, *ODD_FORMS, *ODD_AUTHORITIES, *USERS):
        yield invalid(f"target {target!r}", request(start=b"GET %b HTTP/1.1" % target), "9112 3.2")
    yield invalid("POST *", request(start=b"POST * HTTP/1.1"), "9112 3.2.4")


def _methods() -> Iterator[Case]:
    for method in ODD_METHODS:
        yield invalid(f"method {method!r}", request(start=method + b" / HTTP/1.1"), "9110 9.1")
    yield invalid("a method of 33 bytes", request(start=b"M" * 33 + b" / HTTP/1.1"), "9112 3")
    yield invalid("CONNECT", request(start=b"CONNECT a.example:443 HTTP/1.1"), "9110 9.3.6", status=405)
    yield invalid("CONNECT to a path", request(start=b"CONNECT / HTTP/1.1"), "9110 9.3.6", status=405)
    yield invalid("TRACE", request(start=b"TRACE / HTTP/1.1"), "9110 9.3.8", status=405)


def _limits() -> Iterator[Case]:
    for length, name in ((8193, "too long"), (60_000, "far too long")):
        start = b"GET /" + b"a" * (length - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"
        yield invalid(f"a request line {name}", request(start=start), "9110 15.5.15", status=414)
    yield invalid("a header line too long", request(b"X-A: " + b"a" * (8193 - 5)), "6585 5", status=431)
    yield invalid("too many lines", request(*(b"X-%d: 1" % each for each in range(100))), "6585 5", status=431)
    yield invalid("far too many lines", request(*[b"X: 1"] * 2000), "6585 5", status=431)
    lines = [b"X-A: " + b"a" * 7000, b"X-B: " + b"b" * 7000, b"X-C: "]
    lines[2] += b"c" * (16_385 - len(request(*lines)))
    yield invalid("a head too long", request(*lines), "6585 5", status=431)
    yield invalid("a head of a megabyte", request(*[b"X-A: " + b"a" * 1000] * 1000), "6585 5", status=431)
