"""The chunked transfer coding (RFC 9112, section 7.1), decoded as it comes in and encoded anew.

What is passed on is always our own encoding, so nobody behind us sees an odd size, an extension
or a line end that he might read another way.
"""

from __future__ import annotations

import re
from typing import Final

from hitmesh.http.errors import BadMessage
from hitmesh.http.fields import read_pairs

SIZE_DIGITS: Final = 16  # of a chunk's size; more is an overflow in somebody's parser
EXTENSION_BYTES: Final = 4096  # in all of one body: they carry nothing, but cost work (RFC 9112, 7.1.1)
TRAILER_BYTES: Final = 8192
TRAILER_LINES: Final = 64
LAST: Final = b"0\r\n\r\n"

_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d})((?:[ \t]*;[ \t]*%s+(?:[ \t]*=[ \t]*(?:%s+|%s))?)*)\r\n"
    % (SIZE_DIGITS, _TCHAR, _TCHAR, _QUOTED)
)
# What a trailer may not say: how the message is framed, routed or processed (RFC 9110, 6.5.1).
_NOT_IN_TRAILERS: Final = frozenset(
    b"host content-length transfer-encoding connection keep-alive proxy-connection te trailer upgrade expect "
    b"authorization proxy-authorization proxy-authenticate www-authenticate cookie set-cookie content-encoding "
    b"content-type content-range cache-control max-forwards range age date location retry-after vary forwarded via "
    b"x-forwarded-for x-forwarded-proto x-forwarded-host x-request-id".split()
)


class ChunkDecoder:
    """One chunked body. `done` after its end; `rest` is then what came after it, `trailers` its trailer lines."""

    __slots__ = ("_extension_bytes", "_held", "_left", "_state", "done", "rest", "trailers")

    def __init__(self) -> None:
        self._held = b""  # an incomplete line
        self._left = 0  # bytes of the current chunk still to come
        self._state = ChunkDecoder._size  # unbound: a bound one would make each body cyclic garbage
        self._extension_bytes = 0
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`. Raises BadMessage; what came before in the same call is lost then."""
        pieces: list[bytes] = []
        at = 0
        if self._held:
            data, self._held = self._held + data, b""
        end = len(data)
        while not self.done:
            if self._left:
                piece = data[at : at + self._left]
                if not piece:
                    break
                at += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                if not self._left:
                    self._state = ChunkDecoder._data_end
                continue
            used = self._state(self, data, at)
            if not used:
                self._held = data[at:]
                break
            at += used
        if self.done and at < end:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _size(self, data: bytes, at: int) -> int:
        found = _LINE.match(data, at)
        if found is None:
            line_end = data.find(b"\n", at)
            if line_end >= 0 or len(data) - at > EXTENSION_BYTES + SIZE_DIGITS:
                raise BadMessage("an odd chunk size or extension")
            if at < len(data) and data[at] not in b"0123456789abcdefABCDEF":
                raise BadMessage("an odd chunk size")
            return 0
        self._extension_bytes += found.end(2) - found.start(2)
        if self._extension_bytes > EXTENSION_BYTES:
            raise BadMessage(f"more than {EXTENSION_BYTES} bytes of chunk extensions")
        self._left = int(found[1], 16)
        if self._left >> 60:
            raise BadMessage("a chunk size beyond all bounds")
        if not self._left:
            self._state = ChunkDecoder._trailer
        return found.end() - at

    def _data_end(self, data: bytes, at: int) -> int:
        ending = data[at : at + 2]
        if ending == b"\r\n":
            self._state = ChunkDecoder._size
            return 2
        if not b"\r\n".startswith(ending):
            raise BadMessage("a chunk longer than its size")
        return 0

    def _trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self.done = True
            return 2
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            if len(data) - at > TRAILER_BYTES:
                raise BadMessage(f"more than {TRAILER_BYTES} bytes of trailers", status=431)
            if data.count(b"\n", at) != data.count(b"\r\n", at):
                raise BadMessage("a trailer line that doesn't end in CRLF")
            return 0
        if end - at > TRAILER_BYTES:
            raise BadMessage(f"more than {TRAILER_BYTES} bytes of trailers", status=431)
        lines = data[at : end + 2]
        for name, _ in read_pairs(b"\r\n" + lines + b"\r\n", TRAILER_LINES, TRAILER_BYTES):
            if name.lower() in _NOT_IN_TRAILERS:
                raise BadMessage(f"{name.decode('latin-1')} in a trailer")
        self.trailers = lines
        self.done = True
        return end + 4 - at


def encode_chunk(data: bytes) -> bytes:
    """One chunk; `data` isn't empty, since an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_last(trailers: bytes = b"") -> bytes:
    """The end of a chunked body; `trailers` are whole lines."""
    return b"0\r\n%b\r\n" % trailers if trailers else LAST
