"""One case of the corpus, and the words to write one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

CRLF: Final = b"\r\n"
HOST: Final = b"Host: a.example"
# Follows every case on the same connection: answered after a valid one, never seen after an invalid one.
AFTER: Final = b"GET /after HTTP/1.1\r\nHost: after.example\r\nConnection: close\r\n\r\n"


class Wanted(NamedTuple):
    """A request that the backend must see."""

    method: bytes
    target: bytes
    body: bytes = b""
    host: bytes = b"a.example"
    trailers: tuple[tuple[bytes, bytes], ...] = ()


GET: Final = Wanted(b"GET", b"/")
POST_ABC: Final = Wanted(b"POST", b"/", b"abc")


@dataclass(frozen=True, slots=True)
class Case:
    """What a client sends, and what must come of it.

    `wanted` are the requests that reach the backend, each answered 200, before `status`, which is
    the balancer's own answer, after which it closes (0: none). `closes`: the last request was the
    connection's last one by its own words. A case that neither closes nor has a status is followed
    by AFTER.
    `section` decides.
    """

    name: str
    raw: bytes
    section: str
    wanted: tuple[Wanted, ...] = ()
    status: int = 0
    closes: bool = False

    @property
    def sent(self) -> bytes:
        """All that goes over the wire."""
        return self.raw + AFTER


def request(
    *lines: bytes, start: bytes = b"GET / HTTP/1.1", host: bytes | None = HOST, body: bytes = b"", end: bytes = CRLF
) -> bytes:
    """A request with a Host line first, unless told otherwise."""
    head = [start, *([host] if host is not None else []), *lines]
    return b"".join(line + end for line in head) + end + body


def sized(body: bytes, *lines: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    """A request whose body has a Content-Length."""
    return request(*lines, b"Content-Length: %d" % len(body), start=start, body=body)


def chunked(*lines: bytes, body: bytes = b"3\r\nabc\r\n0\r\n\r\n", start: bytes = b"POST / HTTP/1.1") -> bytes:
    """A request with a chunked body; `body` is as it goes over the wire."""
    return request(*lines, b"Transfer-Encoding: chunked", start=start, body=body)


def valid(name: str, raw: bytes, section: str, *wanted: Wanted, closes: bool = False, status: int = 0) -> Case:
    """A case of which all that is wanted (a plain GET, if nothing is said) must reach the backend."""
    return Case(name, raw, section, wanted or (GET,), status, closes)


def invalid(name: str, raw: bytes, section: str, *, status: int = 400) -> Case:
    """A case of which nothing may reach the backend."""
    return Case(name, raw, section, status=status)
