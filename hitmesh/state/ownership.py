"""Which partitions a processor should take over, and which hand over. Pure: `now` comes in.

It owns the choice; it must not know how a partition is taken (a compare-and-set in the totals
store, which alone makes ownership true). Wrong choices here cost time, never counts.

Rules: an owner in office stays while it is alive, unless the partition's rendezvous choice is
another living processor that is "up" and has been so in the view for a heartbeat interval. A
partition is taken by its rendezvous choice, and only while no living processor claims it.

Nobody's word is enough to give a partition up, or to leave it alone for ever: each new claim is checked
once against the partition's head, by the owner that it contradicts, and by the best of the others. A
choice that takes nothing although nobody claims what it should have is passed over for a while.

One that an operator has drained gives everything away as long as somebody can take it, and takes nothing.

Partitions are handed over a few at a time, the next ones when somebody owns those: what a partition
waits for is its own take-over, not that of all the others before it. A whole share goes in GOES goes
at most, so that a newcomer has it in time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import ceil
from typing import Final

from hitmesh.state.view import MeshView

LEAST_AT_ONCE: Final = 2  # partitions handed over at a time: one is committed while the other is announced
SETTLED_INTERVALS: Final = 2  # for which a claim must stand before the one who isn't concerned checks it
LATE_INTERVALS: Final = 8  # in which a choice takes what nobody claims, or is passed over
LATE_S: Final = 60.0  # for which it is
MAX_WEIGHTS: Final = 65_536  # kept: of 32 partitions for 2,000 names, so that each newcomer costs its own only
GOES: Final = 6  # each takes a tenth of a second or two, and a newcomer's share has a second


def rendezvous(partition: int, names: Collection[str]) -> str:
    """The one of `names` that should own the partition: the highest random weight wins.

    By name, so that a restart gets the same partitions back, and a name that comes or goes moves
    only its own share. `names` must not be empty.
    """
    return max(names, key=lambda name: (_weight(partition, name), name))


@lru_cache(maxsize=MAX_WEIGHTS)
def _weight(partition: int, name: str) -> bytes:
    return blake2b(f"{partition}:{name}".encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Steps:
    """What a processor should do now: try to take over, stop using and announce, and read the heads of."""

    take: tuple[int, ...] = ()
    hand_over: tuple[int, ...] = ()
    check: tuple[int, ...] = ()


@dataclass(slots=True)
class _Claim:
    """What another one says that it owns."""

    id: str
    epoch: int
    since: float
    again: float  # when the head may be read for it: whoever claims something else each time gains nothing
    is_checked: bool = False


class Tenure:
    """The decisions of one processor; `name` and `id` are its instance's."""

    def __init__(self, *, name: str, id: str, partitions: int, heartbeat_s: float) -> None:
        self._name = name
        self._id = id
        self._partitions = partitions
        self._heartbeat_s = heartbeat_s
        self._up_since: dict[str, float] = {}  # by instance id
        self._retry_at: dict[int, float] = {}
        self._names: frozenset[str] = frozenset()
        self._choices: list[str] = []
        self._claims: dict[int, _Claim] = {}
        self._unclaimed: dict[int, tuple[str, float]] = {}  # whose turn it is to take them, and since when
        self._late: dict[str, float] = {}  # ids that let their turn pass: until when they have none
        self._moving: dict[int, float] = {}  # handed over, and not seen with its new owner yet: since when
        self._at_once = 0  # how many may be, until all that is due has moved

    def refused(self, partition: int, now: float) -> None:
        """A take-over was refused, or this owner was fenced: leave the partition alone for a heartbeat."""
        self._retry_at[partition] = now + self._heartbeat_s

    def steps(
        self,
        view: MeshView,
        owned: Mapping[int, int],
        now: float,
        *,
        draining: bool = False,
        drained: bool = False,
    ) -> Steps:
        """What to do, given the partitions owned now and their epochs. Who is `draining` leaves, who is `drained` stays.

        To be called when the view's version rises, and a few times per heartbeat besides: some
        rules wait for a heartbeat to pass.
        """
        up = {one.id: one.name for one in view.live("processor") if one.state == "up"}
        self._up_since = {one: self._up_since.get(one, now) for one in up}
        self._retry_at = {partition: at for partition, at in self._retry_at.items() if at > now}
        if draining or drained:
            has_heir = view.connected and any(one != self._id for one in up)
            if has_heir:
                return Steps(hand_over=self._in_turn(view, list(owned), now))
            return Steps(hand_over=tuple(owned)) if draining else Steps()
        if not (view.known and view.connected):
            return Steps()
        self._late = {one: until for one, until in self._late.items() if until > now and one in up}
        self._choose(frozenset(name for one, name in up.items() if one not in self._late) | {self._name})
        self._pass_over(view, owned, {name: one for one, name in up.items()}, now)
        settled = {up[one] for one, since in self._up_since.items() if now - since >= self._heartbeat_s}
        idle = {one for one, since in self._unclaimed.values() if now - since > SETTLED_INTERVALS * self._heartbeat_s}
        due = [
            p
            for p in owned
            # What another one says that it has already is to be checked first.
            if self._is_anothers(p, settled) and self._choices[p] not in idle and not self._is_claimed(view, p)
        ]
        return Steps(
            take=tuple(self._to_take(view, owned)) if self._id in up else (),
            hand_over=self._in_turn(view, due, now),
            check=tuple(self._to_check(view, owned, now)),
        )

    def checked(self, partition: int, id: str, epoch: int, now: float, *, is_true: bool) -> None:
        """This claim was compared with the partition's head; who claims what isn't its own is no choice for a while."""
        if not is_true:
            self._late[id] = now + LATE_S
        claim = self._claims.get(partition)
        if claim is not None and (claim.id, claim.epoch) == (id, epoch):
            claim.is_checked = True

    def _in_turn(self, view: MeshView, due: Sequence[int], now: float) -> tuple[int, ...]:
        """Those of the due ones that go now, and those that are going already."""
        self._moving = {
            partition: since
            for partition, since in self._moving.items()
            # a new owner that takes longer than a heartbeat doesn't hold the others up
            if not self._is_claimed(view, partition) and now - since < self._heartbeat_s
        }
        if not due and not self._moving:
            self._at_once = 0
        self._at_once = max(self._at_once, LEAST_AT_ONCE, ceil(len(due) / GOES))
        waiting = [partition for partition in due if partition not in self._moving]
        room = max(self._at_once - len(self._moving), 0)
        self._moving |= dict.fromkeys(waiting[:room], now)
        return tuple(partition for partition in due if partition in self._moving)

    def _choose(self, names: frozenset[str]) -> None:
        if names != self._names:
            self._names = names
            self._choices = [rendezvous(partition, names) for partition in range(self._partitions)]

    def _to_take(self, view: MeshView, owned: Mapping[int, int]) -> list[int]:
        return [
            partition
            for partition, choice in enumerate(self._choices)
            if choice == self._name
            and partition not in owned
            and partition not in self._retry_at
            and not self._is_claimed(view, partition)
        ]

    def _is_claimed(self, view: MeshView, partition: int) -> bool:
        # The view may still show a claim of our own that we have given up.
        owner = view.owner(partition)
        return owner is not None and owner.instance.id != self._id

    def _to_check(self, view: MeshView, owned: Mapping[int, int], now: float) -> Iterator[int]:
        """Partitions that another one claims, if that is to be compared with the head, and by us."""
        for partition in range(self._partitions):
            owner = view.owner(partition)
            if owner is None or owner.instance.id == self._id:
                self._claims.pop(partition, None)
                continue
            claim = self._claims.get(partition)
            if claim is None or (claim.id, claim.epoch) != (owner.instance.id, owner.epoch):
                again = claim.again if claim is not None else 0.0
                claim = self._claims[partition] = _Claim(owner.instance.id, owner.epoch, now, again)
            if claim.is_checked:
                continue
            if partition in owned:
                due = owner.epoch > owned[partition] > 0
            else:
                others = self._names - {owner.instance.name}
                due = (
                    now - claim.since >= SETTLED_INTERVALS * self._heartbeat_s
                    and bool(others)
                    and rendezvous(partition, others) == self._name
                )
            if due and now >= claim.again:
                claim.again = now + self._heartbeat_s  # the store may be away
                yield partition

    def _pass_over(self, view: MeshView, owned: Mapping[int, int], ids: Mapping[str, str], now: float) -> None:
        """Note who lets its turn pass: nobody claims the partition, and it claims none at all, nor restores one."""
        waiting: dict[int, tuple[str, float]] = {}
        for partition, choice in enumerate(self._choices):
            if choice == self._name or partition in owned or view.owner(partition) is not None:
                continue
            before = self._unclaimed.get(partition)
            waiting[partition] = before if before is not None and before[0] == choice else (choice, now)
        self._unclaimed = waiting
        busy = {owner.instance.name for owner in view.owners().values()}
        busy |= {one.name for one in view.live("processor") if one.load.get("restoring", 0.0) > 0}
        for name in busy & ids.keys():
            self._late.pop(ids[name], None)
        for choice, since in waiting.values():
            if now - since > LATE_INTERVALS * self._heartbeat_s and choice in ids and choice not in busy:
                self._late[ids[choice]] = now + LATE_S

    def _is_anothers(self, partition: int, settled: Collection[str]) -> bool:
        choice = self._choices[partition]
        return choice != self._name and choice in settled
