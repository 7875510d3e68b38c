"""Whether a host should have the virtual IP, from what its balancer says of itself. Pure: `now` comes in.

The verdict is a number that keepalived adds to the host's priority. Its rules:

- A balancer that is dead, stopped, silent or leaving serves nobody: FAULT, and keepalived gives the address up.
- One that lives but reaches no collector answers 503, or holds requests until there is one again: behind every host
  that reaches some, but a 503 beats silence, and whoever has the address keeps it among those.
- Whoever has it, and is no worse than another, keeps it: a host that comes back causes no second move. keepalived's
  own `nopreempt` can't say that, because with it a master keeps the address however low its priority falls.
- Bad is believed at once, and good only when it lasts. A look that comes late itself proves nothing: what the machine
  had no time for, others lacked too.
"""

from __future__ import annotations

import math
from typing import Final

from balancer.vip.word import Said, Stage

GOOD: Final = 0
UNREACHED: Final = -100
FAULT: Final = -254  # below -253 keepalived takes it for a failure, whatever the priority
HOLDS: Final = 50
"""More for who has the address: more than there is between any two priorities, and less than UNREACHED takes."""

SILENT_S: Final = 0.8  # after the last beat: sixteen of them, so that a busy machine isn't taken for a stopped process
UNREACHED_S: Final = 0.3  # after the last answer; with nothing to do, one is asked for each tenth of a second
STEADY_S: Final = 1.0  # that all must have been well, after it wasn't
LATE_S: Final = 0.3  # between two looks


class Judge:
    """Of one host. `is_sticky`: who has the address keeps it."""

    def __init__(self, *, is_sticky: bool) -> None:
        self._is_sticky = is_sticky
        self._looked_at = -math.inf
        self._bad_at = -math.inf
        self._bad = FAULT  # the last verdict that wasn't good
        self._is_good = False

    def look(self, said: Said | None, *, is_alive: bool, is_here: bool, now: float) -> int:
        """What keepalived is to add. `is_alive`: the balancer's master; `is_here`: this host has the address."""
        is_late = now - self._looked_at > LATE_S
        self._looked_at = now
        found = _verdict(said, now) if said is not None and is_alive else FAULT
        is_certain = said is None or not is_alive or said.stage == Stage.GONE
        if found != GOOD and (is_certain or not is_late):
            self._is_good, self._bad, self._bad_at = False, found, now
        elif found == GOOD and now - self._bad_at >= STEADY_S:
            self._is_good = True
        verdict = GOOD if self._is_good else self._bad
        return verdict + HOLDS if self._is_sticky and is_here and verdict != FAULT else verdict


def _verdict(said: Said, now: float) -> int:
    if said.stage == Stage.GONE:
        return FAULT
    if not all(0.0 <= now - beat.at <= SILENT_S for beat in said.beats):  # a beat to come is of before a restart
        return FAULT
    if all(beat.at - beat.reached_at > UNREACHED_S for beat in said.beats):
        return UNREACHED
    return GOOD
