"""From a line of an access log to the hit that it stands for. Pure.

Every line whose request names a target is a hit: any method, any status, also when the rest of
the line is missing. The page is SITE/path without the query string. A path that doesn't decode
to a page (control characters, bytes that aren't UTF-8, dot segments) counts under its text as it
stands in the log. A line whose site or request can't be told for certain is refused with the
reason: a hit is never booked on a page that is only guessed.

`hit_path` gives the page as the rest of a URL's path, percent-encoded: what the server decodes.
A trailing slash stays, because whether it matters is the server's setting.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any, Final, Literal
from urllib.parse import quote

from hitmesh.errors import PageError
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import host_of
from hitmesh.protocol.pages import check_page, page_from_path

Format = Literal["combined", "json"]
DEFAULT_SITE: Final = "example.com"  # reserved for examples: no real site's total is ever mixed up

# The request is the quoted part behind the time, which stands in brackets: what is before them, a user's
# name above all, may be quoted too. Inside it a quote is escaped; the closing one makes it whole, and
# nothing of it follows at once. What comes then may be missing. Where there is no time, any quoted part may be it.
_QUOTED: Final = r'"((?:[^"\\]|\\.)*)"(?=[\s"]|$)'
_TIME: Final = re.compile(r'\]\s+(?=")')
_REQUEST: Final = re.compile(_QUOTED)
_ANYWHERE: Final = re.compile(r"(?:^|\s)" + _QUOTED)
_METHOD_TARGET: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (.*?)(?: HTTP/[0-9.]+)?")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)(.*)")
_LIST: Final = re.compile(r",\s+")  # of addresses, as X-Forwarded-For has them
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# How servers write what would end a quoted part or a line: nginx all of it as \xHH, Apache some of it as in C.
_ESCAPE: Final = re.compile(r'\\(x[0-9A-Fa-f]{2}|["\\bfnrtv])')
_C_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_HOSTS: Final = ("host", "http_host", "vhost")
_TARGETS: Final = ("path", "uri", "request_uri")


class LineError(ValueError):
    """A line that stands for no hit, or for one that can't be told; the message is the reason."""


def hit_path(line: str, *, site: str = DEFAULT_SITE, log_format: Format = "combined") -> str:
    """The percent-encoded page of one line. Raises LineError.

    Bytes that aren't UTF-8 are lone surrogates in `line` (surrogateescape). `site` is for lines
    that don't name one themselves.
    """
    return _from_json(line, site) if log_format == "json" else _from_combined(line.strip("\r\n"), site)


def _from_combined(text: str, site: str) -> str:
    time = _TIME.search(text)
    found = _REQUEST.match(text, time.end()) if time else _ANYWHERE.search(text)
    if not found:
        raise LineError("no quoted request in it")
    return _from_request(found[1], _virtual_host(text[: found.start()]) or site)


def _virtual_host(before: str) -> str:
    """The virtual host that a vhost_combined line starts with; `before` is all before the request.

    combined is `client ident user [time]`, vhost_combined has the host in front. The ident, a
    hyphen in practice, tells which it is: a user's name may hold spaces, and instead of a client
    there may be a list of them.
    """
    fields = _LIST.sub(",", before.partition(" [")[0]).split()
    if len(fields) >= 4 and fields[1] != "-" and fields[2] == "-":
        return _site(fields[0])
    return ""


def _from_json(text: str, site: str) -> str:
    """One JSON object: "page"; or a path or a "request", perhaps with a host. Caddy's request is an object itself."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LineError("not a JSON object") from error
    if not isinstance(record, dict):
        raise LineError("not a JSON object")
    if page := _text(record, "page"):
        return _encode(page)
    request = record.get("request")
    if isinstance(request, dict):
        record = request
    host = _site(_text(record, *_HOSTS)) or site
    if path := _text(record, *_TARGETS):
        return _from_target(path, host)
    if isinstance(request, str):
        return _from_request(request, host)
    raise LineError('no "page", "path", "uri" or "request" in it')


def _text(record: dict[str, Any], *keys: str) -> str:
    """The first of these fields that is a text."""
    return next((value for key in keys if isinstance(value := record.get(key), str) and value), "")


def _site(host: str) -> str:
    """The site of a Host as logs have it: lower case, no port; empty for a hyphen, which says that there was none."""
    if host in ("", "-"):
        return ""
    if host.count(":") > 1 and not host.startswith("["):
        return _bare_ipv6(host)
    try:
        return host_of(host.encode("utf-8", "surrogateescape")).decode()
    except (BadMessage, UnicodeError) as error:
        raise LineError("its host is neither a name nor an address") from error


def _bare_ipv6(host: str) -> str:
    """An IPv6 address without brackets, behind which a port can't always be told from the address's end."""
    address, _, port = host.rpartition(":")
    with_port = port.isdecimal() and _is_ipv6(address)
    if not _is_ipv6(host):
        if with_port:
            return address.lower()
        raise LineError("its host is neither a name nor an address")
    if with_port:
        raise LineError("its host is an IPv6 address with or without a port: brackets would tell")
    return host.lower()


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _from_request(request: str, site: str) -> str:
    found = _METHOD_TARGET.fullmatch(request)
    if not found:
        raise LineError("its request isn't METHOD TARGET")
    return _from_target(found[2], site)


def _from_target(target: str, site: str) -> str:
    if absolute := _ABSOLUTE.fullmatch(target):  # as a proxy is asked; it names the site itself
        site = _site(absolute[1].rpartition("@")[2]) or site
        target = absolute[2]
    elif not target.startswith(("/", "?", "*")):
        raise LineError("its request is for something that isn't a path")
    path = target.partition("?")[0]
    raw = site + path if path.startswith("/") else f"{site}/{path}"
    try:
        # Checked without the trailing slash, as the server may see it, but kept.
        unescaped = quote(_unescape(raw), safe="%/", errors="surrogateescape")
        page_from_path(unescaped)
        page = page_from_path(unescaped, drop_trailing_slash=False)
    except PageError:
        page = raw
    return _encode(page)


def _unescape(text: str) -> str:
    """What a server has written with a backslash, as it was."""

    def plain(found: re.Match[str]) -> str:
        escape = found[1]
        if escape.startswith("x"):
            return bytes([int(escape[1:], 16)]).decode("ascii", "surrogateescape")
        return _C_ESCAPES.get(escape, escape)

    if "\\" not in text:
        return text
    # Bytes of one character are escaped one by one, or stand there as they are.
    return _ESCAPE.sub(plain, text).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _encode(page: str) -> str:
    """The URL path of a page. What can't stand in a page is written out, so that it can be counted."""
    try:
        check_page(page)
    except PageError:
        page = _UNPRINTABLE.sub(lambda char: _written_out(char[0]), page)
        page = "/".join({".": "%2E", "..": "%2E%2E"}.get(segment, segment) for segment in page.split("/"))
    return quote(page, safe="/")


def _written_out(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that isn't UTF-8, as servers write it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
