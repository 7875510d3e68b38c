"""Which partitions a processor should take over, and which hand over. Pure: `now` comes in.

It owns the choice; it must not know how a partition is taken (a compare-and-set in the totals
store, which alone makes ownership true). Wrong choices here cost time, never counts.

Rules: an owner in office stays while it is alive, unless the partition's rendezvous choice is
another living processor that is "up" and has been so in the view for a heartbeat interval. A
partition is taken by its rendezvous choice, and only while no living processor claims it.

Partitions are handed over a few at a time, the next ones when somebody owns those: what a partition
waits for is its own take-over, not that of all the others before it. A whole share goes in GOES goes
at most, so that a newcomer has it in time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import Final

from hitmesh.state.view import MeshView

LEAST_AT_ONCE: Final = 2  # partitions handed over at a time: one is committed while the other is announced
GOES: Final = 6  # each takes a tenth of a second or two, and a newcomer's share has a second


def rendezvous(partition: int, names: Collection[str]) -> str:
    """The one of `names` that should own the partition: the highest random weight wins.

    By name, so that a restart gets the same partitions back, and a name that comes or goes moves
    only its own share. `names` must not be empty.
    """
    return max(names, key=lambda name: (_weight(partition, name), name))


def _weight(partition: int, name: str) -> bytes:
    return blake2b(f"{partition}:{name}".encode(), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Steps:
    """What a processor should do now: try to take over, and stop using and announce."""

    take: tuple[int, ...] = ()
    hand_over: tuple[int, ...] = ()


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
        self._moving: dict[int, float] = {}  # handed over, and not seen with its new owner yet: since when
        self._at_once = 0  # how many may be, until all that is due has moved

    def refused(self, partition: int, now: float) -> None:
        """A take-over was refused, or this owner was fenced: leave the partition alone for a heartbeat."""
        self._retry_at[partition] = now + self._heartbeat_s

    def steps(self, view: MeshView, owned: Mapping[int, int], now: float, *, draining: bool = False) -> Steps:
        """What to do, given the partitions owned now and their epochs.

        To be called when the view's version rises, and a few times per heartbeat besides: some
        rules wait for a heartbeat to pass.
        """
        up = {one.id: one.name for one in view.live("processor") if one.state == "up"}
        self._up_since = {one: self._up_since.get(one, now) for one in up}
        self._retry_at = {partition: at for partition, at in self._retry_at.items() if at > now}
        if draining:
            has_heir = view.connected and any(one != self._id for one in up)
            return Steps(hand_over=self._in_turn(view, list(owned), now) if has_heir else tuple(owned))
        if not (view.known and view.connected):
            return Steps()
        self._choose(frozenset(up.values()) | {self._name})
        settled = {up[one] for one, since in self._up_since.items() if now - since >= self._heartbeat_s}
        lost = {p: epoch for p, epoch in owned.items() if self._was_replaced(view, p, epoch)}
        due = [p for p in owned if p not in lost and self._is_anothers(p, settled)]
        return Steps(
            take=tuple(self._to_take(view, owned)) if self._id in up else (),
            hand_over=(*lost, *self._in_turn(view, due, now)),
        )

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

    def _was_replaced(self, view: MeshView, partition: int, epoch: int) -> bool:
        """Whether somebody else took it over, and we haven't written since to notice."""
        owner = view.owner(partition)
        return owner is not None and owner.instance.id != self._id and owner.epoch > epoch

    def _is_anothers(self, partition: int, settled: Collection[str]) -> bool:
        choice = self._choices[partition]
        return choice != self._name and choice in settled
