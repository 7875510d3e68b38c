"""What one Nexus knows: who is alive, where, with what load. Pure: `now` comes in, Changes go out.

It owns the numbering of Changes and the verdict that an instance is dead. It must not know what
instances say to each other, nor what they keep.

Invariants:
- Everything is soft: it comes from heartbeats and is forgotten without them.
- Of several living instances of one (datacenter, role, name) the one that started last is known.
- A Nexus that was stopped for a while judges nobody by the silence of that while: it starts over,
  under a new id, as a fresh Nexus does.
- Bounded: records, their bytes, and how long and how many of the dead are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hitmesh.errors import MeshError
from hitmesh.protocol.messages import (
    MAX_FRAME_BYTES,
    MAX_INSTANCES,
    Answer,
    Change,
    Control,
    Heartbeat,
    Instance,
    Lookup,
    Seen,
    encode,
    make,
)

WARM_INTERVALS: Final = 1.5  # by then everybody has sent a heartbeat, reconnecting included
MIN_INTERVAL_S: Final = 0.05  # what a heartbeat may claim as its interval: the bounds of timing.heartbeat_s
MAX_INTERVAL_S: Final = 60.0
DEAD_KEPT_S: Final = 300.0  # for `status`: long enough that an operator sees what died
MAX_DEAD: Final = 256  # more deaths than this in five minutes are a story for the logs
MAX_KNOWN: Final = 4000  # instances, dead ones included; far above the 64 per role and node that a config allows
MAX_PICTURE_BYTES: Final = MAX_FRAME_BYTES - 512 * 1024  # a snapshot of everybody must fit into one frame
SEEN_BYTES: Final = 32  # of a record in a snapshot beside its heartbeat's bytes
SHOWN_CHARS: Final = 80  # of a wrong key in an error

assert MAX_KNOWN <= MAX_INSTANCES

_Place = tuple[str, str, str]  # datacenter, role, name


@dataclass(slots=True)
class _Record:
    instance: Instance
    number: int
    interval_s: float
    heard: float
    size_bytes: int
    died: float | None = None

    def seen(self, now: float) -> Seen:
        age_ms = max(0, int((now - self.heard) * 1000))
        return Seen(self.instance, self.number, age_ms, self.died is None)


class Registry:
    """The instances that one Nexus hears of.

    `id` names this Nexus process; `interval_s` is the mesh's heartbeat interval, at which its own
    Changes go out, and `missed` the number of heartbeats after which an instance is dead.
    """

    def __init__(self, id: str, *, interval_s: float, missed: int, now: float) -> None:
        self._base = self._id = id
        self._lives = 1
        self._interval_s = interval_s
        self._missed = missed
        # Everybody was heard at most one interval before a pause: below this, a pause kills nobody.
        self._stall_s = interval_s * (missed - 1) / 2
        self.refused = 0  # heartbeats of instances for which there was no room
        self._begin(now)
        self._since = now

    def _begin(self, now: float) -> None:
        self._records: dict[str, _Record] = {}
        self._ids: dict[_Place, str] = {}
        self._bytes = 0
        self._stirred: set[str] = set()  # whose load changed since the last own Change
        self._number = 0
        self._ticked = now
        self._due = now

    @property
    def id(self) -> str:
        """What the Changes carry as `nexus`: another one after every start-over."""
        return self._id

    def __len__(self) -> int:
        return len(self._records)

    def warm(self, now: float) -> bool:
        """Whether everybody alive has had the time to be heard."""
        return now - self._since >= WARM_INTERVALS * self._interval_s

    # --- what comes in --------------------------------------------------------------------

    def heartbeat(self, message: Heartbeat, now: float) -> Change | None:
        """Take in a heartbeat; the Change to publish when it brings more than a load."""
        instance = message.instance
        record = self._records.get(instance.id)
        if now < self._since or (record is not None and message.number <= record.number):
            return None
        place = (instance.dc, instance.role, instance.name)
        rival = self._records.get(self._ids.get(place, ""))
        if record is None and rival is not None and rival.died is None:
            old = rival.instance
            if (instance.started_ms, instance.id) < (old.started_ms, old.id):
                return None  # the late words of the one that was replaced
        elif record is not None and rival is not record:
            return None  # an id belongs to one place
        size_bytes = len(encode(message)) + SEEN_BYTES
        forgotten: list[str] = []
        if rival is not None and rival is not record:
            forgotten.append(self._remove(rival.instance.id))
        if not self._make_room(size_bytes, record, forgotten):
            self.refused += 1
            return self._change(now, forgotten=forgotten) if forgotten else None
        interval_s = min(max(message.interval_ms / 1000, MIN_INTERVAL_S), MAX_INTERVAL_S)
        new = _Record(instance, message.number, interval_s, now, size_bytes)
        self._bytes += size_bytes - (record.size_bytes if record else 0)
        self._records[instance.id] = new
        self._ids[place] = instance.id
        if record is None or record.died is not None or _differ(record.instance, instance):
            return self._change(now, [new], forgotten)
        if record.instance.load != instance.load:
            self._stirred.add(instance.id)
        return None

    def leave(self, id: str, now: float) -> Change | None:
        """An instance stops on purpose: it is forgotten at once."""
        if id not in self._records:
            return None
        return self._change(now, forgotten=[self._remove(id)])

    def forget(self, name: str, now: float) -> Change:
        """Drop the dead instances called `name`. Raises MeshError when there is none."""
        named = [record for record in self._records.values() if record.instance.name == name]
        dead = [record.instance.id for record in named if record.died is not None]
        if not dead:
            shown = name[:SHOWN_CHARS]
            if named:
                raise MeshError(f"{shown} is alive", op="forget", hint="stop it first")
            raise MeshError(f"no instance is called {shown!r}", op="forget", hint="see hitmesh status")
        return self._change(now, forgotten=[self._remove(one) for one in dead])

    def tick(self, now: float) -> Change | None:
        """Judge the silent. The Change to publish: at every death, and once per interval anyway.

        To be called several times per interval.
        """
        if now - self._ticked > self._stall_s:
            self._start_over(now)
        self._ticked = now
        news = [
            record
            for record in self._records.values()
            if record.died is None and now - record.heard > self._missed * record.interval_s
        ]
        for record in news:
            record.died = now
        forgotten = self._bury(now)
        if now >= self._due:
            self._due += self._interval_s
            if self._due <= now:
                self._due = now + self._interval_s
            stirred = (self._records[one] for one in self._stirred)
            news += [record for record in stirred if record.died is None]
            self._stirred = set()
        elif not news and not forgotten:
            return None
        return self._change(now, news, forgotten)

    # --- what is asked --------------------------------------------------------------------

    def answer(self, request: Lookup, now: float) -> Answer:
        """The answer to a lookup: "snapshot", "service" (a role) or "owner" (a partition)."""
        key = request.key
        if request.what == "snapshot":
            return self._answer(request.request, now, self._records.values())
        living = [record for record in self._records.values() if record.died is None]
        if request.what == "service":
            return self._answer(request.request, now, [one for one in living if one.instance.role == key])
        if request.what == "owner":
            if not (key.isascii() and key.isdigit() and len(key) <= len("4095")):
                return self._answer(request.request, now, error=f"{key[:SHOWN_CHARS]!r} is not a partition")
            owner = _owner(living, int(key))
            return self._answer(request.request, now, [owner] if owner else [])
        return self._answer(request.request, now, error=f"no such lookup: {request.what}")

    def control(self, request: Control, now: float) -> tuple[Answer, Change | None]:
        """Carry out what an operator asks for; the answer, and the Change to publish before it."""
        if request.verb != "forget":
            return self._answer(request.request, now, error=f"no such verb: {request.verb}"), None
        try:
            change = self.forget(request.key, now)
        except MeshError as error:
            return self._answer(request.request, now, error=str(error)), None
        return self._answer(request.request, now), change

    # --- within ---------------------------------------------------------------------------

    def _start_over(self, now: float) -> None:
        # What is queued in our sockets was sent while we were away, perhaps by somebody who has
        # died since: be deaf to it for half an interval.
        self._lives += 1
        self._id = f"{self._base}.{self._lives}"
        self._begin(now)
        self._since = now + self._interval_s / 2

    def _bury(self, now: float) -> list[str]:
        dead = sorted((one.died, one.instance.id) for one in self._records.values() if one.died is not None)
        excess = len(dead) - MAX_DEAD
        old = [one for index, (died, one) in enumerate(dead) if index < excess or now - died > DEAD_KEPT_S]
        return [self._remove(one) for one in old]

    def _make_room(self, size_bytes: int, record: _Record | None, forgotten: list[str]) -> bool:
        """Whether a record of that size may stand in for `record`; the dead make room, oldest first."""
        while True:
            count = len(self._records) + (record is None)
            held_bytes = self._bytes - (record.size_bytes if record else 0)
            if count <= MAX_KNOWN and held_bytes + size_bytes <= MAX_PICTURE_BYTES:
                return True
            dead = [one for one in self._records.values() if one.died is not None and one is not record]
            if not dead:
                return False
            forgotten.append(self._remove(min(dead, key=lambda one: one.died or 0.0).instance.id))

    def _remove(self, id: str) -> str:
        record = self._records.pop(id)
        instance = record.instance
        del self._ids[instance.dc, instance.role, instance.name]
        self._bytes -= record.size_bytes
        self._stirred.discard(id)
        return id

    def _change(self, now: float, news: Iterable[_Record] = (), forgotten: Iterable[str] = ()) -> Change:
        self._number += 1
        seen = tuple(record.seen(now) for record in news)
        return make(Change, self._id, self._number, self.warm(now), seen, tuple(forgotten))

    def _answer(self, request: int, now: float, records: Iterable[_Record] = (), error: str = "") -> Answer:
        seen = tuple(record.seen(now) for record in records)
        return make(Answer, request, error, self._id, self._number, self.warm(now), seen)


def _differ(old: Instance, new: Instance) -> bool:
    """Whether more than the load differs."""
    return (
        old.state != new.state
        or old.endpoints != new.endpoints
        or old.owns != new.owns
        or old.pid != new.pid
        or old.started_ms != new.started_ms
    )


def _owner(living: Iterable[_Record], partition: int) -> _Record | None:
    claims = [record for record in living if partition in record.instance.owns]
    return max(claims, key=lambda one: (one.instance.owns[partition], one.instance.name), default=None)
