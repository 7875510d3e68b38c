"""A server's bytes, read as the answer to one request (RFC 9112, section 6.3)."""

from __future__ import annotations

import re
from typing import Final

from hitmesh.http.chunks import ChunkDecoder
from hitmesh.http.errors import BadMessage
from hitmesh.http.fields import Fields, read_pairs
from hitmesh.http.limits import HeadLimits
from hitmesh.http.requests import CHUNKED

UNTIL_CLOSE: Final = -2  # the length of a body that ends with its connection
HEADS: Final = 4  # that are remembered of a connection: those of a second differ in the digits of a length

_NO_RESPONSE: Final = "not an HTTP/1 response"
_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t \x21-\x7e\x80-\xff]*)?(?=\r\n)")


class ResponseFields:
    """What the field lines of a response say; the same object for the same bytes on one connection."""

    __slots__ = ("block", "close", "connection", "keep_alive", "known", "length", "pairs", "upgrade")

    def __init__(self, fields: Fields) -> None:
        self.block = fields.block
        self.pairs = fields.pairs
        self.known = fields.known
        self.connection = fields.connection
        self.close = b"close" in fields.connection
        self.keep_alive = b"keep-alive" in fields.connection
        self.upgrade = fields.first(b"upgrade").lower()
        self.length: int
        if fields.chunked:
            self.length = CHUNKED
        else:
            self.length = UNTIL_CLOSE if fields.length is None else fields.length


class Response:
    """The head of one response. `length`: the body's bytes, CHUNKED or UNTIL_CLOSE. Never changed: it may come again.

    `passed_on` is for whoever passes it on, to remember how.
    """

    __slots__ = ("fields", "keep_alive", "length", "line", "minor", "passed_on", "status")

    line: bytes  # without its CRLF
    status: int
    minor: int
    fields: ResponseFields
    length: int
    keep_alive: bool
    passed_on: bytes


class ResponseReader:
    """The answers on one connection to a server.

    `feed` bytes; `next` gives a head, or None until more have come, and `first` the first bytes of its
    body. Then `body` gives what comes of the rest, until `body_done`. Any BadMessage is final.
    """

    __slots__ = ("_buffer", "_chunks", "_head", "_last", "_left", "_limits", "_method", "_seen", "body_done", "first")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._buffer = b""
        self._head = b"-"  # of the last response, which nothing equals at first
        self._method = b""  # what it answered
        self._last: Response | None = None  # and what it says
        self._seen: dict[bytes, Response] = {}  # all heads that are remembered, answers to that method
        self._left = 0
        self._chunks: ChunkDecoder | None = None
        self.body_done = True
        self.first = b""  # of a body with a Content-Length, what came with the head

    @property
    def pending(self) -> int:
        """Bytes that came and weren't taken."""
        return len(self._buffer)

    @property
    def trailers(self) -> bytes:
        """The trailer lines of a chunked body that is done."""
        return self._chunks.trailers if self._chunks else b""

    def feed(self, data: bytes) -> None:
        """Take what the server sent."""
        self._buffer = self._buffer + data if self._buffer else data

    def next(self, method: bytes) -> Response | None:
        """The next head, which answers a request of `method`; None: more bytes are needed. Raises BadMessage."""
        buffer = self._buffer
        if buffer.startswith(self._head) and method == self._method:
            response = self._last  # the same again
            end = len(self._head)
            assert response is not None
        else:
            end = buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                self._check_begun()
                return None
            head = buffer[:end]
            if method != self._method:
                self._seen.clear()
            response = self._seen.get(head) or self._read(head, method)
            self._head, self._method, self._last = head, method, response
        length = response.length
        self._chunks = None
        if length <= 0:
            self.first = b""
            self._buffer = buffer[end:]
            self.body_done = not length
            self._left = length
            if length == CHUNKED:
                self._chunks = ChunkDecoder()
        else:
            left = length - (len(buffer) - end)
            self.body_done = left <= 0
            if left >= 0:
                self.first, self._buffer, self._left = buffer[end:], b"", left
            else:  # more than one answer
                self.first, self._buffer, self._left = buffer[end : end + length], buffer[end + length :], 0
        return response

    def _check_begun(self) -> None:
        """A head as far as it came: what can't become good is refused now. Raises BadMessage."""
        buffer, most_bytes = self._buffer, self._limits.head_bytes
        if _LINE.match(buffer) is None and (b"\n" in buffer or not b"HTTP/1."[: len(buffer)] == buffer[:7]):
            raise BadMessage(_NO_RESPONSE)
        if len(buffer) > most_bytes:
            raise BadMessage(f"a response head of more than {most_bytes} bytes")

    def _read(self, head: bytes, method: bytes) -> Response:
        """What a head says that isn't remembered. Raises BadMessage."""
        limits = self._limits
        line = _LINE.match(head)
        if line is None:
            raise BadMessage(_NO_RESPONSE)
        if len(head) > limits.head_bytes:
            raise BadMessage(f"a response head of more than {limits.head_bytes} bytes")
        block = head[line.end() :]
        fields = ResponseFields(Fields(block, read_pairs(block, limits.headers, limits.header_bytes)))
        response = _response(line, fields, method)
        if len(self._seen) >= HEADS:
            self._seen.clear()
        self._seen[head] = response
        return response

    def body(self) -> bytes:
        """What there is of the body, decoded. Raises BadMessage."""
        buffer = self._buffer
        if self._chunks is not None:
            data = self._chunks.feed(buffer)
            self.body_done = self._chunks.done
            self._buffer = self._chunks.rest
            return data
        left = self._left
        if left == UNTIL_CLOSE:
            self._buffer = b""
            return buffer
        if len(buffer) <= left:
            self._buffer = b""
            self._left = left - len(buffer)
            self.body_done = not self._left
            return buffer
        self._left = 0
        self.body_done = True
        self._buffer = buffer[left:]
        return buffer[:left]

    def rest(self) -> bytes:
        """Take all bytes that weren't read: they belong to another protocol now."""
        rest, self._buffer = self._buffer, b""
        return rest


def _response(line: re.Match[bytes], fields: ResponseFields, method: bytes) -> Response:
    response = Response()
    response.fields = fields
    response.passed_on = b""
    response.line = line[0]
    response.status = status = int(line[2])
    if line[1] == b"1":
        response.minor = 1
        response.keep_alive = not fields.close
    else:
        response.minor = 0
        response.keep_alive = fields.keep_alive and not fields.close
        if fields.length == CHUNKED:
            raise BadMessage("Transfer-Encoding in HTTP/1.0")
    length = fields.length
    if method == b"HEAD" or status in (204, 304) or status < 200:
        if (status == 204 or status < 200) and (length > 0 or length == CHUNKED):
            raise BadMessage(f"a body in a {status} response")
        length = 0
    elif length == UNTIL_CLOSE:
        response.keep_alive = False
    response.length = length
    return response
