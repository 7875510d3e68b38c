"""How many instances of a role are needed, by what was seen until now. Pure.

Up fast, down slowly, as Kubernetes' HPA and Nomad's autoscaler do: more are started when each look of the last `up_s`
has wanted more, and as many as all of them did; fewer are enough when each look of the last `down_s` has said so, and then
one is stopped. So a peak starts nothing that is over before, and what one peak has started is there for the next one.

Invariants:
- What is needed by the CPU is as many as bring each to its target; within TOLERANCE of it nothing changes.
- Slow answers want one more, where those that answer are busy: where they aren't, more of them wouldn't help.
- So many as were too slow under a load aren't gone back to under as much of it: their CPUs alone would say so.
- A look that is missing ends a past: nothing is decided by what was before it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from msgspec import Struct

from hitmesh.config.scaler import Collectors, Target
from hitmesh.scaler.figures import Figures

TOLERANCE: Final = 0.1  # of the target, as HPA has it
GAP_S: Final = 5.0  # without a look, and what was before it says nothing
EDGE_S: Final = 1.5  # by which a past may be shorter: looks are a second apart, and a little more
LEAST_LOOKS: Final = 3  # that must agree, however short `up_s` is
SLOW_AND_BUSY: Final = 0.5  # of the target of the CPU, from which on slow answers come of too few instances
NEARLY_SLOW: Final = 0.8  # of the target of answers, from which on nobody is stopped
LIGHTER: Final = 0.8  # of the load under which so many were slow: then they may be enough again
REMEMBERED: Final = 12  # times `down_s` that this is known: an hour, in which much else may have changed
MOST_AT_ONCE: Final = 4  # as HPA: at most this many, or as many as there are, are started at once


class Need(Struct, frozen=True):
    """How many are needed now, of so many that are there, and why."""

    count: int
    why: str = ""


class _Look(Struct, frozen=True):
    at: float
    need: int
    why: str
    busy: float


class Judge:
    """Of one role."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self._slow: dict[int, tuple[float, float]] = {}  # by how many were too slow: when last, and the least CPUs used
        self._since = float("-inf")  # since when there are as many as now
        self._were = -1

    def clear(self) -> None:
        """What was seen until now says nothing any more."""
        self._looks.clear()

    def look(self, seen: Figures, bounds: Target, now: float) -> None:
        """This is what there is now."""
        if seen.counted != self._were:
            self._were, self._since = seen.counted, now
        if seen.missing or not seen.counted:
            self.clear()
            return
        if self._looks and now - self._looks[-1].at > GAP_S:
            self.clear()
        while self._looks and now - self._looks[0].at > max(bounds.up_s, bounds.down_s) + GAP_S:
            self._looks.popleft()
        need, why = needed(seen, bounds)
        if is_slow(seen, bounds):
            _, least = self._slow.get(seen.counted, (now, seen.busy))
            self._slow[seen.counted] = now, min(least, seen.busy)
        self._looks.append(_Look(now, need, why, seen.busy))

    def verdict(self, count: int, bounds: Target, now: float, *, quiet_s: float) -> Need:
        """What is needed where `count` are there, and nothing changes within `quiet_s` of the last change."""
        if not self._looks or now - self._looks[-1].at > GAP_S:
            return Need(count, "there are no figures")
        since = [one for one in self._looks if one.at >= self._since]
        recent = [one for one in since if one.at >= now - bounds.up_s]
        if len(recent) < LEAST_LOOKS:
            recent = since[-LEAST_LOOKS:]
        whole = len(recent) >= LEAST_LOOKS and recent[-1].at - recent[0].at >= bounds.up_s - EDGE_S
        more = min((one.need for one in recent), default=0)
        if whole and more > count:
            most = count + max(MOST_AT_ONCE, count)
            return Need(min(more, most), f"{recent[-1].why}, for {bounds.up_s:g} s")
        long = [one for one in self._looks if one.at >= now - bounds.down_s]
        fewer = max(one.need for one in long)
        if fewer < count:
            if now - self._looks[0].at < bounds.down_s - EDGE_S:
                return Need(count, f"fewer would be enough, for {now - self._looks[0].at:.0f} of {bounds.down_s:g} s")
            if now - self._since < quiet_s:
                return Need(count, f"fewer would be enough, and it has changed {now - self._since:.0f} s ago")
            at, busy = self._slow.get(count - 1, (float("-inf"), 0.0))
            highest = max(one.busy for one in long)
            if now - at < REMEMBERED * bounds.down_s and highest > LIGHTER * busy:
                return Need(
                    count, f"{count - 1} were too slow when they used {busy:.1f} CPUs, and {highest:.1f} were used"
                )
            return Need(count - 1, f"{long[-1].why}, and {fewer} would have been enough for {bounds.down_s:g} s")
        return Need(count)


def needed(seen: Figures, bounds: Target) -> tuple[int, str]:
    """How many by what is seen at this moment, and why."""
    count = seen.counted
    mean = seen.busy / count
    need, why = count, seen.words()
    if abs(mean / bounds.busy - 1.0) > TOLERANCE:
        need = max(1, math.ceil(seen.busy / bounds.busy - 1e-9))
    slow_ms = bounds.p99_ms if isinstance(bounds, Collectors) else 0.0
    if is_slow(seen, bounds):
        return max(need, count + 1), f"{why}, to be {slow_ms:g} ms"
    if slow_ms and seen.p99_ms > slow_ms and not seen.new:
        return max(need, count), f"{why}, to be {slow_ms:g} ms, and more of them wouldn't help: they aren't busy"
    if slow_ms and seen.p99_ms > NEARLY_SLOW * slow_ms:
        need = max(need, count)
    return need, f"{why}, to be {bounds.busy:.0%}"


def is_slow(seen: Figures, bounds: Target) -> bool:
    """Whether answers take too long, and of too few instances: they are busy, and nobody has just started."""
    slow_ms = bounds.p99_ms if isinstance(bounds, Collectors) else 0.0
    is_late = bool(slow_ms) and seen.p99_ms > slow_ms and not seen.new
    return is_late and seen.busy / seen.counted >= SLOW_AND_BUSY * bounds.busy
