"""What a scaler decides of balancers: how many workers each has. Pure, as `deciding` is.

One number for all of a datacenter, by the busiest one's figures: so the one that stands by is as wide as the one that has the
virtual IP. Each balancer follows by itself: its master replaces its workers, on the same sockets.

Invariants, besides those of `deciding`:
- Between the least and the most, and no more by load than a balancer's host has CPUs, where that is known.
- Nothing by load while a balancer that is heard has another number of workers than is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from hitmesh.config import Config
from hitmesh.config.scaler import Scaler as Bounds
from hitmesh.scaler.figures import Figures
from hitmesh.scaler.judging import Judge
from hitmesh.scaler.outcome import FULL_S, QUIET_SHARE, START_S, Full, Outcome, Seen, change
from hitmesh.settings.wanted import EVERYWHERE, MAX_CHANGES, Wanted

ROLE: Final = "balancer"


def busiest(crews: Mapping[str, Figures]) -> Figures:
    """The workers of the balancer that has the most to do."""
    return max(crews.values(), key=lambda each: (each.busy, each.counted), default=Figures())


class Crews:
    """Of a datacenter, whose file is `config`."""

    def __init__(self, config: Config) -> None:
        self._least = config.balancer.workers
        self._judge = Judge()
        self._full_since: float | None = None
        self._lacking: tuple[int, float] = 0, 0.0  # since when not everybody has as many as that

    def look(self, seen: Seen, bounds: Bounds, now: float) -> None:
        """Every second, whoever decides."""
        if seen.hold:
            self._judge.clear()
        else:
            self._judge.look(busiest(seen.crews), bounds.balancer, now)

    def step(self, seen: Seen, wanted: Wanted, bounds: Bounds, now: float, wall: float) -> Outcome:
        """How many there are to be from now on."""
        own, figures = bounds.balancer, busiest(seen.crews)
        full_since, self._full_since = self._full_since, None  # until it is found out again
        least = max(own.min, self._least)
        most = max(own.max, least)
        count = max(wanted.workers, self._least)
        if seen.hold:
            return _nothing(wanted, seen.hold)
        if count < least:
            return _with(wanted, count, least, f"at least {least} are wanted", wall)
        if count > most:
            return _with(wanted, count, most, f"at most {most} are wanted", wall)
        if held := figures.missing or self._awaited(seen.crews, count, now):
            return _nothing(wanted, held)
        if not figures.counted:
            return _nothing(wanted, "no balancer works: nothing can be decided by that")
        quiet_s = max(bounds.warm_s, QUIET_SHARE * own.down_s)
        need = self._judge.verdict(figures.counted, own, now, quiet_s=quiet_s)
        if figures.new and need.count != figures.counted:
            return _nothing(wanted, f"{', '.join(figures.new)} {'have' if figures.new[1:] else 'has'} just started")
        if need.count > figures.counted:
            goal = count + need.count - figures.counted
            if count >= most:
                return _nothing(wanted, f"{goal} are needed, and at most {most} are wanted: {need.why}")
            room, why_full = _room(seen, figures, bounds)
            if room > count:
                return _with(wanted, count, min(goal, most, room), need.why, wall)
            self._full_since = now if full_since is None else full_since
            told = Full(ROLE, goal, count, f"{need.why}; {why_full}") if now - self._full_since >= FULL_S else None
            return Outcome(wanted, {ROLE: f"{goal} are needed ({need.why}), and there is no room: {why_full}"}, told)
        if need.count < figures.counted and count > least:
            return _with(wanted, count, count - 1, need.why, wall)
        if need.count < figures.counted:
            reason = f"scaler.{ROLE}.min is {own.min}" if own.min == least else f"{ROLE}.workers is {least}"
            return _nothing(wanted, f"{need.why}; but {reason}")
        return _nothing(wanted, need.why)

    def _awaited(self, crews: Mapping[str, Figures], count: int, now: float) -> str:
        """Who is waited for before anything else is decided; empty: nobody, or it was in vain."""
        lacking = {name: each.living for name, each in crews.items() if each.living != count}
        awaited, since = self._lacking
        if not lacking or awaited != count:
            self._lacking = count, now
        elif now - since >= START_S:
            return ""
        return "; ".join(f"{name} has {living} of {count} workers" for name, living in sorted(lacking.items()))


def _room(seen: Seen, figures: Figures, bounds: Bounds) -> tuple[int, str]:
    """For how many workers each balancer's host has room, and why for no more. What isn't known is no obstacle."""
    here = {name: host for name in _nodes(seen.crews) if (host := seen.hosts.get(name)) is not None}
    room, why = 64, ""  # more than any bound
    for name, host in here.items():
        if 0 < int(host.cpus) < room:
            room, why = int(host.cpus), f"{name} has {host.cpus:g} CPUs"
        if host.is_able and host.free_mb < bounds.host_free_mb:
            return 0, f"{host.free_mb:g} MB are free on {name}"
    for name in figures.by_node:
        if name in here and here[name].is_able and here[name].busy > bounds.host_busy:
            return 0, f"{here[name].busy:.0%} of the CPUs of {name} are in use"
    return room, why


def _nodes(crews: Mapping[str, Figures]) -> list[str]:
    return sorted({node for each in crews.values() for node in each.by_node})


def _nothing(wanted: Wanted, why: str) -> Outcome:
    return Outcome(wanted, {ROLE: why} if why else {})


def _with(wanted: Wanted, was: int, now: int, why: str, wall: float) -> Outcome:
    told = change(ROLE, EVERYWHERE, was, now, why, wall)
    return Outcome(replace(wanted, workers=now, changes=(*wanted.changes, told)[-MAX_CHANGES:]))
