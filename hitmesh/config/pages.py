"""The tables that say what a page is called and which hits are visits. Owns each setting's type, default, unit and help, and
what contradicts within them; knows nothing of how a collector goes by them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hitmesh.config.addresses import network
from hitmesh.config.sections import Section
from hitmesh.errors import PageError
from hitmesh.protocol.pages import MAX_PAGE_BYTES, check_page

_Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PAGE_BYTES)]
_SITE: re.Pattern[str] = re.compile(r"[a-z0-9.*:\[\]-]+")


class Pages(Section, frozen=True):
    """What belongs to a page's name, of the URL that is hit: a dropped part makes several URLs one page."""

    trailing_slash: Annotated[
        Literal["drop", "keep"], Meta(description="slashes at the end: example.com/blog/ is example.com/blog")
    ] = "drop"
    query: Annotated[Literal["drop", "keep"], Meta(description="what follows the question mark")] = "drop"
    query_keep: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[^&=#\x00-\x20]{1,100}\Z")], ...],
        Meta(max_length=50, description="parameters of a dropped query that stay, in this order"),
    ] = ()
    case: Annotated[
        Literal["keep", "lower"], Meta(description="capitals of site and path: lower makes small ones of them")
    ] = "keep"
    index_files: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[^/\x00-\x1f]{1,100}\Z")], ...],
        Meta(max_length=20, description="names that stand for their folder, such as index.html"),
    ] = ()
    merge: Annotated[
        dict[_Pattern, _Pattern],
        Meta(max_length=500, description="pages that count on another one; an * stands for any text"),
    ] = msgspec.field(default_factory=dict)
    allow: Annotated[
        tuple[_Pattern, ...],
        Meta(
            max_length=500,
            description="sites, and pages, that are counted, such as *.example.com or example.org/blog/*; none: all",
        ),
    ] = ()


class Counting(Section, frozen=True):
    """Which hits of a single page are visits; the others are answered, and not counted."""

    bots: Annotated[
        Literal["ignore", "count"], Meta(description="who says by its User-Agent that it is a crawler or the like")
    ] = "ignore"
    ignore: Annotated[
        tuple[str, ...], Meta(max_length=500, description="addresses and networks whose hits aren't counted")
    ] = ()
    reload_s: Annotated[
        int,
        Meta(ge=0, le=86_400, description="within which the same visitor's next hit of a page isn't counted; 0: it is"),
    ] = 0


def page_problems(pages: Pages, counting: Counting) -> Iterator[str]:
    """What contradicts within the tables."""
    for name, page in pages.merge.items():
        try:
            check_page(page)
        except PageError as error:
            yield f"pages.merge.{name!r}: {page!r} is no page: {error.message}"
        if "*" in page:
            yield f"pages.merge.{name!r}: {page!r} is one page, not a pattern"
    for entry in pages.allow:
        if "/" not in entry and not _SITE.fullmatch(entry):
            yield f"pages.allow: {entry!r} is neither a site, in small letters, nor site/path"
    for text in counting.ignore:
        try:
            network(text)
        except ValueError as error:
            yield f"counting.ignore: {text!r} {error}"
