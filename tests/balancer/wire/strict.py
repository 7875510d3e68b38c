"""The head of an HTTP/1.1 request, read by refusing whatever RFC 9110 and 9112 let one refuse. Pure.

Written to be checked by eye: it splits at CRLF and looks at characters, without regular expressions.
The backend reads with it what a proxy forwards; the oracle reads with it what a client sends.
Bodies are in `strict_body`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALPHA: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS: Final = b"0123456789"
HEX: Final = DIGITS + b"abcdefABCDEF"
TCHAR: Final = frozenset(b"!#$%&'*+-.^_`|~" + DIGITS + ALPHA)
# RFC 3986's characters, and those that browsers send beyond them. What can start a fragment, end a
# quoted string or a tag, or be taken for a slash is out.
TARGET_CHARS: Final = frozenset(range(0x21, 0x7F)) - frozenset(b'#"<>\\')
VALUE_CHARS: Final = frozenset(b"\t ") | frozenset(range(0x21, 0x7F)) | frozenset(range(0x80, 0x100))
REG_NAME_CHARS: Final = frozenset(ALPHA + DIGITS + b"-._~!$&'()*+;=%")  # without ",": a list of hosts is none
SINGLE: Final = (b"Host", b"Content-Type")  # as gunicorn has it (RFC 9110, 5.3)
METHOD_BYTES: Final = 32
LENGTH_DIGITS: Final = 18
CHUNKED: Final = -1
Pair = tuple[bytes, bytes]


class Refused(Exception):
    """Bytes that aren't a request; `status` is what fits best."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.why = why
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request line and its fields; `length` is CHUNKED or the body's bytes."""

    method: bytes
    target: bytes
    minor: int
    pairs: tuple[Pair, ...]
    length: int

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field, given in small letters."""
        return [value for each, value in self.pairs if each.lower() == name]

    @property
    def host(self) -> bytes | None:
        """The one Host, which HTTP/1.0 may lack."""
        return next(iter(self.values(b"host")), None)

    @property
    def tokens(self) -> frozenset[bytes]:
        """What Connection names, in small letters."""
        lists = [value.lower().split(b",") for value in self.values(b"connection")]
        return frozenset(each.strip(b" \t") for tokens in lists for each in tokens) - {b""}

    @property
    def persists(self) -> bool:
        """Whether another request may follow on the connection (RFC 9112, 9.3)."""
        tokens = self.tokens
        return b"close" not in tokens and (self.minor == 1 or b"keep-alive" in tokens)


def read_head(head: bytes) -> Head:
    """A head without its blank line."""
    line, *lines = head.split(b"\r\n")
    method, target, minor = read_line(line)
    pairs = read_fields(lines)
    hosts = [value for name, value in pairs if name.lower() == b"host"]
    if minor == 1 and not hosts:
        raise Refused("no Host")
    for host in hosts:
        check_host(host)
    return Head(method, target, minor, pairs, read_framing(pairs, minor))


def read_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version of a request line."""
    if b"\r" in line or b"\n" in line:
        raise Refused("a bare CR or LF in the request line")
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Refused("a request line is three words with one space between them")
    method, target, version = parts
    if not is_token(method) or len(method) > METHOD_BYTES:
        raise Refused("an odd method")
    if not target or not TARGET_CHARS.issuperset(target):
        raise Refused("an odd character in the target")
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        known = len(version) == 8 and version.startswith(b"HTTP/") and version[6:7] == b"."
        raise Refused(
            "a version other than HTTP/1.0 and HTTP/1.1",
            505 if known and version[5] in DIGITS and version[7] in DIGITS else 400,
        )
    if not target.startswith(b"/") and (target != b"*" or method != b"OPTIONS") and method != b"CONNECT":
        split_url(target)
    return method, target, int(version[7:])


def split_url(target: bytes) -> tuple[bytes, bytes]:
    """Authority and the rest (which may be nothing) of an http or https URL."""
    scheme, colon, rest = target.partition(b"://")
    if not colon or scheme.lower() not in (b"http", b"https"):
        raise Refused("a target that is neither a path nor an http URL")
    end = min([at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0], default=len(rest))
    if b"@" in rest[:end]:
        raise Refused("a user's name in a URL")
    check_host(rest[:end])
    return rest[:end], rest[end:]


def check_host(host: bytes) -> None:
    """uri-host [ ":" port ], not empty (RFC 9110, 4.2.1 and 7.2)."""
    if host.startswith(b"["):
        address, bracket, port = host[1:].partition(b"]")
        good = bool(bracket) and 2 <= len(address) <= 45 and all(each in HEX + b":." for each in address)
        port = b":" + port if port and not port.startswith(b":") else port[1:]
    else:
        address, _, port = host.partition(b":")
        good = 1 <= len(address) <= 255 and REG_NAME_CHARS.issuperset(address) and _percents(address)
        name = address.removesuffix(b".")
        good = good and bool(name) and not name.endswith(b".")
    if not good or len(port) > 5 or not all(each in DIGITS for each in port) or int(port or b"0") > 65_535:
        raise Refused("an invalid Host")


def _percents(name: bytes) -> bool:
    return all(len(after) >= 2 and after[0] in HEX and after[1] in HEX for after in name.split(b"%")[1:])


def read_fields(lines: list[bytes]) -> tuple[Pair, ...]:
    """The field lines of a head or a trailer section, each without its CRLF."""
    pairs: list[Pair] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if b"\r" in line or b"\n" in line:
            raise Refused("a bare CR or LF in a field line")
        if line[:1] in (b" ", b"\t"):
            raise Refused("a folded line")
        if not colon or not is_token(name):
            raise Refused("an odd field name, or no name")
        if not VALUE_CHARS.issuperset(value):
            raise Refused("a control character in a value")
        pairs.append((name, value.strip(b" \t")))
    for single in SINGLE:
        if sum(name.lower() == single.lower() for name, _ in pairs) > 1:
            raise Refused(f"several {single.decode()} fields")
    return tuple(pairs)


def read_framing(pairs: tuple[Pair, ...], minor: int) -> int:
    """CHUNKED, or the length; the strictest reading of RFC 9112, 6.3."""
    codings = [value for name, value in pairs if name.lower() == b"transfer-encoding"]
    lengths = [value for name, value in pairs if name.lower() == b"content-length"]
    if codings and lengths:
        raise Refused("Content-Length and Transfer-Encoding")
    if len(codings) > 1 or len(lengths) > 1:
        raise Refused("several Content-Length or Transfer-Encoding fields")
    for coding in codings:
        if minor == 0:
            raise Refused("Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            listed = [each.strip(b" \t") for each in coding.lower().split(b",")]
            unknown = all(is_token(each) for each in listed) and b"chunked" not in listed[:-1]
            raise Refused("a transfer coding other than chunked", 501 if unknown else 400)
        return CHUNKED
    for length in lengths:
        if not 1 <= len(length) <= LENGTH_DIGITS or not all(each in DIGITS for each in length):
            raise Refused("an odd Content-Length")
        return int(length)
    return 0


def is_token(data: bytes) -> bool:
    """RFC 9110, 5.6.2."""
    return bool(data) and TCHAR.issuperset(data)
