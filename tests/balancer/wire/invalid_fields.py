"""Field lines of which nothing may reach the backend, the Host's among them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.balancer.wire.case import AFTER, HOST, Case, invalid, request, sized

# What follows each of these on the wire would be a request of its own for whoever reads on.
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n"


def invalid_fields() -> Iterator[Case]:
    """All of them."""
    yield from _hosts()
    yield from _names()
    yield from _values()
    yield from _line_ends()
    yield from _fields()


INVALID_HOSTS: Final = (
    b"a b", b"a/b", b"a?b", b"a#b", b"user@a", b"http://a", b"a\tb", b"a\\b", b"<a>", b'"a"', b"a%", b"a%4", b"a%zz", b"caf\xc3\xa9",
    b"a|b", b"a^b", b"a{b}", b"a`b", b"a:b", b"a:1:2", b"a:-1", b"a:+1", b"a: 80", b"a:99999", b"a:123456", b":80", b":", b".", b"a..",
    b"[::1", b"::1", b"[]", b"[::1]x", b"[::g]", b"[::1]:x", b"[v1.a]", b"[a b]", b"x" * 300,
)  # fmt: skip


def _hosts() -> Iterator[Case]:
    absolute = b"GET http://a.example/ HTTP/1.1"
    yield invalid("no Host", request(host=None), "9112 3.2")
    yield invalid("no Host, a URL", request(host=None, start=absolute), "9112 3.2")
    yield invalid("an empty Host", request(host=b"Host:"), "9110 4.2.1")
    yield invalid("a Host of white space", request(host=b"Host: \t "), "9110 4.2.1")
    for second in (b"Host: b.example", HOST, b"host: b.example", b"Host:"):
        for start in (b"GET / HTTP/1.1", b"GET / HTTP/1.0", absolute):
            raw = request(second, start=start)
            yield invalid(f"{start.decode()}, a second {second.decode()}", raw, "9112 3.2")
    for host in (b"a.example, b.example", b"a.example,b.example", b",a.example", b"a.example,"):
        yield invalid(f"Host: {host.decode()}", request(host=b"Host: " + host), "9112 3.2")
    for host in INVALID_HOSTS:
        yield invalid(f"Host: {host[:40]!r}", request(host=b"Host: " + host), "9112 3.2")


def _line(name: str, bad: bytes, section: str) -> Case:
    return invalid(name, request(bad, b"X-Last: 1"), section)


def _names() -> Iterator[Case]:
    yield _line("a space before the colon", b"X-A : 1", "9112 5.1")
    yield _line("a tab before the colon", b"X-A\t: 1", "9112 5.1")
    yield _line("no colon", b"X-A", "9112 5")
    yield _line("no name", b": 1", "9112 5")
    yield _line("only a colon", b":", "9112 5")
    for char in b'"(),/;<=>?@[\\]{} \t\x00\x01\x0b\x0c\x7f\x80\xe9\xff':
        yield _line(f"byte {char:#04x} in a name", b"X%cA: 1" % char, "9110 5.1")


def _values() -> Iterator[Case]:
    for char in (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F):
        yield _line(f"byte {char:#04x} in a value", b"X-A: a%cb" % char, "9110 5.5")
    yield _line("a folded line", b"X-A: 1\r\n 2", "9112 5.2")
    yield _line("a line folded by a tab", b"X-A: 1\r\n\t2", "9112 5.2")
    yield _line("a line folded to nothing", b"X-A: 1\r\n ", "9112 5.2")
    yield invalid("the Host folded", request(host=b"Host:\r\n a.example"), "9112 5.2")
    section = "9112 2.2"
    yield invalid("a folded request line", request(b" X-A: 1", host=None), section)
    yield invalid("a space before the first field", request(host=b" Host: a.example"), section)


def _line_ends() -> Iterator[Case]:
    section = "9112 2.2"
    yield _line("a bare CR in a value", b"X-A: a\rb", section)
    yield _line("a bare CR before CRLF", b"X-A: a\r", section)
    yield _line("a bare CR ends a line", b"X-A: a\rX-B: b", section)
    yield _line("a bare LF ends a line", b"X-A: a\nX-B: b", section)
    yield _line("LF CR ends a line", b"X-A: a\n\rX-B: b", section)
    yield _line("a request in a value", b"X-A: a\n\n" + SMUGGLED, section)
    for end in (b"\n", b"\r", b"\r\r\n"):
        yield invalid(f"every line ends in {end!r}", request(b"X-A: 1", end=end), section)
        yield invalid(f"the blank line is {end!r}", request()[:-2] + end + AFTER, section)
    yield invalid("the blank line is LF CR LF", request()[:-2] + b"\n\r\n" + AFTER, section)
    for blank in (b" ", b"\t", b"\x00"):
        raw = request()[:-2] + blank + b"\r\n" + AFTER
        yield invalid(f"the blank line is {blank!r}", raw, section)


def _fields() -> Iterator[Case]:
    framing = (b"Host", b"host", b"close, Host", b"Content-Length", b"Transfer-Encoding", b"x , transfer-encoding")
    for named in framing:
        raw = sized(b"abc", b"Connection: " + named)
        yield invalid(f"Connection: {named.decode()}", raw, "9110 7.6.1")
    for odd in (b'"close"', b"a b", b"close;", b"x=\xe9", b"\xe9"):
        raw = request(b"Connection: " + odd)
        yield invalid(f"Connection: {odd!r}", raw, "9110 7.6.1")
    for odd in (b"200-ok", b"100-continue, x", b"100-continue;x=1", b"100 continue"):
        raw = sized(b"abc", b"Expect: " + odd)
        yield invalid(f"Expect: {odd.decode()}", raw, "9110 10.1.1", status=417)
    raw = sized(b"abc", b"Expect: 100-continue", b"Expect: x")
    yield invalid("two Expects", raw, "9110 10.1.1", status=417)
    raw = request(b"Content-Type: a/b", b"Content-Type: c/d")
    yield invalid("two Content-Types", raw, "9110 5.3")
