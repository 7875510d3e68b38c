"""What of the hits is a visit, and what is only seen: prefetches, bots, addresses to ignore, reloads. Pure.

Nothing of a visitor is kept but, where reloads are to be told, a salted hash of address, browser and page for as long as
the configuration says, in this process's memory. The salt is of this process and this day: nobody can tell who it was.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import ip_address
from typing import Final

from hitmesh.config import Counting
from hitmesh.config.addresses import Network, network
from hitmesh.site.bots import BOT, PREVIEW, kind_of

HEAD: Final = "head"
PREFETCH: Final = "prefetch"
ADDRESS: Final = "address"
RELOAD: Final = "reload"
REASONS: Final = (HEAD, PREFETCH, BOT, PREVIEW, ADDRESS, RELOAD)
"""Why a hit isn't counted, as answers and metrics say it."""

MAX_SEEN: Final = 100_000  # visits that are remembered: some ten megabytes
DAY_S: Final = 86_400
_ADDRESS_CHARS: Final = 64  # more than any address has

Entry = Callable[[str], str]
"""What a request's field lines have in its WSGI environment under a name, or nothing."""


class Visits:
    """The rules of one configuration after the other, and the visits of late."""

    def __init__(self, rules: Counting, most: int = MAX_SEEN) -> None:
        """`most` visits are remembered, where reloads are to be told."""
        self._most = most
        self._seen: OrderedDict[bytes, float] = OrderedDict()  # when the visit was counted, oldest first
        self._salt, self._day = b"", -1
        self.follow(rules)

    def follow(self, rules: Counting) -> None:
        """Put these in force."""
        self._rules = rules
        self._networks: list[Network] = [network(text) for text in rules.ignore]
        self._is_ignored = lru_cache(maxsize=4096)(self._look_up)
        if not rules.reload_s:
            self._seen.clear()

    def why_not(self, entry: Entry) -> str:
        """Why a request for a page isn't a visit; nothing when it is one, but for a reload."""
        if "prefetch" in (entry("HTTP_SEC_PURPOSE") or entry("HTTP_PURPOSE") or entry("HTTP_X_MOZ")):
            return PREFETCH
        if "preview" in (entry("HTTP_X_PURPOSE") or entry("HTTP_PURPOSE")):
            return PREVIEW
        if self._rules.bots == "ignore" and (kind := kind_of(entry("HTTP_USER_AGENT"))):
            return kind
        if self._networks and self._is_ignored(_address(entry)):
            return ADDRESS
        return ""

    def visitor(self, entry: Entry, page: str, now_s: float) -> bytes:
        """Who visits what, for `is_reload` and `counted`; empty while reloads count. `now_s` is wall clock."""
        if not self._rules.reload_s:
            return b""
        day = int(now_s) // DAY_S
        if day != self._day:
            self._salt, self._day = secrets.token_bytes(16), day
            self._seen.clear()
        said = "\n".join((_address(entry), entry("HTTP_USER_AGENT"), page))
        return blake2b(said.encode("utf-8", "replace"), digest_size=16, key=self._salt).digest()

    def is_reload(self, visitor: bytes, now_s: float) -> bool:
        """Whether the same was counted a moment ago."""
        counted_s = self._seen.get(visitor)
        return counted_s is not None and 0 <= now_s - counted_s < self._rules.reload_s

    def counted(self, visitor: bytes, now_s: float) -> None:
        """It is on stable storage: what comes again within the time is a reload."""
        self._seen[visitor] = now_s
        self._seen.move_to_end(visitor)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def _look_up(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in each for each in self._networks)


def _address(entry: Entry) -> str:
    """The client's, as a balancer says: it has removed what a client said of itself."""
    return entry("HTTP_X_FORWARDED_FOR").partition(",")[0].strip()[:_ADDRESS_CHARS] or entry("REMOTE_ADDR")
