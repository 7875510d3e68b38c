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
_READ_CHARS: Final = 512  # of a User-Agent: no visitor's is longer


@lru_cache(maxsize=4096)
def kind_of(user_agent: str) -> str:
    """BOT, PREVIEW, or nothing for a visitor. The first one that isn't empty takes a tenth of a second."""
    read = user_agent[:_READ_CHARS]
    return next((kind for kind, expression in _expressions() if expression.search(read)), "") if read else ""


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
