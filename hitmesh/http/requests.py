"""A client's bytes, read as requests (RFC 9112): strictly, since somebody behind us reads them too.

A head is buffered until its blank line and judged as a whole; nothing of it is passed on before.
What can't become a request any more is refused at once, not when a time-out strikes.
"""

from __future__ import annotations

import re
from typing import Final

from hitmesh.http.chunks import ChunkDecoder
from hitmesh.http.errors import BadMessage
from hitmesh.http.fields import Fields, Pair, read_pairs, without
from hitmesh.http.limits import HeadLimits

CHUNKED: Final = -1  # the length of a body whose end is told by its coding
EMPTY_LINES: Final = 4  # before a request line: some clients send one too many (RFC 9112, 2.2)
METHOD_BYTES: Final = 32

_NEED_A_REQUEST: Final = "a request line is METHOD TARGET HTTP/1.1"
# Visible ASCII without what no URL may hold and others read in their own way. `[]{}|^` and the
# backquote aren't URL characters either, but browsers send them.
_match_line: Final = re.compile(
    rb"([!#$%%&'*+\-.^_`|~0-9A-Za-z]{1,%d}) ([!$-;=?-\[\]-~]+) HTTP/1\.([01])\r\n" % METHOD_BYTES
).match
_METHOD: Final = re.compile(rb"[!#$%%&'*+\-.^_`|~0-9A-Za-z]{1,%d}(?: |\Z)" % METHOD_BYTES)  # as far as it came
_OTHER_VERSION: Final = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9]\.[0-9]")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?@]*)([/?].*)?")
_SUB_DELIMS = rb"!$&'()*+;="  # without the comma: a list of hosts is two opinions on one request
_HOST: Final = re.compile(
    rb"((?:[A-Za-z0-9\-._~" + _SUB_DELIMS + rb"]|%[0-9A-Fa-f]{2}){1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?"
)
# A request's name, where it stands last, as a balancer's does: it differs each time, and the lines before it don't.
_ID_NAME: Final = b"X-Request-Id"
_ID_LINE: Final = b"\r\n%b: " % _ID_NAME
_ID_BYTES: Final = 64  # a longer one is a line like others
_ID: Final = re.compile(rb"[!-~]{1,%d}(?=\r\n\r\n)" % _ID_BYTES)
_TUNNELS: Final = frozenset((b"websocket",))  # anything else may be ignored (RFC 9110, 7.8); h2c would hide requests


class RequestFields:
    """What the field lines of a request say; the same object for the same bytes on one connection.

    `host` is for choosing: lower case, without port and trailing dot. `authority` is as it came.
    """

    __slots__ = ("authority", "block", "close", "connection", "expects", "host", "id", "keep_alive", "known", "length", "pairs", "upgrade")  # fmt: skip

    def __init__(self, fields: Fields) -> None:
        known = fields.known
        self.block = fields.block
        self.pairs = fields.pairs
        self.known = known
        self.length: int = CHUNKED if fields.chunked else fields.length or 0
        self.connection = fields.connection
        self.close = b"close" in fields.connection
        self.keep_alive = b"keep-alive" in fields.connection
        hosts = known.get(b"host")
        self.authority = self.host = b""
        if hosts:
            if len(hosts) > 1:
                raise BadMessage("several Host fields")
            self.authority, self.host = hosts[0], host_of(hosts[0])
        if len(known.get(b"content-type", ())) > 1:
            raise BadMessage("several Content-Type fields")  # whichever we mean, a backend may mean the other
        self.expects = False
        for value in known.get(b"expect", ()):
            if value.lower() == b"100-continue":
                self.expects = True
            elif value:
                raise BadMessage("an expectation other than 100-continue", status=417)
        self.id = fields.first(b"x-request-id")
        upgrade = fields.first(b"upgrade").lower()
        wanted = upgrade in _TUNNELS and b"upgrade" in fields.connection and not self.length
        self.upgrade = upgrade if wanted else b""


class Request:
    """The head of one request. `target` is in origin form, or `*`; `length` is CHUNKED, or the body's bytes.

    `id` is the first X-Request-Id, or empty. One that stands last, as ours does, is not among `fields`.
    """

    __slots__ = ("fields", "host", "id", "keep_alive", "length", "method", "minor", "target")

    method: bytes
    target: bytes
    minor: int
    fields: RequestFields
    id: bytes
    host: bytes
    length: int
    keep_alive: bool

    @property
    def pairs(self) -> list[Pair]:
        """The field lines."""
        fields = self.fields
        return [*fields.pairs, (_ID_NAME, self.id)] if self.id and not fields.id else list(fields.pairs)


class RequestReader:
    """The requests of one connection, in their order.

    `feed` bytes; `next` gives a head, or None until more have come. Then `body` gives what there is
    of its body, until `body_done`; only after that `next` may be called again. Any BadMessage is
    final.
    """

    __slots__ = (
        "_block",
        "_buffer",
        "_chunks",
        "_empty_lines",
        "_fields",
        "_has_id",
        "_id",
        "_left",
        "_limits",
        "_line_room",
        "body_done",
    )

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._line_room = 0  # for a request line before the same field lines
        self._buffer = b""
        self._block = b"-"  # the last request's field lines, up to its id, which nothing equals at first
        self._has_id = False  # whether there was one that stood last
        self._id = b""  # the newest one
        self._fields: RequestFields | None = None  # what the lines say
        self._left = 0
        self._chunks: ChunkDecoder | None = None
        self._empty_lines = 0
        self.body_done = True

    def limit(self, limits: HeadLimits) -> None:
        """From the next head on, these count."""
        self._limits = limits
        self._line_room = 0  # what was let in before is looked at again

    @property
    def pending(self) -> int:
        """Bytes that came and weren't taken."""
        return len(self._buffer)

    @property
    def trailers(self) -> bytes:
        """The trailer lines of a chunked body that is done."""
        return self._chunks.trailers if self._chunks else b""

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        self._buffer = self._buffer + data if self._buffer else data

    def next(self) -> Request | None:
        """The next head, or None. Raises BadMessage."""
        buffer = self._buffer
        line = _match_line(buffer)
        if line is None:
            return self._without_line()
        start = line.end() - 2
        end = self._end_of_same(start) or self._end_of_others(start)
        if not end:
            return None
        fields = self._fields
        assert fields is not None
        request = Request()
        request.fields = fields
        request.id = self._id or fields.id
        minor: bytes
        request.method, request.target, minor = line.groups()
        request.host = fields.host
        request.length = length = fields.length
        if minor == b"1":
            request.minor = 1
            request.keep_alive = not fields.close
            if not fields.host:
                raise BadMessage("no Host")
        else:
            request.minor = 0
            request.keep_alive = fields.keep_alive and not fields.close
            if length == CHUNKED:
                raise BadMessage("Transfer-Encoding in HTTP/1.0")
        if not request.target.startswith(b"/"):
            _reform(request)
        self._buffer = buffer[end:]
        self._empty_lines = 0
        if length:
            self.body_done = False
            self._left = length
            self._chunks = ChunkDecoder() if length == CHUNKED else None
        else:
            self._chunks = None
        return request

    def body(self) -> bytes:
        """What there is of the body, decoded; nothing when there is nothing yet. Raises BadMessage."""
        buffer = self._buffer
        if self._chunks is not None:
            data = self._chunks.feed(buffer)
            self.body_done = self._chunks.done
            self._buffer = self._chunks.rest
            return data
        left = self._left
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

    def _end_of_same(self, start: int) -> int:
        """Where the head ends whose field lines begin at `start`, if they are those of the last request; else 0."""
        buffer, block = self._buffer, self._block
        if start > self._line_room or not buffer.startswith(block, start):
            return 0
        end = start + len(block)
        if not self._has_id:
            return end
        found = _ID.match(buffer, end)
        if found is None:
            return 0
        self._id = found[0]
        return found.end() + 4

    def _end_of_others(self, start: int) -> int:
        """The same for lines that are read now; 0 when they aren't all here. Raises BadMessage."""
        buffer, limits = self._buffer, self._limits
        end = buffer.find(b"\r\n\r\n", start) + 4
        if start > limits.line_bytes:
            raise _bad_line(buffer, limits)
        if end < 4:
            self._check_lines()
            return 0
        if end > limits.head_bytes:
            raise BadMessage(f"a head of more than {limits.head_bytes} bytes", status=431)
        self._read_lines(buffer[start:end])
        return end

    def _read_lines(self, block: bytes) -> None:
        limits = self._limits
        pairs = read_pairs(block, limits.headers, limits.header_bytes)
        self._line_room = min(limits.line_bytes, limits.head_bytes - len(block))
        at = block.rfind(_ID_LINE) + len(_ID_LINE)
        found = _ID.match(block, at) if at >= len(_ID_LINE) else None
        if found is not None:
            fields = RequestFields(Fields(block[: at - len(_ID_LINE)] + b"\r\n\r\n", pairs[:-1]))
            if b"x-request-id" not in fields.known:
                self._block, self._fields, self._has_id, self._id = block[:at], fields, True, found[0]
                self._line_room -= _ID_BYTES - len(self._id)
                return
        self._block, self._fields, self._has_id, self._id = block, RequestFields(Fields(block, pairs)), False, b""

    def _without_line(self) -> Request | None:
        """There is no request line at the start: not yet, not at all, or behind empty lines. Raises BadMessage."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            self._empty_lines += 1
            if self._empty_lines > EMPTY_LINES:
                raise BadMessage("empty lines instead of a request")
            self._buffer = buffer[2:]
            return self.next()
        if not buffer or buffer == b"\r":
            return None
        if _METHOD.match(buffer) is None:
            raise BadMessage(_NEED_A_REQUEST)
        limits = self._limits
        if buffer.find(b"\n", 0, limits.line_bytes + 2) >= 0 or len(buffer) > limits.line_bytes + 1:
            raise _bad_line(buffer, limits)
        return None

    def _check_lines(self) -> None:
        """The field lines as far as they came: what can't become good is refused now. Raises BadMessage."""
        buffer = self._buffer
        if buffer.count(b"\n") != buffer.count(b"\r\n"):
            raise BadMessage("a line that ends in LF alone")
        if len(buffer) > self._limits.head_bytes:
            raise BadMessage(f"a head of more than {self._limits.head_bytes} bytes", status=431)


def unexpecting(fields: RequestFields) -> RequestFields:
    """The same fields without an Expect, which was answered."""
    pairs = [pair for pair in fields.pairs if pair[0].lower() != b"expect"]
    return RequestFields(Fields(without({b"expect"}, fields.block, fields.pairs) + b"\r\n\r\n", pairs))


def host_of(authority: bytes) -> bytes:
    """The host of an authority as routes know it: lower case, no port, no trailing dot. Raises BadMessage."""
    found = _HOST.fullmatch(authority)
    if found is None or (found[2] and int(found[2]) > 65_535):
        raise BadMessage("a Host that isn't a name or an address")
    host = found[1].lower()
    if host.endswith(b"."):
        host = host[:-1]
        if not host or host.endswith(b"."):
            raise BadMessage("a Host that isn't a name or an address")
    return host


def _reform(request: Request) -> None:
    """From absolute form to origin form, its authority in place of Host's (RFC 9112, 3.2.2)."""
    target = request.target
    if target == b"*" and request.method == b"OPTIONS":
        return
    if request.method == b"CONNECT":
        return  # refused by whoever answers: 405 says more than 400
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise BadMessage("a target that is neither a path nor a http(s) URL")
    authority, path = found[1], found[2] or b"/"
    request.host = host_of(authority)
    request.target = path if path.startswith(b"/") else b"/" + path
    if request.method == b"OPTIONS" and not found[2]:
        request.target = b"*"  # RFC 9112, 3.2.4
    fields = request.fields
    pairs = [(name, value) for name, value in fields.pairs if name.lower() != b"host"]
    block = b"\r\nHost: %b%b\r\n\r\n" % (authority, without({b"host"}, fields.block, fields.pairs))
    request.fields = RequestFields(Fields(block, [(b"Host", authority), *pairs]))


def _bad_line(buffer: bytes, limits: HeadLimits) -> BadMessage:
    end = buffer.find(b"\n", 0, limits.line_bytes + 2)
    if end < 0:
        return BadMessage(f"a request line of more than {limits.line_bytes} bytes", status=414)
    line = buffer[:end]
    if line.endswith(b"\r") and _OTHER_VERSION.fullmatch(line[:-1]):
        *_, version = line[:-1].split(b" ")
        if version not in (b"HTTP/1.0", b"HTTP/1.1"):
            return BadMessage(f"{version.decode()}: this server speaks HTTP/1.1", status=505)
    return BadMessage(_NEED_A_REQUEST)
