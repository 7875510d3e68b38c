"""What a scaler decides: from what is seen of a datacenter, and what was wanted, to what is wanted now. Pure.

Told each second what there is; what it answers is done by the shell, under compare-and-set, and by each host for itself.

Invariants:
- Between the least and the most of a role; never fewer than the nodes are configured to run.
- Nothing while somebody holds it up (a deploy, a restoration, figures that are missing), while one that was started hasn't
  come, nor within a moment of the last change.
- One is stopped at a time, of one role.
- Who lives where nobody has said what is wanted is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from hitmesh.config import Config
from hitmesh.config.scaler import SCALED, SIZED, Scaled, Sized, Target
from hitmesh.config.scaler import Scaler as Bounds
from hitmesh.scaler import placing
from hitmesh.scaler.crews import Crews
from hitmesh.scaler.figures import Figures
from hitmesh.scaler.judging import Judge, Need
from hitmesh.scaler.outcome import FULL_S, QUIET_SHARE, START_S, Full, Outcome, Seen, change
from hitmesh.scaler.placing import Place
from hitmesh.settings.wanted import MAX_CHANGES, Change, Wanted


class Decider:
    """Of a datacenter, whose file is `config`; live bounds come with each step."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._judges = {role: Judge() for role in SCALED}
        self._crews = Crews(config)
        self._full_since: dict[Scaled, float] = {}
        self._lacking: dict[Scaled, tuple[int, float]] = {}  # how many haven't come, or gone, and since when so many

    def look(self, seen: Seen, bounds: Bounds, now: float) -> None:
        """Every second, whoever decides: who takes over has a past."""
        for role in SCALED:
            if seen.hold:
                self._judges[role].clear()
            elif bounds.of(role).max:
                self._judges[role].look(seen.roles[role], bounds.of(role), now)
        self._crews.look(seen, bounds, now)

    def step(self, seen: Seen, wanted: Wanted | None, bounds: Bounds, now: float, wall: float) -> Outcome:
        """What is wanted from now on; `wanted` is None where nobody has said."""
        if wanted is None or not self._is_whole(wanted, seen):
            if seen.hold:
                return Outcome(wanted or Wanted(), dict.fromkeys(SIZED, seen.hold))
            wanted = self._adopted(wanted or Wanted(), seen)
            return Outcome(wanted)
        says: dict[Sized, str] = {}
        for role in SIZED:
            if not bounds.of(role).max:
                continue
            if role == "balancer":
                outcome = self._crews.step(seen, wanted, bounds, now, wall)
            else:
                places = self._places(role, wanted, seen)
                outcome = self._step(role, places, seen, wanted, bounds, now, wall)
            if outcome.wanted is not wanted or outcome.full is not None:
                return outcome  # one thing at a time: the next step sees what came of it
            says |= outcome.says
        return Outcome(wanted, says)

    # --- of one role ------------------------------------------------------------------------

    def _step(
        self, role: Scaled, places: Sequence[Place], seen: Seen, wanted: Wanted, bounds: Bounds, now: float, wall: float
    ) -> Outcome:
        own, figures = bounds.of(role), seen.roles[role]
        full_since = self._full_since.pop(role, now)  # until it is found out again
        least = max(own.min, sum(each.least for each in places))
        most = max(own.max, least)
        # Of a node whose scaler isn't heard only who lives there counts: what is wanted there reaches nobody.
        total = sum(each.wanted if each.host else figures.by_node.get(each.name, 0) for each in places)
        total += figures.by_node.get("", 0)
        if seen.hold:
            return Outcome(wanted, {role: seen.hold})
        if total < least:
            why = f"at least {least} are wanted"
            return self._more(role, places, least - total, total, wanted, bounds, (now, full_since), wall, why)
        if total > most:
            return self._less(role, places, total, wanted, wall, f"at most {most} are wanted")
        if held := figures.missing or self._awaited(role, total, figures, now):
            return Outcome(wanted, {role: held})
        if not figures.serving:
            return Outcome(wanted, {role: f"no {role} works: nothing can be decided by that"})
        need = self._need(role, figures, own, bounds, now)
        if need.count > figures.counted:
            more = min(need.count - figures.counted, most - total)
            if more <= 0:
                return Outcome(wanted, {role: f"{need.count} are needed, and at most {most} are wanted: {need.why}"})
            return self._more(role, places, more, total, wanted, bounds, (now, full_since), wall, need.why)
        if need.count < figures.counted and total > least:
            return self._less(role, places, total, wanted, wall, need.why)
        if need.count < figures.counted:
            reason = f"scaler.{role}.min is {own.min}" if own.min == least else f"the nodes say {least}"
            return Outcome(wanted, {role: f"{need.why}; but {reason}"})
        return Outcome(wanted, {role: need.why} if need.why else {})

    def _need(self, role: Scaled, figures: Figures, own: Target, bounds: Bounds, now: float) -> Need:
        quiet_s = max(bounds.warm_s, QUIET_SHARE * own.down_s)
        need = self._judges[role].verdict(figures.counted, own, now, quiet_s=quiet_s)
        if figures.new and need.count != figures.counted:
            return Need(figures.counted, f"{', '.join(figures.new)} has just started")
        return need

    def _awaited(self, role: Scaled, total: int, figures: Figures, now: float) -> str:
        """Who is waited for before anything else is decided; empty: nobody, or it was in vain."""
        if figures.living == total:
            self._lacking.pop(role, None)
            if figures.unsettled:
                return f"{figures.unsettled} has no partition yet"
            return ""
        lacking = total - figures.living  # below 0: too many, who are to go
        before, since = self._lacking.get(role, (0, now))
        since = now if abs(lacking) > abs(before) or (lacking > 0) is not (before > 0) else since
        self._lacking[role] = lacking, since
        if now - since >= START_S:
            return ""
        return f"{lacking} of {total} haven't come yet" if lacking > 0 else f"{-lacking} too many haven't gone yet"

    def _more(
        self, role: Scaled, places: Sequence[Place], more: int, total: int, wanted: Wanted, bounds: Bounds,
        full: tuple[float, float], wall: float, why: str,
    ) -> Outcome:  # fmt: skip
        busy, free_mb = bounds.host_busy, bounds.host_free_mb
        planned: dict[str, int] = {}
        changes = []
        for _ in range(more):
            name = placing.for_one_more(places, planned, busy=busy, free_mb=free_mb)
            if name is None:
                break
            planned[name] = planned.get(name, 0) + 1
            places = [replace(each, wanted=each.wanted + 1) if each.name == name else each for each in places]
        count = total
        for name, more_here in planned.items():
            changes.append(change(role, name, count, count + more_here, why, wall))
            count += more_here
        if not changes:
            now, since = full
            self._full_since[role] = since
            why_full = placing.full(places, busy=busy, free_mb=free_mb)
            told = Full(role, total + more, total, f"{why}; {why_full}") if now - since >= FULL_S else None
            return Outcome(
                wanted, {role: f"{total + more} are needed ({why}), and every host is full: {why_full}"}, told
            )
        return Outcome(_with(wanted, role, places, changes))

    def _less(
        self, role: Scaled, places: Sequence[Place], total: int, wanted: Wanted, wall: float, why: str
    ) -> Outcome:
        name = placing.for_one_less(places)
        if name is None:
            return Outcome(wanted, {role: f"{why}, and there is none that may be stopped"})
        places = [replace(each, wanted=each.wanted - 1) if each.name == name else each for each in places]
        return Outcome(_with(wanted, role, places, [change(role, name, total, total - 1, why, wall)]))

    # --- what is wanted where -----------------------------------------------------------------

    def _places(self, role: Scaled, wanted: Wanted, seen: Seen) -> list[Place]:
        found = []
        for name, node in self._config.nodes.items():
            least = getattr(node, role)
            most = max(least, self._config.scaler.most_on_a_node(role)) if node.scaler else least
            said = (wanted.on(name) or {}).get(role, least)
            found.append(
                Place(name=name, least=least, most=most, wanted=min(max(said, least), most), host=seen.hosts.get(name))
            )
        return found

    def _is_whole(self, wanted: Wanted, seen: Seen) -> bool:
        """Whether something is said for every node whose scaler is heard."""
        return all(set(wanted.on(name) or {}) >= set(SCALED) for name in seen.hosts)

    def _adopted(self, wanted: Wanted, seen: Seen) -> Wanted:
        """With those nodes that nobody has said anything of: who lives there is wanted."""
        counts = dict(wanted.counts)
        for name in seen.hosts:
            known = dict(counts.get(name, {}))
            for role in SCALED:
                if role not in known:
                    known[role] = max(getattr(self._config.nodes[name], role), seen.roles[role].by_node.get(name, 0))
            counts[name] = known
        return replace(wanted, counts=counts)


def _with(wanted: Wanted, role: Scaled, places: Sequence[Place], changes: Sequence[Change]) -> Wanted:
    counts = {name: dict(roles) for name, roles in wanted.counts.items()}
    for each in places:
        if each.host is not None:
            counts.setdefault(each.name, {})[role] = each.wanted
    return replace(wanted, counts=counts, changes=(*wanted.changes, *changes)[-MAX_CHANGES:])
