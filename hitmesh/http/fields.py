"""The field lines of a message's head: parsed by llhttp, then checked for what it lets pass.

A block is all that follows the start line: from its CRLF to the blank line, both included. Clients
and servers repeat theirs, so the readers keep the last one, and the same bytes again cost them a
comparison.

Invariant: a block that passes has one field for each of its lines, every line ends in CRLF, and no
line is a continuation, whatever the version of llhttp thinks of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from typing import Final

import httptools

from hitmesh.http.errors import BadMessage

# Fields that somebody of ours looks at; all others are only passed on.
KNOWN: Final = frozenset(
    b"host content-length content-type transfer-encoding connection keep-alive proxy-connection te trailer upgrade expect "
    b"forwarded via x-real-ip x-request-id "
    b"proxy-authenticate proxy-authorization http2-settings".split()
)
FORWARDED: Final = b"x-forwarded-"  # of these there are many, and some backends believe one of them
# What a Connection field may not name: removing it would change what the message means (RFC 9110, 7.6.1).
ESSENTIAL: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))
LENGTH_DIGITS: Final = 18  # below 2**63, as everybody's integers take it

# llhttp wants a start line; ours have a grammar of their own. A response's, since what codings a request
# may have is for us to say (RFC 9112, 6.1: 501, where llhttp knows only an error).
_START: Final = b"HTTP/1.1 200 OK"
_LENGTH: Final = re.compile(rb"[0-9]{1,%d}" % LENGTH_DIGITS)
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

Pair = tuple[bytes, bytes]


class Fields:
    """The fields of one head. `length` is Content-Length or None; `connection` has its lower-case tokens."""

    __slots__ = ("block", "chunked", "connection", "known", "length", "pairs")

    def __init__(self, block: bytes, pairs: Sequence[Pair]) -> None:
        self.block = block
        self.pairs = pairs
        known: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            lower = name.lower()
            if lower in KNOWN or lower.startswith(FORWARDED):
                known.setdefault(lower, []).append(value)
        self.known = known
        self.length: int | None = None
        self.chunked = False
        self.connection: frozenset[bytes] = frozenset()
        if known:
            self._read_connection()
            self._read_framing()

    def first(self, name: bytes) -> bytes:
        """The first value of a known field, or nothing."""
        values = self.known.get(name)
        return values[0] if values else b""

    def _read_connection(self) -> None:
        values = self.known.get(b"connection")
        if not values:
            return
        tokens = frozenset(token for value in values for token in tokens_of(value))
        if tokens & ESSENTIAL:
            raise BadMessage("Connection names a field that frames or routes the message")
        self.connection = tokens

    def _read_framing(self) -> None:
        """RFC 9112, section 6.3, at its strictest: one way to say the length, said once."""
        lengths, codings = self.known.get(b"content-length"), self.known.get(b"transfer-encoding")
        if codings:
            if lengths:
                raise BadMessage("both Content-Length and Transfer-Encoding")
            if len(codings) > 1:
                raise BadMessage("several Transfer-Encoding fields")
            coding = codings[0].lower()
            if coding != b"chunked":
                whole = [token.strip(b" \t") for token in coding.split(b",")]
                if all(_TOKEN.fullmatch(token) for token in whole) and b"chunked" not in whole[:-1]:
                    raise BadMessage("a transfer coding other than chunked", status=501)
                raise BadMessage("an odd Transfer-Encoding")
            self.chunked = True
        elif lengths:
            if len(lengths) > 1:
                raise BadMessage("several Content-Length fields")
            if not _LENGTH.fullmatch(lengths[0]):
                raise BadMessage("an odd Content-Length")
            self.length = int(lengths[0])


def read_pairs(block: bytes, max_lines: int, max_line_bytes: int) -> Sequence[Pair]:
    """The (name, value) pairs of a block, values without the white space around them. Raises BadMessage."""
    lines = block.count(b"\r\n") - 2
    if lines == 0:
        if block != b"\r\n\r\n":
            raise BadMessage("a CR or LF that doesn't end a line")
        return ()
    if lines > max_lines:
        raise BadMessage(f"more than {max_lines} header lines", status=431)
    if not lines + 2 == block.count(b"\n") == block.count(b"\r"):
        raise BadMessage("a CR or LF that doesn't end a line")
    if len(block) > max_line_bytes and max(map(len, block.split(b"\r\n"))) > max_line_bytes:
        raise BadMessage(f"a header line of more than {max_line_bytes} bytes", status=431)
    collector = _Pairs()
    try:
        httptools.HttpResponseParser(collector).feed_data(_START + block)
    except httptools.HttpParserError as error:
        raise BadMessage(f"a header line: {error}") from error
    if not collector.complete or len(collector.pairs) != lines:
        raise BadMessage("a header line that isn't one field")
    return collector.pairs


def without(names: Set[bytes], block: bytes, pairs: Sequence[Pair]) -> bytes:
    """The lines of a block but those of `names`, as they came, each with the CRLF before it."""
    lines = block.split(b"\r\n")[1:-2]
    return b"".join(b"\r\n" + line for line, pair in zip(lines, pairs, strict=True) if pair[0].lower() not in names)


def tokens_of(value: bytes) -> list[bytes]:
    """The lower-case elements of a comma-separated list of tokens. Raises BadMessage."""
    tokens = []
    for element in value.lower().split(b","):
        token = element.strip(b" \t")
        if token:  # empty elements are to be ignored (RFC 9110, 5.6.1.2)
            if not _TOKEN.fullmatch(token):
                raise BadMessage("a list of tokens with something else in it")
            tokens.append(token)
    return tokens


class _Pairs:
    """What llhttp calls back."""

    __slots__ = ("complete", "pairs")

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True
