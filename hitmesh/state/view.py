"""Who is alive and who owns what, merged from what several Nexuses say. Pure: `now` comes in.

It owns one numbered picture per Nexus and the picture that readers see. It must not know how the
words of a Nexus arrive, nor decide who should own what.

Invariants:
- An instance is alive while any Nexus that is heard calls it so.
- Only what a Nexus says of an instance (dead, forgotten), or the silence about it of a Nexus that
  is warm and whose picture is whole, makes the instance disappear. So an empty Nexus that has just
  started, or a lost Change, makes nobody disappear.
- An instance of another datacenter is told of through a Nexus there, now and then: the silence of a
  Nexus here about it counts only after as long as a whole datacenter may be silent.
- With every Nexus silent the last known picture stays.
- `version` rises with every change of what readers see, loads excepted.
- What readers see is worked out when they look: many Changes in a row cost what one does.
- A claim that the partition's head has disproved is none, nor is a higher one of the same instance. Of a claim that
  was true, and is out of date, a higher one may be true again.
- Of two living instances of one name the one that was shown first stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from hitmesh.protocol.messages import MAX_TOTAL, Answer, Change, Head, Instance, Seen

WAN_TIMEOUT_S: Final = 25.0  # that another datacenter may be silent: timing's defaults
_NONE: Final[Mapping[int, tuple[int, int]]] = MappingProxyType({})
MAX_LATER_CHANGES: Final = 256  # kept while a snapshot is on its way: it takes milliseconds, and is asked for again
RIVALS: Final = "rivals"
"""Of a Nexus's load: how many names two living processes have."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The processor that holds a partition, and the epoch under which it does."""

    instance: Instance
    epoch: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """An instance as the Nexuses that are heard know it together."""

    instance: Instance
    number: int  # of its last heartbeat
    heard: float  # when that one was heard by a Nexus
    alive: bool


def false_upto(claim: Owner, head: Head | None) -> int:
    """Up to which epoch this claim and higher ones of its instance are false, by the partition's head; 0: it is true."""
    if head is None:
        return claim.epoch  # deleted, or wiped: it may be brought back, and taken again
    if (head.owner, head.epoch) == (claim.instance.id, claim.epoch):
        return 0
    if head.epoch > claim.epoch:  # out of date, as during each hand-over
        return head.epoch - (head.owner == claim.instance.id)
    return MAX_TOTAL


@dataclass(slots=True)
class _Picture:
    """What one Nexus has said."""

    nexus: str = ""
    number: int = 0
    warm: bool = False
    began: float = 0.0  # when this Nexus process was first heard
    whole: bool = False  # a snapshot and every Change since
    heard: float | None = None
    resumed: float = 0.0  # when it was heard again after a pause: what it says then may be from before
    silent: bool = True
    seen: dict[str, Seen] = field(default_factory=dict)
    later: deque[Change] = field(default_factory=lambda: deque(maxlen=MAX_LATER_CHANGES))

    def begin(self, nexus: str, now: float) -> None:
        self.nexus, self.number, self.warm, self.whole, self.began = nexus, 0, False, False, now
        self.seen.clear()
        self.later.clear()

    def apply(self, change: Change) -> None:
        self.number, self.warm = change.number, change.warm
        for gone in change.forgotten:
            self.seen.pop(gone, None)
        for seen in change.seen:
            self.seen[seen.instance.id] = seen

    def adopt(self, answer: Answer) -> bool:
        """Replace the picture by a snapshot and the Changes since; False when some are missing."""
        later = [change for change in self.later if change.number > answer.number]
        if [change.number for change in later] != list(range(answer.number + 1, self.number + 1)):
            return False
        self.number, self.warm = answer.number, answer.warm
        self.seen = {seen.instance.id: seen for seen in answer.seen}
        for change in later:
            self.apply(change)
        self.later.clear()
        self.whole = True
        return True


class MeshView:
    """The mesh as one process of datacenter `dc` sees it, through the Nexuses at `endpoints` (any names for them).

    A Nexus is out of reach after `timeout_s` of silence, another datacenter after `wan_timeout_s`.
    """

    def __init__(
        self, endpoints: Iterable[str], *, dc: str, timeout_s: float, wan_timeout_s: float = WAN_TIMEOUT_S
    ) -> None:
        self._dc = dc
        self._pictures = {endpoint: _Picture() for endpoint in endpoints}
        self._timeout_s = timeout_s
        self._wan_timeout_s = wan_timeout_s
        self._unsaid = False  # somebody is shown of whom no Nexus speaks
        self._live: dict[str, Instance] = {}
        self._since: dict[str, float] = {}  # of each of them, when it was first shown
        self._heard: dict[str, tuple[int, float]] = {}  # of each, its last heartbeat's number, and when that was heard
        self._by_role: dict[tuple[str, str], tuple[Instance, ...]] = {}  # by datacenter and role
        self._owners: dict[str, dict[int, Owner]] = {}  # by datacenter and partition
        # by instance id: partitions, and the first and last epoch of claims that are false
        self._refuted: dict[str, dict[int, tuple[int, int]]] = {}
        self._answered: float | None = None  # when a Nexus told everything it knew
        self._known = self._connected = False
        self._version = 0
        self._is_due = False  # the Nexuses have said something that isn't worked out yet
        self._forgotten: set[str] = set()  # ids that were forgotten since the last time

    # --- what comes in --------------------------------------------------------------------

    def change(self, endpoint: str, change: Change, now: float) -> bool:
        """Take in what a Nexus publishes; True: ask that Nexus for a snapshot."""
        picture = self._pictures[endpoint]
        away = picture.silent or self._is_silent(picture, now)
        follows = change.nexus == picture.nexus and change.number == picture.number + 1
        if change.nexus == picture.nexus and change.number <= picture.number:
            self._hear(picture, now)  # a snapshot held it already
            return not picture.whole
        if not follows:
            self._settle()  # what was said until now is shown, before it is out of date
        if change.nexus != picture.nexus or (away and not follows):
            picture.begin(change.nexus, now)  # what it said before is out of date
        elif not follows:
            picture.whole = False
        news = bool(change.seen or change.forgotten) or away or not follows or picture.warm != change.warm
        picture.apply(change)
        self._time(change.seen, now)
        if not picture.whole:
            picture.later.append(change)
        self._hear(picture, now)
        if news:
            self._is_due = True
            self._forgotten.update(change.forgotten)
        return not picture.whole

    def answer(self, endpoint: str, answer: Answer, now: float) -> bool:
        """Take in a snapshot; True: it came too late to be of use, ask again."""
        picture = self._pictures[endpoint]
        if answer.error:
            return not picture.whole
        self._settle()
        if answer.nexus != picture.nexus:
            picture.begin(answer.nexus, now)
            picture.number = answer.number
        if answer.number >= picture.number or not picture.whole:
            picture.whole = picture.adopt(answer)
        self._time(answer.seen, now)
        self._hear(picture, now)
        self._answered = now
        self._is_due = True
        return not picture.whole

    def tick(self, now: float) -> bool:
        """Notice who has fallen silent; True when `version` rose."""
        before = self.version
        fallen = [one for one in self._pictures.values() if not one.silent and self._is_silent(one, now)]
        for picture in fallen:
            picture.silent = True
        if fallen or self._unsaid:
            self._is_due = True
        return self.version != before

    def refute(self, partition: int, id: str, epoch: int, upto: int = MAX_TOTAL) -> None:
        """This instance doesn't own the partition under these epochs: its head, read since the claim, says so."""
        if id in self._live:
            self._refuted.setdefault(id, {})[partition] = epoch, upto
            self._show(self._live, self._known, self._connected, claims=True)

    # --- what readers ask -----------------------------------------------------------------

    @property
    def known(self) -> bool:
        """Whether a warm Nexus has been heard, and its whole picture seen, since the start."""
        self._settle()
        return self._known

    @property
    def connected(self) -> bool:
        """Whether some Nexus was heard within its time-out."""
        self._settle()
        return self._connected

    @property
    def version(self) -> int:
        """Rises when `live`, `owner`, `known` or `connected` may answer differently, loads excepted."""
        self._settle()
        return self._version

    def live(self, role: str, dc: str = "") -> tuple[Instance, ...]:
        """The living instances of a role, draining ones included, by name; of this datacenter unless another is named."""
        self._settle()
        return self._by_role.get((dc or self._dc, role), ())

    def owner(self, partition: int, dc: str = "") -> Owner | None:
        """The living processor that claims the partition under the highest epoch, here or in another datacenter."""
        self._settle()
        return self._owners.get(dc or self._dc, {}).get(partition)

    def owners(self) -> Mapping[int, Owner]:
        """Every partition that somebody claims in this datacenter."""
        self._settle()
        return MappingProxyType(self._owners.get(self._dc, {}))

    def namesake(self, role: str, name: str, id: str) -> Instance | None:
        """Who is shown in this datacenter under a role and name that `id` has too."""
        return next((one for one in self.live(role) if one.name == name and one.id != id), None)

    @property
    def others(self) -> frozenset[str]:
        """The other datacenters of which some instance is alive."""
        self._settle()
        return frozenset(dc for dc, _ in self._by_role) - {self._dc}

    def heard(self, id: str) -> float | None:
        """When the newest heartbeat of a living instance was heard by a Nexus; None of one that isn't shown."""
        self._settle()
        return self._heard[id][1] if id in self._live and id in self._heard else None

    @property
    def answered(self) -> float | None:
        """When a Nexus last told all it knew: by then every heartbeat that it had heard was told of.

        In its Changes it says nothing of a heartbeat that brought no news.
        """
        return self._answered

    def sightings(self, dc: str = "") -> list[Sighting]:
        """Everybody of a datacenter, one for each role and name: the living, and the dead of whom a Nexus still tells."""
        self._settle()
        dc = dc or self._dc
        living = [one for one in self._live.values() if one.dc == dc]
        places = {(one.role, one.name) for one in living}
        dead: dict[tuple[str, str], Sighting] = {}
        for picture in self._pictures.values():
            for id, seen in picture.seen.items() if not picture.silent else ():
                place = (seen.instance.role, seen.instance.name)
                if seen.instance.dc == dc and place not in places and id in self._heard:
                    number, at = self._heard[id]
                    if place not in dead or at > dead[place].heard:
                        dead[place] = Sighting(seen.instance, number, at, alive=False)
        alive = [Sighting(one, *self._heard[one.id], alive=True) for one in living if one.id in self._heard]
        return alive + list(dead.values())

    def shows(self, id: str) -> bool:
        """Whether some Nexus that is heard calls `id` alive."""
        return any(id in one.seen and one.seen[id].alive for one in self._pictures.values() if not one.silent)

    def lacks(self, id: str) -> bool:
        """Whether some Nexus that is heard doesn't call `id` alive, or none is heard at all."""
        heard = [one for one in self._pictures.values() if not one.silent]
        return not heard or any(id not in one.seen or not one.seen[id].alive for one in heard)

    # --- within ---------------------------------------------------------------------------

    def _time(self, told: Iterable[Seen], now: float) -> None:
        for seen in told:
            before, at = self._heard.get(seen.instance.id, (-1, 0.0))
            heard = now - seen.age_ms / 1000
            if seen.number >= before:  # of two that heard the same heartbeat, each guesses late
                self._heard[seen.instance.id] = seen.number, heard if seen.number > before else min(at, heard)

    def _is_silent(self, picture: _Picture, now: float) -> bool:
        return picture.heard is None or now - picture.heard > self._timeout_s

    def _hear(self, picture: _Picture, now: float) -> None:
        if picture.heard is not None and now - picture.heard > self._timeout_s / 2:
            picture.resumed = now
        picture.heard = now
        if picture.silent:
            picture.silent = False
            self._is_due = True

    def _settle(self) -> None:
        """Work out the picture that readers see from those of the Nexuses, if they have said something new."""
        if not self._is_due:
            return
        self._is_due = False
        forgotten, self._forgotten = self._forgotten, set()
        heard = [one for one in self._pictures.values() if not one.silent]
        judges = [one for one in heard if one.warm and one.whole]
        newest: dict[str, Seen] = {}
        alive: set[str] = set()
        for picture in heard:
            for key, seen in picture.seen.items():
                if key not in newest or seen.number > newest[key].number:
                    newest[key] = seen
                if seen.alive:
                    alive.add(key)
        unsaid = [key for key in self._since if key not in newest and key not in forgotten]
        unsaid = [key for key in unsaid if not any(self._must_know(one, key) for one in judges)]
        self._unsaid = bool(unsaid)
        alive.update(unsaid)
        instances = (newest[key].instance if key in newest else self._live[key] for key in alive)
        live = {one.id: one for one in _one_a_name(instances, self._live)}
        latest = max((one.heard for one in heard if one.heard is not None), default=0.0)
        self._since = {key: self._since.get(key, latest) for key in live}
        self._heard = {key: at for key, at in self._heard.items() if key in live or key in newest}
        self._refuted = {key: claims for key, claims in self._refuted.items() if key in live}
        self._show(live, bool(judges), bool(heard))

    def _show(self, live: dict[str, Instance], judged: bool, connected: bool, *, claims: bool = False) -> None:
        old, self._live = self._live, live
        by_role: dict[tuple[str, str], list[Instance]] = {}
        for one in live.values():
            by_role.setdefault((one.dc, one.role), []).append(one)
        self._by_role = {
            place: tuple(sorted(instances, key=lambda one: (one.name, one.id))) for place, instances in by_role.items()
        }
        moved = claims or old.keys() != live.keys() or any(_differ(old[key], live[key]) for key in live)
        if moved or any(old[key] is not live[key] for key in live):
            self._owners = {
                dc: _claims(instances, self._refuted)
                for (dc, role), instances in self._by_role.items()
                if role == "processor"
            }
        known = self._known or judged
        if moved or known != self._known or connected != self._connected:
            self._version += 1
        self._known, self._connected = known, connected

    def _must_know(self, picture: _Picture, id: str) -> bool:
        """Whether this Nexus must have heard of an instance that is shown, so that its silence means something.

        One that died before the instance started counts as heard for its time-out still, and knows nothing;
        one that was stopped says old things first. Of another datacenter it may not have heard yet.
        """
        assert picture.heard is not None, "who judges is heard"
        since = max(self._since[id], picture.resumed)
        if self._live[id].dc == self._dc:
            return picture.heard > since
        return picture.heard - max(since, picture.began) > self._wan_timeout_s


def _one_a_name(instances: Iterable[Instance], shown: Container[str]) -> Collection[Instance]:
    """One instance for each datacenter, role and name: who is shown already, or else the one that started last."""
    chosen: dict[tuple[str, str, str], Instance] = {}
    for one in instances:
        place = (one.dc, one.role, one.name)
        other = chosen.get(place)
        if other is None or _rank(one, shown) > _rank(other, shown):
            chosen[place] = one
    return chosen.values()


def _rank(one: Instance, shown: Container[str]) -> tuple[bool, int, str]:
    return one.id in shown, one.started_ms, one.id


def _differ(old: Instance, new: Instance) -> bool:
    return old is not new and (old.state != new.state or old.endpoints != new.endpoints or old.owns != new.owns)


def _claims(processors: Iterable[Instance], refuted: Mapping[str, Mapping[int, tuple[int, int]]]) -> dict[int, Owner]:
    owners: dict[int, Owner] = {}
    for one in processors:
        false = refuted.get(one.id, _NONE)
        for partition, epoch in one.owns.items():
            first, last = false.get(partition, (1, 0))
            if first <= epoch <= last:
                continue
            other = owners.get(partition)
            if other is None or (epoch, one.name) > (other.epoch, other.instance.name):
                owners[partition] = Owner(one, epoch)
    return owners
