"""The balancer's own answers: errors, redirects, fixed bodies. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct

JSON: Final = b"application/json"
RETRY_S: Final = (
    5.0  # after which a client that found no backend may come again: supervisord has started others by then
)
PAUSE_RETRY_S: Final = 60.0  # after which one that found a route paused may look again: a pause may end early
_NOSNIFF: Final = b"X-Content-Type-Options: nosniff\r\n"
_NOT_KEPT: Final = b"Cache-Control: no-store\r\n"  # some errors may be kept unless they say this (RFC 9111, 4.2.2)
# A hit comes from a script in anybody's page, which must see why it failed and where a redirect leads.
_ANY_ORIGIN: Final = b"Access-Control-Allow-Origin: *\r\n"


class Answer(Struct, frozen=True):
    """An answer that needs no backend. `headers` are further (name, value) pairs."""

    status: int
    body: bytes = b""
    type: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


def refusal(status: int, reason: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """An error as JSON: `title` and `description`."""
    body = msgspec.json.encode({"title": HTTPStatus(status).phrase, "description": reason})
    return Answer(status, body, JSON, headers)


def retry_after(wait_s: float) -> tuple[tuple[bytes, bytes]]:
    """The header that says when another try makes sense."""
    return ((b"Retry-After", b"%d" % math.ceil(wait_s)),)


def render(answer: Answer, *, method: bytes, minor: int, keep_alive: bool, date: bytes, public: bool = True) -> bytes:
    """The bytes of an answer to a request of `method`, made with HTTP/1.`minor`. `public`: for scripts of any page."""
    status = answer.status
    try:
        phrase = HTTPStatus(status).phrase.encode()
    except ValueError:
        phrase = b""
    lines = [b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (status, phrase, date)]
    if answer.type:
        lines.append(b"Content-Type: %b\r\n" % answer.type)
    bodiless = status in (204, 304) or status < 200
    if not bodiless:
        lines.append(b"Content-Length: %d\r\n" % len(answer.body))
    lines += [b"%b: %b\r\n" % pair for pair in answer.headers]
    lines.append(_NOSNIFF)
    if public:
        lines.append(_ANY_ORIGIN)
    if status >= 400:
        lines.append(_NOT_KEPT)
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif not minor:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    if not bodiless and method != b"HEAD":
        lines.append(answer.body)
    return b"".join(lines)
