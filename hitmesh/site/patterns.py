"""Names with an asterisk in place of any text, even none. Pure.

Matched from left to right, each piece at its first place: no pattern takes long on any text, as a regular
expression's may.
"""

from __future__ import annotations


def matches(pattern: str, text: str) -> bool:
    """Whether all of `text` is as the pattern says, whose every `*` stands for any text, slashes too."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first):
        return False
    at = len(first)
    for piece in middle:
        at = text.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return at <= len(text) - len(last) and text.endswith(last)


def site_of(page: str) -> str:
    """The site that a page is of: what stands before its path, or before the query of its front page."""
    return page.partition("/")[0].partition("?")[0]


def names(entry: str, page: str) -> bool:
    """Whether an entry of a list names this page: a site, such as `*.example.com`, or pages, by a slash.

    `example.com/blog/*` is `example.com/blog`, too, which is that folder's own page.
    """
    if "/" not in entry:
        return matches(entry, site_of(page))
    return matches(entry, page) or (entry.endswith("/*") and entry[:-2] == page)
