"""What a head looks like on the other side: which fields go, which come. Pure.

A head that needs nothing removed is forwarded as the bytes that came, with our lines at its end.
The result for a block of fields is kept while the same bytes come again on the same connection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from hitmesh.http.errors import BadMessage
from hitmesh.http.fields import FORWARDED, Pair, without
from hitmesh.http.requests import CHUNKED, Request, RequestFields
from hitmesh.http.responses import Response

PRODUCT: Final = b"hitmesh"  # our pseudonym in Via (RFC 9110, 7.6.3)

# Of one connection only (RFC 9110, 7.6.1; RFC 9113 for the last one).
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te upgrade http2-settings".split()
)
_CODING: Final = frozenset((b"transfer-encoding", b"trailer"))  # which HTTP/1.0 doesn't know
# What only we may say to those behind us; a stranger's are dropped.
_OURS: Final = frozenset((b"forwarded", b"x-real-ip", b"x-request-id"))  # and all that begin with X-Forwarded-


class RequestForwarder:
    """The heads of one client's requests, as the backends get them.

    `peer` is the client's address, `local` the authority to name for HTTP/1.0 clients that name none.
    With `trusted`, what the client says of those before it is kept and added to, in lines of at most
    `field_bytes`: whoever is behind us takes no longer ones than we do.
    """

    __slots__ = ("_block", "_fields", "_for", "_local", "_minor", "_peer", "_scheme", "_trusted", "field_bytes")

    def __init__(self, *, peer: str, scheme: str, local: str, trusted: bool, field_bytes: int) -> None:
        self._peer = peer.encode()
        self._for = _node(peer)
        self._scheme = scheme.encode()
        self._local = local.encode()
        self._trusted = trusted
        self.field_bytes = field_bytes
        self._fields: RequestFields | None = None
        self._minor = 1
        self._block = b""

    def head(self, request: Request, request_id: bytes) -> bytes:
        """The whole head of `request`, for a backend. Raises BadMessage."""
        if request.fields is not self._fields or request.minor != self._minor:
            self._block = self._forwarded(request)
            self._fields, self._minor = request.fields, request.minor
        return b"%b %b HTTP/1.1%b%b\r\n\r\n" % (request.method, request.target, self._block, request_id)

    def _forwarded(self, request: Request) -> bytes:
        """The field lines, up to the value of the last one, which is the request's id."""
        fields = request.fields
        known = fields.known
        trusted = self._trusted
        dropped = _HOP_BY_HOP | fields.connection
        if trusted:
            dropped |= {b"forwarded", b"x-forwarded-for", b"x-request-id"}  # said anew, with what they said
        else:
            dropped |= _OURS.union(name for name in known if name.startswith(FORWARDED))
        said = known.get(b"expect", ())
        if said and (request.minor == 0 or len(said) > 1 or not said[0]):
            dropped |= {b"expect"}  # said once, and not for HTTP/1.0 (RFC 9110, 10.1.1)
        lines = _kept(fields.block, fields.pairs, known, dropped)
        if b"expect" in dropped and fields.expects and request.minor:
            lines += b"\r\nExpect: 100-continue"
        authority = fields.authority or self._local
        if not fields.authority:
            lines = b"\r\nHost: " + authority + lines
        if fields.upgrade and request.minor:  # RFC 9110, 7.8: HTTP/1.0 has none
            lines += b"\r\nConnection: upgrade\r\nUpgrade: " + fields.upgrade
        lines += self._line(b"X-Forwarded-For", _list(known, b"x-forwarded-for", self._peer, trusted))
        if not (trusted and b"x-forwarded-proto" in known):
            lines += b"\r\nX-Forwarded-Proto: " + self._scheme
        if not (trusted and b"x-forwarded-host" in known):
            lines += b"\r\nX-Forwarded-Host: " + authority
        element = b'for=%b;host="%b";proto=%b' % (self._for, authority, self._scheme)
        lines += self._line(b"Forwarded", _list(known, b"forwarded", element, trusted))
        lines += b"\r\nVia: 1.%d " % request.minor + PRODUCT
        if trusted and b"x-request-id" in known:
            self._line(b"X-Request-Id", known[b"x-request-id"][0])
        return lines + b"\r\nX-Request-Id: "

    def _line(self, name: bytes, value: bytes) -> bytes:
        """A line with what the client said, with the CRLF before it: so it may have become too long."""
        line = b"\r\n%b: %b" % (name, value)
        if len(line) - 2 > self.field_bytes:
            raise BadMessage(f"{name.decode()} would be longer than {self.field_bytes} bytes", status=431)
        return line


def response_head(response: Response, minor: int, keep_alive: bool, upgrade: bytes = b"") -> bytes:
    """The whole head of `response`, for a client of HTTP/1.`minor`."""
    fields = response.fields
    if not response.passed_on:
        response.passed_on = _response_head(response, _HOP_BY_HOP | fields.connection)
    if minor and keep_alive and not upgrade:
        return response.passed_on
    head = response.passed_on
    if not minor and fields.length == CHUNKED:
        head = _response_head(response, _HOP_BY_HOP | fields.connection | _CODING)
    if upgrade:
        more = b"Connection: upgrade\r\nUpgrade: " + upgrade
    else:
        more = b"Connection: keep-alive" if keep_alive else b"Connection: close"
    return b"%b%b\r\n\r\n" % (head[:-2], more)


def _response_head(response: Response, dropped: frozenset[bytes]) -> bytes:
    fields = response.fields
    line = response.line if response.minor else b"HTTP/1.1" + response.line[8:]
    return line + _kept(fields.block, fields.pairs, fields.known, dropped) + b"\r\n\r\n"


def _kept(block: bytes, pairs: Sequence[Pair], known: dict[bytes, list[bytes]], dropped: frozenset[bytes]) -> bytes:
    """The lines that stay, each with the CRLF before it."""
    if dropped.isdisjoint(known):  # what Connection names is in it only beside Connection itself
        return block[:-4]
    return without(dropped, block, pairs)


def _list(known: dict[bytes, list[bytes]], name: bytes, ours: bytes, trusted: bool) -> bytes:
    if trusted and name in known:
        return b", ".join([*known[name], ours])
    return ours


def _node(peer: str) -> bytes:
    """A node of Forwarded (RFC 7239, section 6): an IPv6 address stands in brackets and quotes."""
    try:
        if ipaddress.ip_address(peer.partition("%")[0]).version == 6:
            return f'"[{peer}]"'.encode()
    except ValueError:
        pass
    return peer.encode()
