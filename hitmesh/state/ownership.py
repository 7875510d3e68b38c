"""Which partitions a processor should take over, and which hand over. Pure: `now` comes in.

It owns the choice; it must not know how a partition is taken (a compare-and-set in the totals
store, which alone makes ownership true). Wrong choices here cost time, never counts.

Rules: an owner in office stays while it is alive, unless the partition's rendezvous choice is
another living processor that is "up" and has been so in the view for a heartbeat interval. A
partition is taken by its rendezvous choice, and only while no living processor claims it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from hitmesh.state.view import MeshView


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
            return Steps(hand_over=tuple(owned))
        if not (view.known and view.connected):
            return Steps()
        self._choose(frozenset(up.values()) | {self._name})
        settled = {up[one] for one, since in self._up_since.items() if now - since >= self._heartbeat_s}
        return Steps(
            take=tuple(self._to_take(view, owned)) if self._id in up else (),
            hand_over=tuple(p for p, epoch in owned.items() if self._must_go(view, p, epoch, settled)),
        )

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

    def _must_go(self, view: MeshView, partition: int, epoch: int, settled: Collection[str]) -> bool:
        owner = view.owner(partition)
        if owner is not None and owner.instance.id != self._id and owner.epoch > epoch:
            return True  # we were replaced, and haven't written since to notice
        choice = self._choices[partition]
        return choice != self._name and choice in settled
