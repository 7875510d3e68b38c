"""Whether a backend works, judged by its checks and by what requests see of it. Pure.

Owns the counting of passes and failures. It must not know how a check is made, nor whether the
backend wants requests (draining, gone): that is the Nexus's word, and its checker's to combine.

Rules:
- A backend is up until shown otherwise: an instance that sends heartbeats works, most likely, and
  a fixed one is no worse than nobody.
- `fall` failures in a row, of checks and of requests, and it is down. `rise` passed checks in a
  row, and it is up again.
- One refused connection suspends the backend: nobody listens there, so no request is sent. But one
  may be an accident: a check that passes next ends it, and one that fails makes it down.
- A request that the application answers, with whatever status, is no failure. No answer, or
  garbage, is one.
"""

from __future__ import annotations

from typing import Final

# Of the usual pause between checks, while it isn't known that all is well: what a failure costs, and
# a recovery gains, is counted in checks.
DOUBT_SHARE: Final = 0.25
JITTER: Final = 0.25  # of a pause, either way: the checks of many workers spread


class Health:
    """The verdict on one backend: `up`, and `reason`, the last failure since the last passed check.

    Every method that is told something says whether it is news: the verdict has changed, or a
    check should be made at once.
    """

    __slots__ = ("_failures", "_fall", "_missing", "_proven", "_rise", "reason", "up")

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self._failures = 0  # in a row, while up
        self._missing = 0  # passed checks until it is up again; 0 while up
        self._proven = False  # a check has passed since it joined
        self.up = True
        self.reason = ""

    @property
    def in_doubt(self) -> bool:
        """Down, or suspected, or never checked: worth a check soon."""
        return not self.up or self._failures > 0 or not self._proven

    def passed(self, text: str) -> bool:
        """A check has passed; True when that makes the backend up again."""
        self._failures = 0
        self._proven = True
        self.reason = ""
        if self.up:
            return False
        self._missing -= 1
        self.up = self._missing <= 0
        return self.up

    def failed(self, text: str) -> bool:
        """A check failed, or a request got no answer; True for the first in a row, and the one that makes it down."""
        self.reason = text
        if not self.up:
            self._missing = self._rise
            return False
        self._failures += 1
        if self._failures >= self._fall:
            self._go_down(self._rise)
            return True
        return self._failures == 1

    def unreachable(self, text: str) -> bool:
        """A request found nobody to connect to; True when that suspends the backend."""
        self.reason = text
        if not self.up:
            return False  # one that was on its way already: says nothing of now
        self._go_down(1)
        return True

    def pause_s(self, interval_s: float, draw: float) -> float:
        """How long to wait for the next check, if nothing happens before; `draw` is from 0 to below 1."""
        pause_s = interval_s * DOUBT_SHARE if self.in_doubt else interval_s
        return pause_s * (1.0 - JITTER + 2.0 * JITTER * draw)

    def _go_down(self, missing: int) -> None:
        self.up = False
        self._failures = 0
        self._missing = missing
