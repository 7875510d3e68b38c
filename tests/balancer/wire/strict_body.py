"""The body of a request, read as strictly as its head is in `strict`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.balancer.wire.strict import CHUNKED, HEX, TCHAR, VALUE_CHARS, Pair, Refused, read_fields

SIZE_DIGITS: Final = 16
EXTENSION_BYTES: Final = 4096  # of one body
TRAILER_LINES: Final = 64
TRAILER_BYTES: Final = 8192
# How a message is framed, routed, processed or believed (RFC 9110, 6.5.1).
FORBIDDEN_TRAILERS: Final = frozenset(
    b"host content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade expect "
    b"authorization proxy-authorization proxy-authenticate www-authenticate cookie set-cookie content-encoding "
    b"content-type content-range cache-control max-forwards range age date location retry-after vary forwarded via "
    b"x-forwarded-for x-forwarded-proto x-forwarded-host x-request-id".split()
)


@dataclass(frozen=True, slots=True)
class Body:
    """A whole body, and where in the bytes it ends."""

    data: bytes
    trailers: tuple[Pair, ...]
    end: int


def read_body(data: bytes, at: int, length: int, *, extensions: bool) -> Body | None:
    """The body that begins at `at`; None while it isn't whole. Without `extensions` one is refused."""
    if length == CHUNKED:
        return _read_chunks(data, at, extensions=extensions)
    return Body(data[at : at + length], (), at + length) if len(data) - at >= length else None


def _read_chunks(data: bytes, at: int, *, extensions: bool) -> Body | None:
    pieces: list[bytes] = []
    extended = 0
    while True:
        end = _line_end(data, at)
        if end is None:
            return None
        size, extension = _split_chunk_line(data[at:end])
        extended += len(extension)
        if extension and not extensions:
            raise Refused("a chunk extension")
        if extended > EXTENSION_BYTES:
            raise Refused("too many bytes of chunk extensions")
        at = end + 2
        if size == 0:
            break
        piece = data[at : at + size]
        pieces.append(piece)
        at += size
        if not b"\r\n".startswith(data[at : at + 2]):
            raise Refused("a chunk longer than its size")
        if len(data) < at + 2:
            return None
        at += 2
    read = _read_trailers(data, at)
    return Body(b"".join(pieces), *read) if read is not None else None


def _read_trailers(data: bytes, at: int) -> tuple[tuple[Pair, ...], int] | None:
    lines: list[bytes] = []
    while True:
        end = _line_end(data, at)
        if end is None:
            return None
        line, at = data[at:end], end + 2
        if not line:
            break
        lines.append(line)
    if len(lines) > TRAILER_LINES or sum(map(len, lines)) + 2 * len(lines) > TRAILER_BYTES:
        raise Refused("too many trailer lines, or too long ones", 431)
    trailers = read_fields(lines)
    if any(name.lower() in FORBIDDEN_TRAILERS for name, _ in trailers):
        raise Refused("a field that no trailer may have")
    return trailers, at


def _line_end(data: bytes, at: int) -> int | None:
    end = data.find(b"\n", at)
    if end < 0:
        return None
    if end == at or data[end - 1 : end] != b"\r":
        raise Refused("a line that ends in LF alone")
    return end - 1


def _split_chunk_line(line: bytes) -> tuple[int, bytes]:
    digits = len(line) - len(line.lstrip(HEX))
    size, extension = line[:digits], line[digits:]
    if not 1 <= digits <= SIZE_DIGITS or int(size, 16) >> 60:
        raise Refused("an odd chunk size")
    _check_extension(extension)
    return int(size, 16), extension


def _check_extension(extension: bytes) -> None:
    """*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ), RFC 9112, 7.1.1."""
    rest = extension
    while rest:
        rest = rest.lstrip(b" \t")
        if not rest.startswith(b";"):
            raise Refused("something else after a chunk size")
        rest = _skip_token(rest[1:].lstrip(b" \t"))
        after = rest.lstrip(b" \t")
        if after.startswith(b"="):
            value = after[1:].lstrip(b" \t")
            rest = _skip_quoted(value) if value.startswith(b'"') else _skip_token(value)


def _skip_token(data: bytes) -> bytes:
    length = next((at for at, each in enumerate(data) if each not in TCHAR), len(data))
    if not length:
        raise Refused("a chunk extension without a name or a value")
    return data[length:]


def _skip_quoted(data: bytes) -> bytes:
    at = 1
    while at < len(data) and data[at] in VALUE_CHARS:
        if data[at] == ord('"'):
            return data[at + 1 :]
        if data[at] == ord("\\"):
            at += 1
            if at == len(data) or data[at] not in VALUE_CHARS:
                break
        at += 1
    raise Refused("an odd quoted string in a chunk extension")
