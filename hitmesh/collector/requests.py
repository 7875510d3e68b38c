"""What a request asks for: pages, counts and lists, out of bytes that anybody may have sent. Pure.

Every mistake is a RequestError with the HTTP status that fits and a sentence that says what was
wrong and what would be right. A batch is all or nothing: one bad line refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from hitmesh.collector import decoders
from hitmesh.collector.decoders import MAX_HITS
from hitmesh.errors import HitmeshError, PageError
from hitmesh.protocol.pages import are_plain
from hitmesh.site.badge import Badge, BadgeError
from hitmesh.site.naming import Naming, NotAllowed

MAX_LIMIT: Final = 1000  # totals in one answer
DEFAULT_LIMIT: Final = 100

NDJSON: Final = "application/x-ndjson"
MSGPACK: Final = "application/msgpack"
SHOWN_CHARS: Final = 100  # of what was sent, in the description of what is wrong with it

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_page_and_count = attrgetter("page", "count")
_LINE_FORM: Final = f'a line is {{"page": "site/path", "count": 3}}, count from 1 to {MAX_HITS} or left out'
_MAP_FORM: Final = f"a batch is one msgpack map of page to count, each from 1 to {MAX_HITS}"


class RequestError(HitmeshError):
    """A request that can't be carried out as it stands; changes nothing."""

    def __init__(self, status: int, title: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.title = title
        self.description = description


def page_of(path: str, query: str, naming: Naming) -> str:
    """The page that a URL names: the decoded path behind its route, and its query string as WSGI gives it.

    The query comes as it was sent, bytes as Latin-1. What is kept of both is the page; a kept query
    follows a question mark, unless it is empty.
    """
    return _checked(path, check_text(query) if query and naming.keeps_query else "", "", naming)


def check_text(latin: str) -> str:
    """The text that these bytes are, given as Latin-1, as WSGI does."""
    try:
        return latin.encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise RequestError(400, "Bad page", "a page is not valid UTF-8; percent-encode UTF-8 bytes") from error


def _page_in_batch(page: str, where: str, naming: Naming) -> str:
    """The page that an entry of a batch names: a name, not a URL. So a question mark is a part of it."""
    if naming.keeps_query:
        path, _, query = page.partition("?")
        return _checked(path, query, where, naming)
    return _checked(page, "", where, naming)


def _checked(path: str, query: str, where: str, naming: Naming) -> str:
    try:
        return naming.page(path, query)
    except PageError as error:
        status, title = (403, "Not counted here") if isinstance(error, NotAllowed) else (400, "Bad page")
        raise RequestError(status, title, where + error.message) from error


def batch_of(content_type: str | None, body: bytes, *, max_pages: int, naming: Naming) -> dict[str, int]:
    """The pages and counts of a POST /hits; the same page on several lines is summed."""
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind == NDJSON:
        return _ndjson(body, max_pages, naming)
    if kind == MSGPACK:
        return _msgpack(body, max_pages, naming)
    raise RequestError(415, "Unsupported content type", f"a batch is {NDJSON} or {MSGPACK}, {_given(content_type)}")


def _given(content_type: str | None) -> str:
    return f"not {content_type[:SHOWN_CHARS]!r}" if content_type else "and its Content-Type says which"


def _ndjson(body: bytes, max_pages: int, naming: Naming) -> dict[str, int]:
    counts = _plain_lines(body, max_pages) if naming.is_plain else None
    return _line_by_line(body, max_pages, naming) if counts is None else counts


def _plain_lines(body: bytes, max_pages: int) -> dict[str, int] | None:
    """What `_line_by_line` says of a batch, if each line is one object, and nothing else, of a plain page.

    Without a look at each: None when there may be something to say of one.
    """
    text = body.removesuffix(b"\n")
    lines = text.count(b"\n") + 1
    # To the decoder a new line is a space: only between objects may there be one, and between all of them.
    is_cut = text.startswith(b"{") and text.endswith(b"}") and text.count(b"}\n{") == lines - 1
    if not is_cut or lines > max_pages:
        return None
    try:
        hits = decoders.line.decode_lines(text)
    except (ValueError, RecursionError):
        return None
    counts: dict[str, int] = dict(map(_page_and_count, hits))
    if len(hits) != lines or not are_plain(counts):
        return None
    if len(counts) < lines:  # a page stands there more than once
        counts = dict.fromkeys(counts, 0)
        for hit in hits:
            counts[hit.page] += hit.count
    return counts


def _line_by_line(body: bytes, max_pages: int, naming: Naming) -> dict[str, int]:
    counts: dict[str, int] = {}
    lines = 0
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        lines += 1
        if lines > max_pages:
            raise _too_many(max_pages)
        try:
            hit = decoders.line.decode(line)
        except (ValueError, RecursionError) as error:
            raise RequestError(400, "Bad batch", f"line {number}: {_wrong_line(line, error)}") from error
        page = _page_in_batch(hit.page, f"line {number}: ", naming)
        counts[page] = counts.get(page, 0) + hit.count
    return _not_empty(counts)


def _wrong_line(line: bytes, error: Exception) -> str:
    if line.startswith(_BYTE_ORDER_MARK):
        return "it begins with a byte order mark; send UTF-8 without one"
    if isinstance(error, UnicodeDecodeError):
        return "it is not valid UTF-8"
    return f"{error}; {_LINE_FORM}"


def _msgpack(body: bytes, max_pages: int, naming: Naming) -> dict[str, int]:
    size = _map_size(body)
    if size > max_pages:
        raise _too_many(max_pages)
    try:
        given = decoders.pages.decode(body)
    except (ValueError, RecursionError) as error:
        what = "a page is not valid UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise RequestError(400, "Bad batch", f"{what}; {_MAP_FORM}") from error
    if len(given) != size:
        raise RequestError(400, "Bad batch", "a page stands twice in the map")
    if given and naming.is_plain and are_plain(given):
        return given
    counts: dict[str, int] = {}
    for name, count in given.items():
        page = _page_in_batch(name, f"page {name[:SHOWN_CHARS]!r}: ", naming)
        counts[page] = counts.get(page, 0) + count
    return _not_empty(counts)


def _map_size(body: bytes) -> int:
    """The number of pairs that a msgpack map's header announces; of several equal keys all count."""
    first = body[0] if body else 0
    if 0x80 <= first <= 0x8F:
        return first - 0x80
    width = {0xDE: 2, 0xDF: 4}.get(first)
    if width is None or len(body) < 1 + width:
        raise RequestError(400, "Bad batch", _MAP_FORM)
    return int.from_bytes(body[1 : 1 + width], "big")


def _too_many(max_pages: int) -> RequestError:
    return RequestError(413, "Batch too large", f"a batch has at most {max_pages} pages; send several")


def _not_empty(counts: dict[str, int]) -> dict[str, int]:
    if not counts:
        raise RequestError(400, "Bad batch", "the batch is empty")
    return counts


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What GET /totals asks for."""

    prefix: str
    limit: int
    after: str
    by_total: bool


def badge_of(params: Mapping[str, Any]) -> Badge:
    """The look that the query of GET /badge/<page> asks for; what it doesn't know it leaves alone, as proxies add things."""
    look = {name: params[name] for name in ("label", "color", "style") if name in params}
    for name in ("count", *look):
        if not isinstance(params.get(name, ""), str):
            raise RequestError(400, "Bad query", f"{name!r} is given twice")
    try:
        return Badge(**look)
    except BadgeError as error:
        raise RequestError(400, "Bad query", error.message) from error


_DIGITS = re.compile(r"[0-9]{1,6}")


def list_query(params: dict[str, Any]) -> ListQuery:
    """The query of GET /totals: prefix, limit, after, sort; an empty one is as good as none."""
    known = ("prefix", "limit", "after", "sort")
    for name, value in params.items():
        if name not in known:
            shown = name[:SHOWN_CHARS]
            raise RequestError(400, "Bad query", f"{shown!r} is not a parameter; known are {', '.join(known)}")
        if not isinstance(value, str):
            raise RequestError(400, "Bad query", f"{name!r} is given twice")
    limit = params.get("limit") or str(DEFAULT_LIMIT)
    if not _DIGITS.fullmatch(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise RequestError(400, "Bad query", f"limit is a number from 1 to {MAX_LIMIT}, not {limit[:SHOWN_CHARS]!r}")
    sort = params.get("sort") or "page"
    if sort not in ("page", "top"):
        raise RequestError(400, "Bad query", f"sort is 'page' or 'top', not {sort[:SHOWN_CHARS]!r}")
    if sort == "top" and params.get("after"):
        raise RequestError(400, "Bad query", "after goes with sort=page only: the order by total moves")
    return ListQuery(params.get("prefix", ""), int(limit), params.get("after", ""), sort == "top")
