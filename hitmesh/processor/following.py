"""What a processor asks other datacenters' owners, and how old what it knows is. Pure: `now` comes in.

Owns the questions under way; how far a partition is, is the partition's. A question says how far we
have committed, so it is also the ack of what came before. Of each (partition, peer, origin) one is
under way at most: no answer can be large, or many, because a link was down for long.

A datacenter's rows are asked of itself. Those of one that nobody hears are asked of whoever has more of
them than we do, so that all the others end up with the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Final

from msgspec.structs import replace

from hitmesh.processor.partition import Partition
from hitmesh.processor.restoring import Restoration
from hitmesh.protocol.bounds import check_chunk, is_possible
from hitmesh.protocol.messages import Chunk, Position, Wanted

PATIENCE_S: Final = 2.0  # beyond the time that a question may be held: a round trip, and what was lost and sent again
MAX_AGE_S: Final = 1e9  # 30 years; an age is a load in heartbeats, which have a bound
NEW_S: Final = 3.0  # for which a partition just taken over is not judged by the age of what its store has


@dataclass(frozen=True, slots=True)
class _Question:
    number: int
    to: str  # the endpoint that it was sent to
    sent_s: float
    of: Restoration | None  # the attempt that asked: a later one knows nothing of what this one has been told


class Following:
    """The questions of one processor of datacenter `dc`; `held_s` is how long an answer may be held back."""

    def __init__(self, *, dc: str, held_s: float, first: int) -> None:
        """`first` is the first question's number: at random, as what was said to a process before this one may come late."""
        self._dc = dc
        self.held_s = held_s
        self._numbers = count(first)
        self._questions: dict[int, dict[tuple[str, str], _Question]] = {}  # partition -> (peer, origin) -> question
        self._known: dict[int, dict[str, Mapping[str, Position]]] = {}  # partition -> peer -> what it has of whom
        self._as_of: dict[int, dict[str, float]] = {}  # partition -> origin -> when its rows here were all there is
        self._pending: dict[int, dict[str, float]] = {}  # the same, once what has arrived is committed
        self._since: dict[int, float] = {}

    # --- questions ---------------------------------------------------------------------------

    def ask(
        self, partition: Partition, peers: Collection[str], endpoints: Mapping[str, str], now_s: float
    ) -> Iterator[tuple[str, Wanted]]:
        """What to ask now, and where: `endpoints` are those of the peers that can be asked about this partition."""
        self._since.setdefault(partition.number, now_s)
        questions = self._questions.setdefault(partition.number, {})
        for peer, origin, have in list(self._wanted(partition, peers, endpoints, now_s)):
            before = questions.get((peer, origin))
            is_under_way = (
                before is not None
                and (before.to, before.of) == (endpoints[peer], partition.restoration)
                and now_s - before.sent_s < self.held_s + PATIENCE_S
            )
            if is_under_way or partition.has_arrived(origin):
                continue
            number = next(self._numbers)
            questions[peer, origin] = _Question(number, endpoints[peer], now_s, partition.restoration)
            yield endpoints[peer], Wanted(partition.number, origin, number, have)

    def _wanted(
        self, partition: Partition, peers: Collection[str], endpoints: Mapping[str, str], now_s: float
    ) -> Iterator[tuple[str, str, Position | None]]:
        if partition.restoration is not None:
            yield from partition.restoration.wanted(peers, endpoints.keys(), now_s)
            return
        asked = set()
        for peer in endpoints:
            origin = partition.origins.get(peer)
            yield peer, peer, origin.position if origin else None
        for peer in endpoints:
            for name, position in self._known.get(partition.number, {}).get(peer, {}).items():
                if name in endpoints or name in asked or name == self._dc:
                    continue
                origin = partition.origins.get(name)
                if origin is None or position.rank > origin.position.rank:
                    asked.add(name)
                    yield peer, name, origin.position if origin else None

    def answered(self, partition: Partition, peer: str, chunk: Chunk, now_s: float) -> bool:
        """Take an answer in; whether the partition has something to write now."""
        questions = self._questions.get(partition.number, {})
        question = questions.get((peer, chunk.origin))
        if question is None or question.number != chunk.number or question.of is not partition.restoration:
            return False  # to a question that was asked again, or of an owner or an attempt before this one
        if reason := check_chunk(chunk, partition.partitions):
            partition.counters.refuse(peer, f"rows of {chunk.origin!a:.140} in partition {chunk.partition}: {reason}")
            return False  # asked again when this question is given up, not at once
        chunk = replace(chunk, known={dc: position for dc, position in chunk.known.items() if is_possible(position)})
        self._known.setdefault(partition.number, {})[peer] = chunk.known
        # It was held no longer than the question has been under way.
        held_s = min(chunk.held_ms / 1000, now_s - question.sent_s)
        as_of_s = question.sent_s + held_s - min(chunk.age_ms / 1000, MAX_AGE_S)
        if partition.restoration is not None:
            partition.restoration.arrived(peer, chunk, now_s)
        elif chunk.state is None and not chunk.whole:
            return False  # it has lost its rows, and is being brought back; it is asked again, not at once
        elif chunk.state is None:
            self._is_current(partition.number, chunk.origin, as_of_s)
        elif not partition.arrive(chunk, is_relayed=peer != chunk.origin):
            return False  # refused; asked again when this question is given up, not at once
        elif chunk.whole:
            self._pending.setdefault(partition.number, {})[chunk.origin] = as_of_s
        del questions[peer, chunk.origin]
        return partition.restoration is not None or chunk.state is not None

    def committed(self, partition: Partition) -> None:
        """The partition has written: what had arrived is as old as its question now."""
        pending = self._pending.get(partition.number, {})
        for origin in [one for one in pending if not partition.has_arrived(one)]:
            self._is_current(partition.number, origin, pending.pop(origin))

    def forget(self, number: int) -> None:
        """The partition isn't ours any more."""
        for of in (self._questions, self._known, self._as_of, self._pending, self._since):
            of.pop(number, None)

    # --- ages --------------------------------------------------------------------------------

    def age_s(self, partition: Partition, origin: str, now_s: float, wall_s: float) -> float:
        """For how long what is here of that datacenter's rows may have been out of date."""
        as_of_s = self._as_of.get(partition.number, {}).get(origin)
        if as_of_s is not None:
            return max(0.0, now_s - as_of_s)
        since_s = max(0.0, now_s - self._since.get(partition.number, now_s))
        found = partition.origins.get(origin)
        return max(since_s, wall_s - found.as_of_s) if found else since_s

    def worst_ages(
        self, partitions: Iterable[Partition], peers: Collection[str], now_s: float, wall_s: float
    ) -> dict[str, float]:
        """Each peer's highest age over these partitions, in seconds."""
        worst: dict[str, float] = {}
        for partition in partitions:
            for peer in peers:
                is_new = now_s - self._since.get(partition.number, now_s) < NEW_S
                if is_new and peer not in self._as_of.get(partition.number, {}):
                    continue
                worst[peer] = max(worst.get(peer, 0.0), self.age_s(partition, peer, now_s, wall_s))
        return worst

    def _is_current(self, number: int, origin: str, as_of_s: float) -> None:
        of = self._as_of.setdefault(number, {})
        of[origin] = max(as_of_s, of.get(origin, as_of_s))
