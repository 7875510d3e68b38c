"""What must become of a client's bytes: docs/http.md as a function. Pure, and takes the bytes whole.

It says which requests reach the backend, as digests that the backend makes as well, and how the
connection ends. It knows nothing of buffers or of time: of bytes that end in the middle of a
request it says `INCOMPLETE`, and the balancer may wait, refuse or close.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.balancer.wire.strict import Head, Pair, Refused, is_token, read_head, split_url
from tests.balancer.wire.strict_body import Body, read_body

LINE_BYTES: Final = 8192
HEADERS: Final = 100
HEADER_BYTES: Final = 8192
HEAD_BYTES: Final = 16_384
EMPTY_LINES: Final = 4

# What the balancer removes, replaces or adds: no part of a digest.
ITS_OWN: Final = frozenset(
    b"connection content-length expect forwarded host http2-settings keep-alive proxy-authenticate "
    b"proxy-authorization proxy-connection te trailer transfer-encoding upgrade via x-real-ip x-request-id".split()
)
ITS_OWN_PREFIX: Final = b"x-forwarded-"


class End(Enum):
    """How the bytes of a connection end."""

    OPEN = "the next request may follow"
    CLOSED = "a request was the last one; what follows isn't read"
    REFUSED = "a request was refused, and what follows isn't read"
    INCOMPLETE = "in the middle of a request"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as a backend sees it, without what a proxy may change."""

    method: bytes
    target: bytes
    host: bytes
    pairs: tuple[Pair, ...]
    body: bytes
    trailers: tuple[Pair, ...]

    @property
    def digest(self) -> str:
        """Short, and different for anything that differs."""
        return hashlib.blake2b(repr(self).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a client's bytes are."""

    seen: tuple[Seen, ...]
    end: End
    notes: tuple[str, ...]  # what is unusual about each that was seen, or nothing
    status: int = 0  # of the refusal, where one mistake is the only one
    why: str = ""


def seen_of(head: Head, body: Body, *, target: bytes, host: bytes) -> Seen:
    """The request without its hop's fields; `target` and `host` as they are forwarded."""
    return Seen(head.method, target, host, _end_to_end(head.pairs, head.tokens), body.data, _end_to_end(body.trailers))


def _end_to_end(pairs: Iterable[Pair], named: Iterable[bytes] = ()) -> tuple[Pair, ...]:
    out = ITS_OWN.union(named)
    small = ((name.lower(), value) for name, value in pairs)
    return tuple(pair for pair in small if pair[0] not in out and not pair[0].startswith(ITS_OWN_PREFIX))


def read(data: bytes, *, own: bytes) -> Reading:
    """All requests of a connection; `own` is the Host for HTTP/1.0 requests without one."""
    seen: list[Seen] = []
    notes: list[str] = []
    at = 0
    try:
        while at < len(data):
            at = _skip_empty_lines(data, at)
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                return Reading(tuple(seen), End.INCOMPLETE if at < len(data) else End.OPEN, tuple(notes))
            _check_limits(data[at:end])
            head = read_head(data[at:end])
            target, host = _forwarded(head, own)
            body = read_body(data, end + 4, head.length, extensions=True)
            if body is None:
                return Reading(tuple(seen), End.INCOMPLETE, tuple(notes))
            seen.append(seen_of(head, body, target=target, host=host))
            notes.append(_note(head, end - at))
            at = body.end
            if not head.persists:
                return Reading(tuple(seen), End.CLOSED, tuple(notes))
    except Refused as refused:
        return Reading(tuple(seen), End.REFUSED, tuple(notes), refused.status, refused.why)
    return Reading(tuple(seen), End.OPEN, tuple(notes))


def _skip_empty_lines(data: bytes, at: int) -> int:
    start = at
    while data.startswith(b"\r\n", at):
        at += 2
        if at - start > 2 * EMPTY_LINES:
            raise Refused("empty lines instead of a request")
    return at


def _check_limits(head: bytes) -> None:
    line, *lines = head.split(b"\r\n")
    if len(line) > LINE_BYTES:
        raise Refused("the request line is too long", 414)
    if len(lines) > HEADERS or len(head) + 4 > HEAD_BYTES or max(map(len, lines), default=0) > HEADER_BYTES:
        raise Refused("too many header lines, or too long ones", 431)


def _forwarded(head: Head, own: bytes) -> tuple[bytes, bytes]:
    """Target and Host as they are forwarded; refuses what isn't."""
    if head.method in (b"CONNECT", b"TRACE"):
        raise Refused("CONNECT or TRACE", 405)
    for name in head.tokens:
        if not _is_removable(name):
            raise Refused("Connection names Host or a framing field, or no field")
    expectations = [value for value in head.values(b"expect") if value]
    if any(value.lower() != b"100-continue" for value in expectations):
        raise Refused("an expectation other than 100-continue", 417)
    target, host = head.target, head.host or own
    if not target.startswith((b"/", b"*")):
        host, target = split_url(target)
        if not target:
            target = b"*" if head.method == b"OPTIONS" else b"/"
        if target.startswith(b"?"):
            target = b"/" + target
    return target, host


def _note(head: Head, head_bytes: int) -> str:
    if not head.target.startswith((b"/", b"*")):
        return "a URL as the target"
    if head.host is None:
        return "HTTP/1.0 without a Host"
    if b"" in head.values(b"expect"):
        return "an empty Expect"
    return "a head of more than 15 KiB" if head_bytes > 15 * 1024 else ""


def _is_removable(name: bytes) -> bool:
    return is_token(name) and name not in (b"host", b"content-length", b"transfer-encoding")
