"""Which other datacenters there are, what they are told of this one, and whose words are believed. Pure.

It owns the numbering of Neighbours, when one is due, and the gossip: where the Nexuses of each
datacenter are. It must not know how the words travel, nor decide who is alive (nexus.registry does).

Every Neighbours is a whole picture, so nothing is ever repaired: the next one makes a lost one good.

Invariants:
- A datacenter is *heard* by its own words only. What others say of it tells where to find it.
- Gossip dies out: told is only who was heard by the teller itself, within KEPT_S.
- A datacenter with another number of partitions, or under our own name, is never believed in anything.
- Unknown is not absent: whoever is configured, was found in the catalogue, was heard or was told of
  is missed until it is heard, or retired.
- A stranger, whom nobody here has configured, no known datacenter names, and of whom there are no rows, is
  heard (a new datacenter begins so), but nobody misses it.
- Bounded: datacenters, their Nexuses, and the endpoints of each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from hitmesh.config.addresses import host_port
from hitmesh.protocol.messages import MAX_DCS, MAX_ENDPOINTS, Instance, Neighbours, Seen, encode, make
from hitmesh.protocol.names import is_numeric, split_key
from nexus.records import MAX_KNOWN
from nexus.registry import BEHIND, interval_s_of

KEPT_S: Final = 24 * 3600.0  # that a datacenter out of reach is remembered: longer than links are down
STRANGER_S: Final = 300.0  # the same of one that nobody has configured: it comes again by itself
GAP_S: Final = 0.2  # between two Neighbours at least: a hand-over of all partitions changes things a hundred times
MAX_NEIGHBOURS_BYTES: Final = 1024 * 1024  # of one; an instance has some 500, without its load 300
COMPLAINT_S: Final = 60.0  # between two lines in the log about one datacenter that is refused
NEVER: Final = float("-inf")
MAX_REFUSED: Final = 64  # datacenters that are refused, as far as they are counted


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What some directory knows of the other datacenters: where their Nexuses' heartbeats go."""

    peers: Mapping[str, Collection[str]] = field(default_factory=dict)  # by datacenter
    unanswered: frozenset[str] = frozenset()  # of whom nothing is known yet: they may be peers
    blind: bool = False  # it doesn't know yet whether there are others


@dataclass(slots=True)
class _Picture:
    """Of the newest Neighbours of one Nexus elsewhere."""

    number: int
    heard: float
    ids: frozenset[str]
    behind: int = 0


@dataclass(slots=True)
class _Datacenter:
    heard: float = NEVER  # by its own words
    silence_s: float = 0.0  # after which it is out of reach
    own: tuple[str, ...] = ()  # where its Nexuses are, by its own words
    told: dict[str, float] = field(default_factory=dict)  # where, by those of others, and when
    pictures: dict[str, _Picture] = field(default_factory=dict)  # by Nexus process
    vouched: bool = False  # somebody who is known names it, or it has rows here


@dataclass(frozen=True, slots=True)
class _Refused:
    at: float
    logged: float
    why: str


class Federation:
    """The other datacenters, as one Nexus of `dc` knows them.

    `nexus` is this process's id, `here` the heartbeats endpoints of the configured Nexuses of `dc` as others reach
    them, `inside` the same as its own do, `configured` those of other datacenters. `missed` intervals of silence,
    and one is out of reach.
    """

    def __init__(
        self,
        dc: str,
        nexus: str,
        *,
        here: Iterable[str],
        configured: Mapping[str, Iterable[str]],
        partitions: int,
        interval_s: float,
        missed: int,
        inside: Iterable[str] = (),
    ) -> None:
        self._dc, self._nexus = dc, nexus
        self._here, self._inside = tuple(here), tuple(inside)
        self._own = {*self._here, *self._inside}  # where this datacenter's Nexuses are
        self._configured = {name: _usable(endpoints) for name, endpoints in configured.items() if name != dc}
        self._partitions = partitions
        self._interval_s = interval_s
        self._gap_s = min(GAP_S, interval_s)
        self._missed = missed
        self._others: dict[str, _Datacenter] = {}
        self._refused: dict[str, _Refused] = {}
        self._catalogue = Catalogue()
        self._number = 0
        self._said: float | None = None
        self._asked = False  # a whole picture is due, whether or not it has changed
        self._gist: tuple[object, ...] = ()  # of what was said last

    # --- what comes in --------------------------------------------------------------------

    def hear(self, message: Neighbours, now: float, *, siblings: Collection[str] | None = ()) -> str | None:
        """Take in a word of another datacenter; None: it may be believed (and relayed).

        Otherwise what the log should say of it; nothing when it said so lately, or there is nothing to say.
        `siblings` are the ids of the Nexuses of this datacenter, None: not known yet.
        """
        if message.dc == self._dc and (siblings is None or message.nexus in {self._nexus, *siblings}):
            return ""  # an address of our own among those of the peers: it leads back to us
        known = self._others.get(message.dc)
        refusal = self._refusal(message, known)
        if refusal:
            return self._refuse(message.dc, refusal, now)
        self._refused.pop(message.dc, None)
        known = self._others.setdefault(message.dc, _Datacenter())
        picture = known.pictures.get(message.nexus)
        if picture is not None and message.number <= picture.number:
            picture.behind += message.number < picture.number
            if picture.behind < BEHIND:
                return ""  # it came twice, or late; more of that, and the higher number was somebody else's
        known.heard = now
        known.silence_s = self._missed * interval_s_of(message)
        known.own = _numeric(message.nexuses.get(message.dc, ()))
        known.told.clear()  # who it is asked about itself knows better
        self._see(known, message, now)
        for name, endpoints in message.nexuses.items():
            if name not in {self._dc, message.dc} and (name in self._others or self._has_room()):
                told = self._others.setdefault(name, _Datacenter())
                told.vouched = told.vouched or self.is_known(message.dc)
                self._tell(told, endpoints, now)
        return None

    def find(self, catalogue: Catalogue) -> None:
        """What the catalogue says now, in place of what it said before."""
        peers = {name: _usable(where) for name, where in catalogue.peers.items() if name != self._dc}
        self._catalogue = Catalogue(peers, catalogue.unanswered - {self._dc}, catalogue.blind)

    def root(self, dcs: Iterable[str]) -> None:
        """There are rows of these here."""
        for name in dcs:
            if name in self._others:
                self._others[name].vouched = True

    def greet(self) -> None:
        """Somebody has just connected: have a whole picture soon."""
        self._asked = True

    # --- what goes out --------------------------------------------------------------------

    def speak(self, seen: Sequence[Seen], settings: str, now: float) -> bytes | None:
        """The Neighbours to send now, if one is due: `seen` is this datacenter, `settings` the digest there."""
        nexuses = self._gossip(seen, now)
        gist = (settings, nexuses, [(one.alive, *_gist(one.instance)) for one in seen])
        if self._said is not None:
            since_s = now - self._said
            if since_s < self._gap_s or (since_s < self._interval_s and not self._asked and gist == self._gist):
                self._asked = self._asked or gist != self._gist
                return None
        self._said, self._gist, self._asked = now, gist, False
        self._number += 1
        interval_ms = int(self._interval_s * 1000)
        return _packed(
            make(
                Neighbours, self._dc, self._nexus, self._number, interval_ms, self._partitions, settings, nexuses,
                tuple(seen),
            )
        )  # fmt: skip

    def pause_s(self, now: float) -> float:
        """How long `speak` has nothing to say, unless something changes."""
        if self._said is None:
            return self._gap_s
        return max(0.0, self._said + (self._gap_s if self._asked else self._interval_s) - now)

    def endpoints(self, now: float) -> frozenset[str]:
        """Where this Nexus's words should go: the heartbeats of every Nexus elsewhere that may be there."""
        found = {
            one for peers in (self._configured, self._catalogue.peers) for where in peers.values() for one in where
        }
        for known in self._remembered(now).values():
            found.update(known.own, known.told)
        own = {split_key(one)[0] for one in self._own}
        return frozenset(one for one in found if split_key(one)[0] not in own)

    def places_of(self, endpoint: str) -> dict[str, int]:
        """Of which datacenters a Nexus is there, and which one of them, as it is written: the first is 0."""
        found = {name: 0 for name, known in self._others.items() if endpoint in known.own or endpoint in known.told}
        for peers in (self._catalogue.peers, self._configured):
            found.update({name: list(where).index(endpoint) for name, where in peers.items() if endpoint in where})
        return found

    # --- what is asked --------------------------------------------------------------------

    def heard(self, now: float) -> frozenset[str]:
        """The datacenters that are heard."""
        return frozenset(name for name, known in self._others.items() if now - known.heard <= known.silence_s)

    def is_known(self, dc: str) -> bool:
        """Whether a datacenter is more than a stranger."""
        known = self._others.get(dc)
        return dc in self._configured or dc in self._catalogue.peers or (known is not None and known.vouched)

    def unheard(self, retired: Collection[str], now: float) -> int:
        """How many there must be, apart from the retired ones, that aren't heard; at least 1 while nobody knows."""
        remembered = (name for name, known in self._remembered(now).items() if known.vouched)
        named = {*self._configured, *self._catalogue.peers, *self._catalogue.unanswered, *remembered}
        return max(len(named - {self._dc} - set(retired) - self.heard(now)), int(self._catalogue.blind))

    def refused(self, now: float) -> int:
        """How many datacenters were refused lately."""
        return sum(now - one.at <= COMPLAINT_S for one in self._refused.values())

    def listed(self, dc: str) -> frozenset[str]:
        """The ids of all instances of whom some Nexus of that datacenter speaks."""
        known = self._others.get(dc)
        return frozenset().union(*(one.ids for one in known.pictures.values())) if known else frozenset()

    # --- within ---------------------------------------------------------------------------

    def _refusal(self, message: Neighbours, known: _Datacenter | None) -> str:
        if message.dc == self._dc:
            return f"another datacenter calls itself {self._dc} as this one does; each needs a name of its own"
        if message.partitions != self._partitions:
            return (
                f"datacenter {message.dc} has {message.partitions} partitions and this one {self._partitions}; "
                "they must be as many everywhere"
            )
        if known is None and not self._has_room():
            return f"datacenter {message.dc} is one too many: a mesh has at most {MAX_DCS}"
        return ""

    def _refuse(self, dc: str, why: str, now: float) -> str:
        before = self._refused.get(dc)
        if before is None and len(self._refused) >= MAX_REFUSED:
            del self._refused[min(self._refused, key=lambda one: self._refused[one].at)]
        quiet = before is not None and before.why == why and now - before.logged < COMPLAINT_S
        self._refused[dc] = _Refused(now, before.logged if before and quiet else now, why)
        return "" if quiet else why

    def _see(self, known: _Datacenter, message: Neighbours, now: float) -> None:
        """Keep who is in this picture; drop those of Nexuses that are silent, or whom this one knows no more."""
        ids = frozenset(one.instance.id for one in message.seen)
        known.pictures = {
            nexus: one
            for nexus, one in known.pictures.items()
            if nexus in ids and now - one.heard <= known.silence_s and nexus != message.nexus
        }
        while len(known.pictures) >= MAX_ENDPOINTS:
            del known.pictures[min(known.pictures, key=lambda one: known.pictures[one].heard)]
        known.pictures[message.nexus] = _Picture(message.number, now, ids)

    def _tell(self, known: _Datacenter, endpoints: Iterable[str], now: float) -> None:
        if now - known.heard <= known.silence_s:
            return  # it says so itself
        known.told.update(dict.fromkeys(_numeric(endpoints), now))
        for one in sorted(known.told, key=lambda one: -known.told[one])[MAX_ENDPOINTS:]:
            del known.told[one]

    def _has_room(self) -> bool:
        return len(self._others) < MAX_DCS - 1

    def _remembered(self, now: float) -> dict[str, _Datacenter]:
        """Those who were heard or told of within KEPT_S; forgets the others."""
        self._others = {
            name: known
            for name, known in self._others.items()
            if now - max(known.heard, *known.told.values(), NEVER) <= (KEPT_S if self.is_known(name) else STRANGER_S)
        }
        return self._others

    def _gossip(self, seen: Sequence[Seen], now: float) -> dict[str, tuple[str, ...]]:
        here = {
            one.instance.endpoints.get("heartbeats", "") for one in seen if one.instance.role == "nexus" and one.alive
        }
        found = {self._dc: _numeric([*self._here, *sorted(here)])}
        self._own = {*self._here, *self._inside, *here}
        others = self._remembered(now).items()
        found.update(
            (name, known.own) for name, known in sorted(others, key=lambda one: one[0]) if now - known.heard <= KEPT_S
        )
        return found


def _usable(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Those that somebody elsewhere can connect to, each once."""
    return tuple(one for one in dict.fromkeys(endpoints) if _is_tcp(one))[:MAX_ENDPOINTS]


def _numeric(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Those that may go over the wire: a name is for the process whose configuration or catalogue has it."""
    return tuple(one for one in _usable(endpoints) if is_numeric(one))


def _is_tcp(endpoint: str) -> bool:
    try:
        host_port(split_key(endpoint)[0].removeprefix("tcp://"))
    except ValueError:
        return False
    return endpoint.startswith("tcp://")


def _gist(instance: Instance) -> tuple[object, ...]:
    """What other datacenters should know of at once when it changes."""
    return instance.id, instance.state, instance.endpoints, instance.owns


def _packed(message: Neighbours) -> bytes:
    """Its bytes, below the limit: without loads if need be, and in the end without some instances."""
    data = encode(message)
    if len(data) > MAX_NEIGHBOURS_BYTES:
        bare = tuple(replace(one, instance=replace(one.instance, load={})) for one in message.seen)
        count = MAX_KNOWN
        while len(data := encode(replace(message, seen=bare[:count]))) > MAX_NEIGHBOURS_BYTES:
            count = min(count, len(bare)) * 3 // 4
    return data
