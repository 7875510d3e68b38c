"""Which alerts fire, and what is told of them: the state machine of one datacenter. Pure: `now` comes in.

    a sign ──for_s──> firing, told ──each repeat_s──> told again ──no sign for CLEAR_S──> recovered, told
                         └─ silenced: not told; told when the silence ends and it still fires

What fires and what was told is in the `Memory` that all dashboards of a datacenter share: `step` is given it, and returns
what it should be. Only when that has been written is it so; who couldn't write it steps again from what is there.

Invariants:
- Of one alert nobody is told twice that it fires without having been told in between that it recovered, but for what is
  told again after `repeat_s` at least, and once that it has become worse.
- Whoever was told that it fires is told that it recovered, also in a silence.
- Only who leads says that an alert fires or has recovered: two dashboards that see different things don't take turns.
- Notices are sent by whoever holds the claim. Who leads takes it over when its beat hasn't risen for CLAIM_S of its own
  time: nobody's clock is believed.
- What can't be judged neither begins nor ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hitmesh.dashboard.alerts.memory import MAX_FIRINGS, MAX_NOTICES, Claim, Firing, Kind, Memory, Notice
from hitmesh.dashboard.alerts.rules import Judged, Sign
from hitmesh.dashboard.alerts.silences import silence_of
from hitmesh.dashboard.status import Alert, Level, Silence

CLEAR_S: Final = 15.0  # without a sign: what comes and goes faster is one alert
BEAT_S: Final = 10.0  # between two beats of a claim
CLAIM_S: Final = 30.0  # without one; three beats, and more than a try to send takes
MAX_SHOWN: Final = 200  # alerts on the dashboard


class Step(Struct, frozen=True):
    """What should be, and what is shown of it."""

    memory: Memory  # the very same object where nothing changes
    alerts: Sequence[Alert]


class Machine:
    """The alerts of datacenter `dc`, as the dashboard `who` (its instance's id) sees them.

    `for_s` is by rule; `ways` are the names of who is told; `new_id` makes a firing's id.
    """

    def __init__(
        self,
        dc: str,
        *,
        who: str,
        for_s: Mapping[str, float],
        repeat_s: float,
        ways: Sequence[str],
        new_id: Callable[[], str],
    ) -> None:
        self._dc, self._who, self._for_s, self._repeat_s = dc, who, for_s, repeat_s
        self._ways, self._new_id = tuple(ways), new_id
        self._signs: dict[str, tuple[Sign, float]] = {}  # by alert: the last one, and since when there is one
        self._worse: dict[str, float] = {}  # since when it is bad
        self._gone: dict[str, float] = {}  # since when there is no sign of one that fires
        self._told: dict[tuple[str, int], float] = {}  # when we learned that this was told, by firing and how often
        self._beat: tuple[Claim | None, float] = (None, 0.0)  # the last one, and since when we know it
        self._is_first = True  # nothing was looked at yet

    def step(
        self,
        judged: Judged,
        silences: Sequence[Silence],
        memory: Memory,
        now: float,
        wall: float,
        *,
        leads: bool = True,
        done: Collection[tuple[str, int, str]] = (),
    ) -> Step:
        """What should be remembered now. `now` is monotonic, `wall` for people.

        `done` are the notices (their keys, and a way) that needn't be sent any more.
        """
        self._look(judged, memory, now, wall)
        firings = dict(memory.firings)
        notices = [each for each in (self._still_owed(each, done) for each in memory.notices) if each.owed]
        if leads:
            self._end(firings, notices, judged, now, wall)
            self._repeat(firings, notices, silences, now, wall)
            self._begin(firings, notices, judged, silences, memory, now, wall)
        after = Memory(firings, tuple(notices), self._claim(memory, notices, now, leads=leads))
        return Step(memory if after == memory else after, self._shown(after, silences, now, wall))

    def may_send(self, memory: Memory, now: float) -> bool:
        """Whether what is owed in this memory is ours to send now."""
        claim, since = self._beat
        mine = memory.claim is not None and memory.claim.who == self._who
        return mine and memory.claim == claim and now - since < CLAIM_S - BEAT_S

    # --- within ---------------------------------------------------------------------------

    def _end(self, firings: dict[str, Firing], notices: list[Notice], judged: Judged, now: float, wall: float) -> None:
        for name, firing in list(firings.items()):
            known = firing.rule in self._for_s  # else it isn't judged any more
            is_gone = name in self._gone and now - self._gone[name] >= CLEAR_S and firing.rule not in judged.unjudged
            if is_gone or not known:
                del firings[name]
                if firing.told:
                    self._tell(notices, name, replace(firing, told=firing.told + 1), "recovered", wall)

    def _repeat(
        self, firings: dict[str, Firing], notices: list[Notice], silences: Sequence[Silence], now: float, wall: float
    ) -> None:
        for name, firing in firings.items():
            if name not in self._signs or not _has_room(notices):
                continue
            sign, _ = self._signs[name]
            kind = self._due(name, firing, now)
            if kind and silence_of(silences, self._dc, name, wall) is None:
                level: Level = "bad" if firing.level == "bad" else sign.level
                firings[name] = replace(firing, level=level, says=sign.says, told=firing.told + 1, told_at=wall)
                self._tell(notices, name, firings[name], kind, wall)

    def _begin(
        self,
        firings: dict[str, Firing],
        notices: list[Notice],
        judged: Judged,
        silences: Sequence[Silence],
        memory: Memory,
        now: float,
        wall: float,
    ) -> None:
        for name, sign in judged.signs.items():
            lasted_s = now - self._signs[name][1]
            if name in memory.firings or not sign.begins or lasted_s < self._for_s.get(sign.rule, 0.0):
                continue
            if len(firings) >= MAX_FIRINGS or not _has_room(notices):
                return
            firing = Firing(
                id=self._new_id(),
                rule=sign.rule,
                level=sign.level,
                says=sign.says,
                since=max(0, round(wall - lasted_s)),
            )
            if silence_of(silences, self._dc, name, wall) is None:
                firing = replace(firing, told=1, told_at=wall)
                self._tell(notices, name, firing, "firing", wall)
            firings[name] = firing

    def _look(self, judged: Judged, memory: Memory, now: float, wall: float) -> None:
        for name, sign in judged.signs.items():
            self._signs[name] = sign, self._signs[name][1] if name in self._signs else now
            self._gone.pop(name, None)
            if sign.level == "bad":
                self._worse.setdefault(name, now)
            else:
                self._worse.pop(name, None)
        for name in [name for name in self._signs if name not in judged.signs]:
            if self._signs[name][0].rule not in judged.unjudged:
                del self._signs[name]
                self._worse.pop(name, None)
        for name, firing in memory.firings.items():
            if firing.rule in judged.unjudged:
                self._gone.pop(name, None)  # it must be seen to be gone for all of CLEAR_S
            elif name not in judged.signs:
                self._gone.setdefault(name, now)
        self._gone = {name: since for name, since in self._gone.items() if name in memory.firings}
        told = {}
        for firing in memory.firings.values():
            # What was told before we began: for how long, only clocks say.
            ago_s = min(max(0.0, wall - firing.told_at), self._repeat_s) if self._is_first else 0.0
            told[firing.id, firing.told] = self._told.get((firing.id, firing.told), now - ago_s)
        self._told, self._is_first = told, False
        if memory.claim != self._beat[0]:
            self._beat = memory.claim, now

    def _due(self, name: str, firing: Firing, now: float) -> Kind | None:
        """What is to be told now of one that fires."""
        if not firing.told:
            return "firing"
        held_s = max(CLEAR_S, self._for_s.get(firing.rule, 0.0))
        if firing.level == "warn" and name in self._worse and now - self._worse[name] >= held_s:
            return "worse"
        return "still firing" if now - self._told[firing.id, firing.told] >= self._repeat_s else None

    def _tell(self, notices: list[Notice], name: str, firing: Firing, kind: Kind, wall: float) -> None:
        if not self._ways:
            return
        if not _has_room(notices):
            del notices[0]  # for a recovery: the oldest has waited in vain for long
        notices.append(
            Notice(
                id=firing.id, number=firing.told, kind=kind, name=name, rule=firing.rule, level=firing.level,
                says=firing.says, since=firing.since, at=wall, owed=self._ways,
            )
        )  # fmt: skip

    def _still_owed(self, notice: Notice, done: Collection[tuple[str, int, str]]) -> Notice:
        """Without whom it was sent to, and ways that were taken out of the configuration."""
        owed = tuple(each for each in notice.owed if each in self._ways and (*notice.key, each) not in done)
        return notice if owed == notice.owed else replace(notice, owed=owed)

    def _claim(self, memory: Memory, notices: Sequence[Notice], now: float, *, leads: bool) -> Claim | None:
        claim, known_s = memory.claim, now - self._beat[1]
        if not notices:
            return None
        if claim is None:
            return Claim(self._who, 1) if leads else None
        if claim.who == self._who:
            return Claim(self._who, claim.beat + 1) if known_s >= BEAT_S else claim
        return Claim(self._who, claim.beat + 1) if leads and known_s >= CLAIM_S else claim

    def _shown(self, memory: Memory, silences: Sequence[Silence], now: float, wall: float) -> list[Alert]:
        found = []
        for name, firing in sorted(memory.firings.items()):
            silence = silence_of(silences, self._dc, name, wall)
            found.append(
                Alert(
                    key=f"{self._dc} {name}", dc=self._dc, name=name, rule=firing.rule, level=firing.level,
                    state="silenced" if silence else "firing", says=firing.says, since=firing.since, id=firing.id,
                    told=firing.told, silence=silence.key if silence else "",
                )
            )  # fmt: skip
        for name, (sign, began) in sorted(self._signs.items()):
            if name not in memory.firings and sign.begins:
                found.append(
                    Alert(
                        key=f"{self._dc} {name}", dc=self._dc, name=name, rule=sign.rule, level=sign.level,
                        state="pending", says=sign.says, since=max(0, round(wall - (now - began))),
                    )
                )  # fmt: skip
        return found[:MAX_SHOWN]


def _has_room(notices: Sequence[Notice]) -> bool:
    return len(notices) < MAX_NOTICES
