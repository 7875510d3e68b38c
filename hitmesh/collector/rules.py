"""The live rules of what a page is called and which hits are visits, made ready for use when they change."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from hitmesh.settings.live import Live
from hitmesh.site.naming import Naming
from hitmesh.site.visits import RELOAD, Entry, Visits


class Rules:
    """Those in force in one worker."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._naming = Naming(live.config.pages)
        self._counting = live.config.counting
        self._visits = Visits(self._counting)
        self.ignored: Counter[str] = Counter()
        """Hits that weren't counted, by reason: a few fixed words."""

    @property
    def naming(self) -> Naming:
        """What pages are called now."""
        pages = self._live.config.pages
        if pages is not self._naming.rules:
            self._naming = Naming(pages)
        return self._naming

    def ignores(self, entry: Entry, page: str) -> tuple[str, Callable[[], None] | None]:
        """Why a hit of a page isn't counted, or nothing; and what to call once it is, if anybody is to be remembered."""
        counting, visits = self._live.config.counting, self._visits
        if counting is not self._counting:
            self._counting = counting
            visits.follow(counting)
        why, counted = visits.why_not(entry), None
        if not why and counting.reload_s:
            now_s = time.time()
            visitor = visits.visitor(entry, page, now_s)
            if visits.is_reload(visitor, now_s):
                why = RELOAD
            else:
                counted = partial(visits.counted, visitor, now_s)
        if why:
            self.ignored[why] += 1
        return why, counted
