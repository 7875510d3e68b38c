"""What one Nexus knows: who is alive, where, with what load. Pure: `now` comes in, Changes go out.

It owns the numbering of Changes and the verdict that an instance is dead. It must not know what
instances say to each other, nor what they keep.

Instances of other datacenters are relayed by the Nexuses there (nexus.federation decides which of
those are believed). They are told like the own ones, under rules of their own: they may be silent
for longer, and neither lookups nor `forget` mean them.

Invariants:
- Everything is soft: it comes from heartbeats and is forgotten without them.
- A heartbeat touches only instances of the own datacenter, a relayed word only those of its own.
- Of several living instances of one (datacenter, role, name) one is known. Here a newcomer is, at once, as
  after a restart; but when the one before it speaks again it has its place back, and from then on
  others wait until it is dead. A balancer's next worker keeps it: the one before it will leave. Of those elsewhere, which their Nexuses chose, the one that started last is.
- Who can't read what is written here is in nobody's picture: nothing is handed to it.
- Nobody's clock is believed: what is old, and who was first, goes by when it was heard.
- A Nexus that was stopped for a while judges nobody by the silence of that while: it starts over,
  under a new id, as a fresh Nexus does.
- Bounded, by nexus.records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Final

from hitmesh.errors import MeshError
from hitmesh.protocol import formats
from hitmesh.protocol.messages import Answer, Change, Control, Heartbeat, Instance, Lookup, Neighbours, Seen, make
from hitmesh.state.ages import UPTIME
from hitmesh.state.standing import GENERATION, is_exchange
from nexus.records import Place, Record, Records, place_of

WARM_INTERVALS: Final = 1.5  # by then everybody has sent a heartbeat, reconnecting included
DRAINING: Final = "draining"  # of who leaves: its place is for who comes after it
MIN_INTERVAL_S: Final = 0.05  # what a heartbeat may claim as its interval: the bounds of timing.heartbeat_s
MAX_INTERVAL_S: Final = 60.0
BEHIND: Final = 2  # heartbeats in a row with lower numbers, and the higher one wasn't the instance's
MAX_LEFT: Final = 1000  # last words of one interval that are remembered
COMPLAINTS: Final = 8  # kept between two looks
SHOWN_CHARS: Final = 80  # of a wrong key in an error
TOLD_ROLES: Final = ("nexus", "processor", "dashboard")  # of whom other datacenters are told


class Registry:
    """The instances that one Nexus of datacenter `dc` hears of.

    `id` names this Nexus process; `interval_s` is the mesh's heartbeat interval, at which its own
    Changes go out, and `missed` the number of heartbeats after which an instance is dead; `wan_missed`
    the same of relayed ones. `wire` is the wire format that is written.
    """

    def __init__(
        self,
        id: str,
        *,
        dc: str,
        interval_s: float,
        missed: int,
        wan_missed: int,
        now: float,
        wire: Callable[[], int] = lambda: formats.FIRST,
    ) -> None:
        self._base = self._id = id
        self._dc = dc
        self._lives = 1
        self._interval_s = interval_s
        self._missed = missed
        self._wan_missed = wan_missed
        self._wire = wire
        # Everybody was heard at most one interval before a pause: below this, a pause kills nobody.
        self._stall_s = interval_s * (missed - 1) / 2
        self.refused = 0
        """Heartbeats, last words and instances that weren't believed, or found no room."""
        self._complaints: deque[str] = deque(maxlen=COMPLAINTS)
        self._begin(now)
        self._since = now

    def _begin(self, now: float) -> None:
        self._records = Records(self._dc)
        self._stirred: set[str] = set()  # whose load changed since the last own Change
        self._displaced: dict[Place, Record] = {}  # who was known in a place before the one that is now
        self._contested: set[Place] = set()  # where two were alive: a newcomer waits there
        self._rivals: dict[Place, float] = {}  # where one waits, and when it spoke last
        self._left: dict[str, int] = {}  # ids whose last words were heard, and the number before these
        self._spoken_for: set[str] = set()  # ids that went on after them: somebody else had said them
        self._number = 0
        self._ticked = now
        self._due = now

    def opened(self, now: float) -> None:
        """Nobody can have been heard before `now`."""
        self._since = self._ticked = self._due = now

    @property
    def id(self) -> str:
        """What the Changes carry as `nexus`: another one after every start-over."""
        return self._id

    def __len__(self) -> int:
        return len(self._records)

    def warm(self, now: float) -> bool:
        """Whether everybody alive in this datacenter has had the time to be heard."""
        return now - self._since >= WARM_INTERVALS * self._interval_s

    # --- what comes in --------------------------------------------------------------------

    def heartbeat(self, message: Heartbeat, now: float) -> Change | None:
        """Take in a heartbeat; the Change to publish when it brings more than a load."""
        instance = message.instance
        if instance.dc != self._dc:
            self._refuse(f"{instance.id} says that it is of {instance.dc}, and here is {self._dc}")
            return None
        wire = self._wire()
        if wire > formats.FIRST and formats.reads(release := formats.release_of(instance), formats.WIRE) < wire:
            self._refuse(f"{instance.id} is of release {release.version}, which can't read wire format {wire}")
            return None
        if now < self._since:
            return None
        record = self._records.get(instance.id)
        forgotten: list[str] = []
        moved = record is not None and place_of(record.instance) != place_of(instance)
        if record is not None and (moved or message.number <= record.number):
            # Late, or the truth after what somebody else said in its name: two in a row are no accident.
            record.behind += moved or message.number < record.number
            if record.behind < BEHIND:
                return None
            said = f"called {record.instance.name}, with number {record.number}"
            self._refuse(f"{instance.id} wasn't {said}: it is {instance.name}, with number {message.number}")
            if moved:
                forgotten.append(self._remove(instance.id))
        if message.number > self._left.get(instance.id, message.number):
            del self._left[instance.id]
            self._spoken_for.add(instance.id)
            self._refuse(f"{instance.id} goes on after its last words: somebody else has said them")
        silence_s = self._missed * interval_s_of(message)
        new = self._take(Record(instance, message.number, silence_s, now), forgotten, now)
        return self._change(now, [new] if new else [], forgotten) if new or forgotten else None

    def relay(self, message: Neighbours, listed: Container[str], now: float) -> Change | None:
        """Take in what a Nexus of another datacenter says of the instances there; the Change as for a heartbeat.

        `listed` are those of whom some Nexus there still speaks: the others have left.
        """
        if now < self._since or message.dc == self._dc:
            return None
        told: list[Record] = []
        forgotten: list[str] = []
        silence_s = self._wan_missed * interval_s_of(message)
        for seen in message.seen:
            record = self._records.get(seen.instance.id)
            if seen.instance.dc != message.dc or (record is not None and record.instance.dc != message.dc):
                continue
            if not seen.alive:
                if record is not None and record.died is None and seen.number >= record.number:
                    record.died, record.number = now, seen.number
                    told.append(record)
            # Not every Nexus there notices a death at the same moment: the same number revives nobody.
            elif record is None or seen.number >= record.number + (record.died is not None):
                new = self._take_relayed(Record(seen.instance, seen.number, silence_s, now), forgotten)
                told += [new] if new else []
        gone = [one.instance.id for one in self._records.of(message.dc) if one.instance.id not in listed]
        forgotten += [self._remove(one) for one in gone]
        told = [one for one in told if self._records.get(one.instance.id) is one]
        return self._change(now, told, forgotten) if told or forgotten else None

    def leave(self, id: str, now: float) -> Change | None:
        """An instance stops on purpose: it is forgotten at once."""
        record = self._records.get(id)
        if record is None or record.instance.dc != self._dc:
            return None
        if id in self._spoken_for:
            self._refuse(f"{id} is said to leave, and was before when it didn't")
            return None
        if len(self._left) < MAX_LEFT:
            self._left[id] = record.number
        return self._change(now, forgotten=[self._remove(id)])

    def rivals(self, now: float) -> int:
        """How many names two processes use that both speak: one of them is shown, the other does nothing."""
        return sum(now - at <= self._missed * self._interval_s for at in self._rivals.values())

    def complaints(self) -> list[str]:
        """What was refused since this was asked last: the newest few."""
        said = list(self._complaints)
        self._complaints.clear()
        return said

    def forget(self, name: str, now: float) -> Change:
        """Drop the dead instances called `name`. Raises MeshError when there is none."""
        named = [record for record in self._records.of(self._dc) if record.instance.name == name]
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
            record for record in self._records.all() if record.died is None and now - record.heard > record.silence_s
        ]
        for record in news:
            record.died = now
        self._displaced = {place: one for place, one in self._displaced.items() if self._speaks(one, now)}
        forgotten = self._records.bury(now)
        self._stirred.difference_update(forgotten)
        if now >= self._due:
            self._due += self._interval_s
            if self._due <= now:
                self._due = now + self._interval_s
            self._left.clear()  # no heartbeat overtakes last words by that much
            self._spoken_for = {one for one in self._spoken_for if self._records.get(one) is not None}
            self._contested = {place for place in self._contested if self._records.is_taken(place)}
            self._rivals = {place: at for place, at in self._rivals.items() if place in self._contested}
            stirred = (self._records.get(one) for one in self._stirred)
            news += [record for record in stirred if record is not None and record.died is None]
            self._stirred = set()
        elif not news and not forgotten:
            return None
        return self._change(now, news, forgotten)

    # --- what is asked --------------------------------------------------------------------

    def living(self, role: str) -> list[Instance]:
        """Those of a role of its own datacenter that live."""
        living = (record.instance for record in self._records.of(self._dc) if record.died is None)
        return [one for one in living if one.role == role]

    def neighbourhood(self, now: float) -> tuple[Seen, ...]:
        """What other datacenters are told of this one, Nexuses first; the dead of the last minutes included."""
        told = [record.seen(now) for record in self._records.of(self._dc) if record.instance.role in TOLD_ROLES]
        return tuple(sorted(told, key=lambda one: (TOLD_ROLES.index(one.instance.role), one.instance.id)))

    def answer(self, request: Lookup, now: float) -> Answer:
        """The answer to a lookup: "snapshot" (of everybody); in the own datacenter "service" (a role) or "owner"."""
        key = request.key
        if request.what == "snapshot":
            return self._answer(request.request, now, self._records.all())
        living = [record for record in self._records.of(self._dc) if record.died is None]
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

    def _take(self, new: Record, forgotten: list[str], now: float) -> Record | None:
        """Know an instance of the own datacenter from now on, if it may be; its record when more than the load is new.

        Adds to `forgotten` who had to go for it.
        """
        instance, place = new.instance, place_of(new.instance)
        record, rival = self._records.get(instance.id), self._records.at(instance)
        contested = rival is not None and rival is not record and rival.died is None and self._speaks(rival, now)
        if contested and instance.state == DRAINING:
            return None  # it leaves, and its place has been taken
        if contested and rival is not None and is_exchange(rival.instance, instance):
            if instance.load[GENERATION] < rival.instance.load[GENERATION]:
                return None  # it will leave, and its place has been taken
        elif contested and rival is not None and rival.instance.state != DRAINING:
            first = self._displaced.get(place)
            if first is not None and first.instance.id == instance.id and self._speaks(first, now):
                if new.number <= first.number:
                    return None  # its late words
                del self._displaced[place]
                self._contested.add(place)
                self._refuse(
                    f"{rival.instance.id} called itself {instance.name}, as {instance.id} does, which was first"
                )
            elif place in self._contested:
                self._rivals[place] = now
                self._refuse(f"{instance.id} calls itself {instance.name}, as {rival.instance.id} does, which is alive")
                return None
            else:
                self._displaced[place] = rival
        if rival is not None and rival is not record:
            forgotten.append(self._remove(rival.instance.id))
        return self._put(new, record, forgotten)

    def _take_relayed(self, new: Record, forgotten: list[str]) -> Record | None:
        """The same of an instance elsewhere."""
        instance = new.instance
        record, rival = self._records.get(instance.id), self._records.at(instance)
        if record is None and rival is not None and rival.died is None:
            old = rival.instance
            if (instance.started_ms, instance.id) < (old.started_ms, old.id):
                return None  # the late words of the one that was replaced
        elif record is not None and rival is not record:
            return None  # an id belongs to one place
        if rival is not None and rival is not record:
            forgotten.append(self._remove(rival.instance.id))
        return self._put(new, record, forgotten)

    def _put(self, new: Record, record: Record | None, forgotten: list[str]) -> Record | None:
        instance = new.instance
        if not self._records.put(new, forgotten):
            self._refuse(f"{instance.id} of {instance.dc} finds no room: there are too many instances of that role")
            return None
        if record is None or record.died is not None or _differ(record.instance, instance):
            return new
        if {**record.instance.load, UPTIME: 0.0} != {**instance.load, UPTIME: 0.0}:  # that time goes on is no news
            self._stirred.add(instance.id)
        return None

    def _speaks(self, record: Record, now: float) -> bool:
        """Whether it keeps its place by being heard: whatever interval it claims, for no longer than anybody may be silent."""
        return now - record.heard <= min(record.silence_s, self._missed * self._interval_s)

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self._complaints.append(why)

    def _start_over(self, now: float) -> None:
        # What is queued in our sockets was sent while we were away, perhaps by somebody who has
        # died since: be deaf to it for half an interval.
        self._lives += 1
        self._id = f"{self._base}.{self._lives}"
        self._begin(now)
        self._since = now + self._interval_s / 2

    def _remove(self, id: str) -> str:
        self._stirred.discard(id)
        return self._records.remove(id)

    def _change(self, now: float, news: Iterable[Record] = (), forgotten: Iterable[str] = ()) -> Change:
        self._number += 1
        seen = tuple(record.seen(now) for record in news)
        return make(Change, self._id, self._number, self.warm(now), seen, tuple(forgotten))

    def _answer(self, request: int, now: float, records: Iterable[Record] = (), error: str = "") -> Answer:
        seen = tuple(record.seen(now) for record in records)
        return make(Answer, request, error, self._id, self._number, self.warm(now), seen)


def interval_s_of(message: Heartbeat | Neighbours) -> float:
    """The interval that a message claims, within bounds."""
    return min(max(message.interval_ms / 1000, MIN_INTERVAL_S), MAX_INTERVAL_S)


def _differ(old: Instance, new: Instance) -> bool:
    """Whether more than the load differs."""
    return (
        old.state != new.state
        or old.endpoints != new.endpoints
        or old.owns != new.owns
        or old.pid != new.pid
        or old.started_ms != new.started_ms
    )


def _owner(living: Iterable[Record], partition: int) -> Record | None:
    claims = [record for record in living if partition in record.instance.owns]
    return max(claims, key=lambda one: (one.instance.owns[partition], one.instance.name), default=None)
