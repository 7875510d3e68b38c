"""The PROXY protocol, v1 and v2: what a proxy in front says of its client. Pure.

Owns the header's bytes. It must not know sockets, nor who may say so.

The specification is HAProxy's doc/proxy-protocol.txt, sections 2.1 and 2.2. A listed peer must
send a header, and nobody else may: whether there is one is not guessed from the bytes. What doesn't
match exactly is a ProxyProtocolError, the same however the bytes come in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from hitmesh.errors import HitmeshError

V1_BYTES: Final = 107  # with its CRLF (section 2.1)
V2_BYTES: Final = 4096  # with all that follows the addresses: room for a certificate, and as much as nginx takes

_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED: Final = 16  # signature, version and command, family and transport, length
_LOCAL: Final = 0
_PROXY: Final = 1
_FAMILIES: Final = 4  # unspecified, IPv4, IPv6, UNIX
_TRANSPORTS: Final = 3  # unspecified, stream, datagram
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_PORT_DIGITS: Final = 5


class ProxyProtocolError(HitmeshError):
    """Bytes that aren't a PROXY header."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole header: `consumed` bytes of it, and `rest`, what was fed behind it.

    Without addresses (LOCAL, UNKNOWN, or a transport that isn't TCP) the real ones count. An
    IPv4 address in IPv6 clothes is given as IPv4.
    """

    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    consumed: int
    rest: bytes

    @property
    def client(self) -> str:
        """The source's address; empty when the peer's own is meant."""
        return self.source[0] if self.source else ""


class ProxyHeader:
    """The header at the beginning of one connection, to be fed until it is whole, and no longer."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Parsed | None:
        """The header, once it is whole. Raises ProxyProtocolError."""
        held = self._held = self._held + data
        if held[: len(_V2)] == _V2[: len(held)]:
            return _v2(held)
        if held[: len(_V1)] == _V1[: len(held)]:
            return _v1(held)
        raise ProxyProtocolError("these bytes are no PROXY header", hint="see balancer.proxy_protocol")


def _v1(held: bytes) -> Parsed | None:
    end = held.find(b"\r\n", 0, V1_BYTES)
    line = held[:end]  # all but the last byte, which may be half of a CRLF, while there is none
    if b"\r" in line or b"\n" in line or (end < 0 and held.endswith(b"\n")):
        raise ProxyProtocolError("a bare CR or LF in a PROXY header")
    if end < 0:
        if len(held) >= V1_BYTES:
            raise ProxyProtocolError(f"a PROXY header of more than {V1_BYTES} bytes")
        return None
    words = line.split(b" ")
    source = destination = None
    if words[1] != b"UNKNOWN":  # what follows that is to be ignored
        if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
            raise ProxyProtocolError("a PROXY header with odd words")
        kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
        source = _address(kind, words[2]), _port(words[4])
        destination = _address(kind, words[3]), _port(words[5])
    return Parsed(source, destination, end + 2, held[end + 2 :])


def _address(kind: type[IPv4Address] | type[IPv6Address], word: bytes) -> str:
    if b"%" in word:
        raise ProxyProtocolError("a PROXY header with an interface in an address")
    try:
        return _text(kind(word.decode("ascii")))
    except (AddressValueError, UnicodeDecodeError) as error:
        raise ProxyProtocolError("a PROXY header with an odd address") from error


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > _PORT_DIGITS or (word[0] == ord("0") and len(word) > 1) or int(word) > 0xFFFF:
        raise ProxyProtocolError("a PROXY header with an odd port")
    return int(word)


def _v2(held: bytes) -> Parsed | None:
    # Byte by byte: what is wrong is told as soon as it is here, so that all ways of feeding agree.
    if len(held) > 12 and (held[12] >> 4 != 2 or held[12] & 0xF not in (_LOCAL, _PROXY)):
        raise ProxyProtocolError("a PROXY header of an unknown version or command")
    if len(held) > 13 and held[12] & 0xF == _PROXY and (held[13] >> 4 >= _FAMILIES or held[13] & 0xF >= _TRANSPORTS):
        raise ProxyProtocolError("a PROXY header of an unknown family or transport")
    if len(held) < _V2_FIXED:
        return None
    length = int.from_bytes(held[14:_V2_FIXED])
    end = _V2_FIXED + length
    if end > V2_BYTES:
        raise ProxyProtocolError(f"a PROXY header of more than {V2_BYTES} bytes")
    size = {_TCP4: 4, _TCP6: 16}.get(held[13], 0) if held[12] & 0xF == _PROXY else 0
    ports = 2 * size
    if size and length < ports + 4:
        raise ProxyProtocolError("a PROXY header too short for its addresses")
    if len(held) < end:
        return None
    source = destination = None
    if size:
        block = held[_V2_FIXED:end]
        kind = IPv4Address if size == 4 else IPv6Address
        source = _text(kind(block[:size])), int.from_bytes(block[ports : ports + 2])
        destination = _text(kind(block[size:ports])), int.from_bytes(block[ports + 2 : ports + 4])
    return Parsed(source, destination, end, held[end:])


def _text(address: IPv4Address | IPv6Address) -> str:
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
