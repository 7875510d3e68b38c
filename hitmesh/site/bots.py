"""Who says by its User-Agent that it is no visitor: a crawler, a monitor, a maker of link previews. Pure.

By the list of crawler-user-agents. Libraries and driven browsers are taken for visitors: servers count by libraries, and
who tests a page wants to see it counted; a page's script leaves driven browsers out by itself.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final

BOT: Final = "bot"
PREVIEW: Final = "link preview"

_VISITORS: Final = frozenset(("http-library", "browser-automation"))
_PREVIEWS: Final = "social-preview"
_AT_ONCE: Final = 25  # patterns in one expression: more at once are slower
_READ_CHARS: Final = 256  # of a User-Agent, of which hardly any is longer: each costs a microsecond or two, once


def kind_of(user_agent: str) -> str:
    """BOT, PREVIEW, or nothing for a visitor. The first one that isn't empty takes a tenth of a second."""
    return _kind_of(user_agent[:_READ_CHARS]) if user_agent else ""


@lru_cache(maxsize=4096)
def _kind_of(read: str) -> str:
    return next((kind for kind, expression in _expressions() if expression.search(read)), "")


@cache
def _expressions() -> list[tuple[str, re.Pattern[str]]]:
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA  # some megabytes, which a mesh without browsers never needs

    found: dict[str, list[str]] = {PREVIEW: [], BOT: []}
    for entry in CRAWLER_USER_AGENTS_DATA:
        tags = frozenset(entry["tags"])
        if not tags <= _VISITORS:
            found[PREVIEW if _PREVIEWS in tags else BOT].append(entry["pattern"])
    return [
        (kind, re.compile("|".join(patterns[at : at + _AT_ONCE])))
        for kind, patterns in found.items()
        for at in range(0, len(patterns), _AT_ONCE)
    ]
