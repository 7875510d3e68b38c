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


def is_site_of(entry: str, page: str) -> bool:
    """Whether a page is one that this entry of a list names: a site, such as `*.example.com`, or pages, by a slash."""
    return matches(entry, page if "/" in entry else page.partition("/")[0])
