"""The instances that a Nexus keeps, within bounds: by id, and one for each place. Pure.

It owns how much room there is and who has to go for a newcomer. It must not know when an instance
is dead, nor who is told of it.

Invariants:
- Bounded: records, their bytes, and how long and how many of the dead are kept.
- Everybody's records fit into one snapshot.
- Instances of other datacenters never crowd out those of the own one.
- Whoever is alive and known stays: of too many it is the newcomers that find no room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, ValuesView
from dataclasses import dataclass
from typing import Final

from hitmesh.config import ROLES
from hitmesh.protocol.messages import MAX_FRAME_BYTES, MAX_INSTANCES, Heartbeat, Instance, Seen, encode, make

DEAD_KEPT_S: Final = 300.0  # for `status`: long enough that an operator sees what died
MAX_DEAD: Final = 256  # more deaths than this in five minutes are a story for the logs
MAX_KNOWN: Final = 4000  # instances, dead ones included, of all datacenters
MAX_OF_ROLE: Final = (
    512  # of one role in one datacenter, dead ones included: eight hosts with the 64 that a config allows
)
MAX_PICTURE_BYTES: Final = MAX_FRAME_BYTES - 512 * 1024  # a snapshot of everybody must fit into one frame
SEEN_BYTES: Final = 32  # of a record in a snapshot beside its heartbeat's bytes

assert MAX_KNOWN <= MAX_INSTANCES

Place = tuple[str, str, str]  # datacenter, role, name


def place_of(instance: Instance) -> Place:
    """What only one living instance can be at a time."""
    return instance.dc, instance.role, instance.name


@dataclass(slots=True)
class Record:
    """One instance, as it was last heard."""

    instance: Instance
    number: int  # of its last heartbeat
    silence_s: float  # after which it is dead
    heard: float
    died: float | None = None
    size_bytes: int = 0
    behind: int = 0  # heartbeats since the last one that was taken in, all with lower numbers

    def seen(self, now: float) -> Seen:
        """The record as it is told."""
        age_ms = max(0, int((now - self.heard) * 1000))
        return Seen(self.instance, self.number, age_ms, self.died is None)


class Records:
    """All that a Nexus of datacenter `dc` keeps."""

    def __init__(self, dc: str) -> None:
        self._dc = dc
        self._records: dict[str, Record] = {}
        self._ids: dict[Place, str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()  # by datacenter and role
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def get(self, id: str) -> Record | None:
        """The record of an instance."""
        return self._records.get(id)

    def at(self, instance: Instance) -> Record | None:
        """Who is known in this instance's place: itself, or a rival."""
        return self._records.get(self._ids.get(place_of(instance), ""))

    def is_taken(self, place: Place) -> bool:
        """Whether somebody is known in this place, dead or alive."""
        return place in self._ids

    def all(self) -> ValuesView[Record]:
        """Everybody, the dead and those of other datacenters included."""
        return self._records.values()

    def of(self, dc: str) -> Iterator[Record]:
        """Everybody of one datacenter."""
        return (record for record in self._records.values() if record.instance.dc == dc)

    def put(self, record: Record, forgotten: list[str]) -> bool:
        """Keep it, in place of the one with its id; False: no room. Adds to `forgotten` who had to go for it."""
        instance = record.instance
        record.size_bytes = len(encode(make(Heartbeat, record.number, 0, instance))) + SEEN_BYTES
        before = self._records.get(instance.id)
        if not self._make_room(record, before, forgotten):
            return False
        self.size_bytes += record.size_bytes - (before.size_bytes if before else 0)
        if before is None:
            self._counts[_kind(instance)] += 1
        self._records[instance.id] = record
        self._ids[place_of(instance)] = instance.id
        return True

    def remove(self, id: str) -> str:
        """Forget an instance that is known."""
        record = self._records.pop(id)
        del self._ids[place_of(record.instance)]
        self._counts[_kind(record.instance)] -= 1
        self.size_bytes -= record.size_bytes
        return id

    def bury(self, now: float) -> list[str]:
        """Forget those who have been dead for long, and the oldest dead beyond the bound."""
        dead = sorted((one.died, one.instance.id) for one in self._records.values() if one.died is not None)
        excess = len(dead) - MAX_DEAD
        old = [one for index, (died, one) in enumerate(dead) if index < excess or now - died > DEAD_KEPT_S]
        return [self.remove(one) for one in old]

    def _make_room(self, record: Record, before: Record | None, forgotten: list[str]) -> bool:
        """The dead make room, the oldest first; for an instance of the own datacenter then those of others do."""
        one_more = before is None
        kind = _kind(record.instance)
        if one_more and self._counts[kind] >= MAX_OF_ROLE:
            dead = [one for one in self._records.values() if one.died is not None and _kind(one.instance) == kind]
            if not dead:
                return False
            forgotten.append(self.remove(min(dead, key=lambda one: one.died or 0.0).instance.id))
        while True:
            count = len(self._records) + one_more
            held_bytes = self.size_bytes - (before.size_bytes if before else 0)
            if count <= MAX_KNOWN and held_bytes + record.size_bytes <= MAX_PICTURE_BYTES:
                return True
            others = [one for one in self._records.values() if one is not before]
            least = [one for one in others if one.died is not None]
            if not least and record.instance.dc == self._dc:
                least = [one for one in others if one.instance.dc != self._dc]
            if not least:
                return False
            forgotten.append(self.remove(min(least, key=lambda one: one.died or one.heard).instance.id))


def _kind(instance: Instance) -> tuple[str, str]:
    """Among whom an instance has to find room. Roles that this release doesn't know share one."""
    return instance.dc, instance.role if instance.role in ROLES else ""
