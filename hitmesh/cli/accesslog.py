"""From a line of an access log to the hit that it stands for. Pure.

Every line whose request names a target is a hit: any method, any status, also when the rest of
the line is missing. The page is SITE/path without the query string. A path that doesn't decode
to a page (control characters, bytes that aren't UTF-8, dot segments) counts under its text as it
stands in the log.

`hit_path` gives the page as the rest of a URL's path, percent-encoded: what the server decodes.
A trailing slash stays, because whether it matters is the server's setting.
"""

from __future__ import annotations

import json
import re
from typing import Final, Literal
from urllib.parse import quote

from hitmesh.errors import PageError
from hitmesh.protocol.pages import check_page, page_from_path

Format = Literal["combined", "json"]
DEFAULT_SITE: Final = "example.com"  # reserved for examples: no real site's total is ever mixed up

# The request is the first quoted part: METHOD TARGET [HTTP/x.y]. Inside it, a quote is escaped.
# The closing quote makes it whole; what follows may be missing.
_REQUEST = re.compile(r'(?:^|\s)"((?:[^"\\]|\\.)*)"')
_METHOD_TARGET = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (.*?)(?: HTTP/[0-9.]+)?")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)(.*)")
_PORT = re.compile(r":[0-9]*$")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def hit_path(line: bytes, *, site: str = DEFAULT_SITE, log_format: Format = "combined") -> str | None:
    """The percent-encoded page of one line, or None when it holds no request.

    `site` is for lines that don't name one themselves.
    """
    # A byte that isn't UTF-8 is shown as \xNN, as servers write it.
    text = line.decode("utf-8", errors="backslashreplace").strip("\r\n")
    return _from_json(text, site) if log_format == "json" else _from_combined(text, site)


def _from_combined(text: str, site: str) -> str | None:
    found = _REQUEST.search(text)
    if not found:
        return None
    return _from_request(found[1], _virtual_host(text[: found.start()]) or site)


def _virtual_host(before: str) -> str:
    """The virtual host that a vhost_combined line starts with; `before` is all before the request.

    combined is `client ident user [time]`, vhost_combined has the host in front. The ident, a
    hyphen in practice, tells which it is: a user's name may hold spaces.
    """
    fields = before.partition("[")[0].split()
    if len(fields) >= 4 and fields[1] != "-" and fields[2] == "-":
        return _PORT.sub("", fields[0]).lower()
    return ""


def _from_json(text: str, site: str) -> str | None:
    """One JSON object: "page", or "path" or "request" with an optional "host"."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    page, path, request = (_text(record.get(key)) for key in ("page", "path", "request"))
    host = _PORT.sub("", _text(record.get("host"))).lower() or site
    if page:
        return _encode(page)
    if path:
        return _from_target(path, host)
    return _from_request(request, host) if request else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _from_request(request: str, site: str) -> str | None:
    found = _METHOD_TARGET.fullmatch(request)
    return _from_target(found[2], site) if found and found[2] else None


def _from_target(target: str, site: str) -> str:
    if absolute := _ABSOLUTE.fullmatch(target):  # as a proxy is asked; it names the site itself
        site = _PORT.sub("", absolute[1].rpartition("@")[2]).lower() or site
        target = absolute[2]
    path = target.partition("?")[0]
    raw = site + path if path.startswith("/") else f"{site}/{path}"
    try:
        # Checked without the trailing slash, as the server may see it, but kept.
        page_from_path(raw)
        page = page_from_path(raw, drop_trailing_slash=False)
    except PageError:
        page = raw
    return _encode(page)


def _encode(page: str) -> str:
    """The URL path of a page. What can't stand in a page is written out, so that it can be counted."""
    try:
        check_page(page)
    except PageError:
        page = _UNPRINTABLE.sub(lambda char: char[0].encode("unicode_escape").decode(), page)
        page = "/".join({".": "%2E", "..": "%2E%2E"}.get(segment, segment) for segment in page.split("/"))
    return quote(page, safe="/")
