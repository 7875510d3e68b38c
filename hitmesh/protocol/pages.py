"""Page names: what may be counted, and which partition counts it. Pure.

A page is `site/path`: non-empty UTF-8 of at most 1,024 bytes, without control characters and
without `.` or `..` segments. Names that look the same to a reader are kept apart only where a
web server would: `a/b` and `a//b` are two pages, `a/b/` and `a/b` one (by default).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from urllib.parse import quote, unquote_to_bytes

from hitmesh.errors import PageError

MAX_PAGE_BYTES = 1024  # a URL path beyond this is an attack or a bug; it also bounds Consul's keys


def check_page(page: str) -> str:
    """Return `page` unchanged when it may be counted; raise PageError with the reason otherwise."""
    if not page or page.strip("/") == "":
        raise PageError("a page is empty; it is written site/path")
    if page.startswith("/"):
        raise PageError("a page starts with its site, not with a slash; it is written site/path")
    try:
        size = len(page.encode())
    except UnicodeEncodeError as error:
        raise PageError("a page is not valid UTF-8") from error
    if size > MAX_PAGE_BYTES:
        raise PageError(f"a page has {size} bytes; the limit is {MAX_PAGE_BYTES}")
    if not page.isprintable():
        # isprintable also refuses line separators, surrogates and unassigned code points;
        # those that are harmless (format characters, no-break spaces) are let through.
        for char in page:
            if _is_control(char):
                raise PageError(f"a page holds the control character U+{ord(char):04X}")
    for segment in page.split("/"):
        if segment in (".", ".."):
            raise PageError(f"a page holds the path segment {segment!r}")
    return page


def are_plain(pages: Collection[str]) -> bool:
    """Whether all of these may be counted just as they stand; of many at once, a tenth of what looking at each takes.

    False says nothing against them: one is of a rarer kind, with a trailing slash or a question mark, or is no page.
    """
    text = "\n/" + "/\n/".join(pages) + "/\n"  # each segment between slashes, each page on a line
    if any(found in text for found in ("\n//", "//\n", "/./", "/../", "?")) or text.count("\n") != len(pages) + 1:
        return False
    longest = max(map(len, pages), default=0) * (1 if text.isascii() else 4)  # bytes of UTF-8, at most
    return longest <= MAX_PAGE_BYTES and text.replace("\n", "").isprintable()


def _is_control(char: str) -> bool:
    # C0, DEL, C1 (Unicode category Cc), line and paragraph separators, surrogates.
    point = ord(char)
    return point < 0x20 or 0x7F <= point <= 0x9F or point in (0x2028, 0x2029) or 0xD800 <= point <= 0xDFFF


def page_from_path(raw: str, *, drop_trailing_slash: bool = True) -> str:
    """The page named by `raw`, the percent-encoded rest of a URL's path (no query string).

    Raises PageError when it decodes to something that can't be counted.
    """
    try:
        page = unquote_to_bytes(raw).decode()
    except UnicodeError as error:  # of its bytes, or of half a surrogate pair in `raw`
        raise PageError("a page is not valid UTF-8; percent-encode UTF-8 bytes") from error
    return check_page(trim(page) if drop_trailing_slash else page)


def trim(page: str) -> str:
    """Drop one trailing slash: `a/b/` and `a/b` are the same page."""
    return page.removesuffix("/")


def is_below(page: str, prefix: str) -> bool:
    """Whether `page` begins with `prefix`; `a/` is also the beginning of `a`, which is its front page."""
    return page.startswith(prefix) or page == trim(prefix)


def page_to_path(page: str) -> str:
    """The URL path of a page: the inverse of `page_from_path`."""
    return quote(page, safe="/")


def partition_of(page: str, partitions: int) -> int:
    """The partition that counts `page`: crc32 of its UTF-8 bytes, modulo `partitions`."""
    return zlib.crc32(page.encode()) % partitions
