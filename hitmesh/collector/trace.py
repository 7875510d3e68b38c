"""What a collector remembers of the ways of its batches, for whoever asks later: bounded, and cheap while nobody does. Pure.

On a hit's way only what is at hand is kept: the job's bytes, references and times, for each batch and never for each hit
but the ids of requests. What they say is worked out when somebody asks. Times are monotonic, so that a clock that is set
changes no order; they are told as of the wall clock at the question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import Part
from hitmesh.protocol.stations import (
    ACCEPTED,
    ACKED,
    ANSWERED,
    CLAIMED,
    DELETED,
    FORMED,
    LEFT,
    NOT_COUNTED,
    PERHAPS_COUNTED,
    SENT,
    SET_ASIDE,
    Known,
    Name,
    PartOf,
    Station,
    has_part,
    name_in,
    parts_of,
)
from hitmesh.state.lanes import Marks

MAX_TRIPS: Final = 8192  # batches: half an hour of quiet traffic; of a flood the last seconds
MAX_BYTES: Final = 16 * 1024 * 1024  # of jobs, ids and times: as much as a hundred thousand known totals
TRIP_BYTES: Final = 600  # of one in memory, beside its texts
MAX_SENDS: Final = 12  # of one batch: resending waits up to 15 s, so minutes; the last one is kept beyond
MAX_IDS: Final = 256  # requests of one batch that are remembered by their ids: more come together in a flood only
MAX_IDS_CHARS: Final = 16 * 1024  # of their ids and of their pages, each
MAX_OWNERS: Final = 64  # pictures of who owns what; of a batch older than that many changes the owners aren't told
MAX_FAILED: Final = 512  # frames that no socket took
ALL: Final = ""  # stands for the page of a request that has many
PIECE: Final = 256  # batches that are looked through at once: a quarter of a millisecond

Owners = Mapping[int, tuple[str, int]]  # partition -> endpoint, epoch


class Acked(NamedTuple):
    """An ack, without its totals; shared by all batches that it covers a part of."""

    at_s: float
    partition: int
    epoch: int
    commit: int
    mark: int
    above: tuple[tuple[int, int], ...]


class Trip:
    """One batch, as far as this collector had to do with it."""

    __slots__ = (
        "acks", "began_s", "body", "deleted_s", "end", "end_s", "formed_s", "hits", "id", "ids", "is_claim", "pages", "sends", "size_bytes", "why",
    )  # fmt: skip

    def __init__(self, body: bytes, hits: int, began_s: float, formed_s: float, *, is_claim: bool = False) -> None:
        self.body = body
        self.hits = hits
        self.began_s, self.formed_s = began_s, formed_s
        self.is_claim = is_claim
        self.ids = self.pages = ""
        self.id: Hashable = None
        self.end, self.end_s, self.why = "", 0.0, ""  # what the spool said, or why it isn't sent
        self.sends: list[tuple[float, str, int]] = []  # when, why, under which picture of owners
        self.acks: list[Acked] = []
        self.deleted_s = 0.0
        self.size_bytes = TRIP_BYTES + len(body)

    def parts(self) -> tuple[str, tuple[Part, ...]]:
        """Its worker and its parts."""
        return parts_of(self.body)


class Trace:
    """The memory of one worker."""

    def __init__(self) -> None:
        self._trips: deque[Trip] = deque()
        self._size_bytes = 0
        self._by_job: dict[Hashable, Trip] = {}  # those that are in the spool, as far as is known here
        self._pictures: deque[tuple[int, Owners, Mapping[str, str]]] = deque(maxlen=MAX_OWNERS)
        self._picture = 0
        self._failed: deque[tuple[float, str]] = deque(maxlen=MAX_FAILED)

    # --- what happens ------------------------------------------------------------------------

    def formed(
        self, body: bytes, hits: int, began_s: float, now_s: float, *, ids: Sequence[str], pages: Sequence[str]
    ) -> Trip:
        """A batch goes to the spool; `ids` are those of requests that have some, each with its page."""
        trip = Trip(body, hits, began_s, now_s)
        if ids:
            trip.ids = "\n".join(ids[:MAX_IDS])[:MAX_IDS_CHARS]
            trip.pages = "\n".join(pages[:MAX_IDS])[:MAX_IDS_CHARS]
            trip.size_bytes += len(trip.ids) + len(trip.pages)
        self._keep(trip)
        return trip

    def claimed(self, body: bytes, hits: int, id: Hashable, now_s: float) -> Trip:
        """A job was taken from the spool, to be sent again."""
        trip = Trip(body, hits, now_s, now_s, is_claim=True)
        self._keep(trip)
        self._is_in_spool(trip, id)
        return trip

    def put(self, trip: Trip, id: Hashable, now_s: float, *, is_left: bool) -> None:
        """The spool has it; `is_left`: it is left to it, for want of memory."""
        trip.end, trip.end_s = LEFT if is_left else ANSWERED, now_s
        self._is_in_spool(trip, id)

    def refused(self, trip: Trip, now_s: float, why: str, *, is_unknown: bool) -> None:
        """The spool doesn't have it, or nobody can tell."""
        trip.end, trip.end_s, trip.why = PERHAPS_COUNTED if is_unknown else NOT_COUNTED, now_s, why

    def set_aside(self, body: bytes, now_s: float, why: str) -> None:
        """A claimed job can't be sent."""
        trip = Trip(body, 0, now_s, now_s, is_claim=True)
        trip.end, trip.end_s, trip.why = SET_ASIDE, now_s, why
        self._keep(trip)

    def sent(self, trip: Trip, now_s: float, why: str) -> None:
        """Its open parts go to their owners; `why` again, empty the first time."""
        if len(trip.sends) < MAX_SENDS:
            trip.sends.append((now_s, why, self._picture))
        else:
            trip.sends[-1] = (now_s, why, self._picture)

    def owners(self, owners: Owners, names: Mapping[str, str]) -> None:
        """From now on parts go to these; `names` are the instances at the endpoints."""
        self._picture += 1
        self._pictures.append((self._picture, owners, names))

    def not_sent(self, endpoint: str, now_s: float) -> None:
        """No socket took what was to be sent there."""
        self._failed.append((now_s, endpoint))

    def deleted(self, ids: Iterable[Hashable], now_s: float) -> None:
        """The spool was told to forget these jobs."""
        for id in ids:
            trip = self._by_job.pop(id, None)
            if trip is not None:
                trip.deleted_s = now_s

    def _keep(self, trip: Trip) -> None:
        self._trips.append(trip)
        self._size_bytes += trip.size_bytes
        while len(self._trips) > MAX_TRIPS or self._size_bytes > MAX_BYTES:
            old = self._trips.popleft()
            self._size_bytes -= old.size_bytes
            if self._by_job.get(old.id) is old:
                del self._by_job[old.id]

    def _is_in_spool(self, trip: Trip, id: Hashable) -> None:
        trip.id = id
        self._by_job[id] = trip

    # --- what is asked -----------------------------------------------------------------------

    def find(
        self, ids: Sequence[str], last: int, now_s: float, wall_s: float, pause: Callable[[], None] = lambda: None
    ) -> tuple[list[Known], list[Station], int]:
        """The last batches of these pages, requests or parts; their stations; how many more match.

        `pause` is called now and then, for others to go on.
        """
        known: dict[str, Known] = {}
        stations: list[Station] = []
        more = 0
        for number, trip in enumerate(reversed(list(self._trips))):
            if number % PIECE == PIECE - 1:
                pause()
            wanted = [each for each in ids if _may_match(trip, each)]
            if not wanted:
                continue
            pause()
            worker, parts, matches = _matches(trip, wanted)
            if not matches:
                continue
            first = parts[0]
            name = str(Name(worker, first.partition, first.seq))
            if name not in known and len(known) >= last:
                more += 1
                continue
            at_ms = _wall_ms(trip.began_s, now_s, wall_s)
            if name not in known or not trip.is_claim:
                known[name] = Known(
                    name=name, worker=worker, at_ms=at_ms, hits=trip.hits,
                    parts=tuple((part.partition, part.seq) for part in parts), matches=tuple(matches),
                )  # fmt: skip
            stations += self._stations(trip, worker, parts, now_s, wall_s)
        return list(known.values()), stations, more

    def _stations(
        self, trip: Trip, worker: str, parts: Sequence[Part], now_s: float, wall_s: float
    ) -> Iterator[Station]:
        every = tuple((part.partition, part.seq) for part in parts)
        acked: dict[PartOf, float] = {}
        for step in chain(_ends(trip), _acks(trip, every, acked), self._sends(trip, every, acked)):
            yield Station(
                at_ms=_wall_ms(step.at_s, now_s, wall_s), what=step.what, worker=worker, parts=step.parts or every,
                peer=step.peer, epoch=step.epoch, commit=step.commit, why=step.why,
            )  # fmt: skip

    def _sends(self, trip: Trip, every: Sequence[PartOf], acked: Mapping[PartOf, float]) -> Iterator[_Step]:
        """To whom its parts went that weren't acked then."""
        pictures = {number: (owners, names) for number, owners, names in self._pictures}
        for at_s, why, picture in trip.sends:
            owners, names = pictures.get(picture, ({}, {}))
            to: dict[tuple[str, int], list[PartOf]] = {}
            for each in every:
                if acked.get(each, at_s) >= at_s:
                    to.setdefault(owners.get(each[0], ("", 0)), []).append(each)
            for (endpoint, epoch), some in to.items():
                reasons = [why] if why else []
                if picture not in pictures:
                    reasons.append("to whom isn't remembered any more")
                elif not endpoint:
                    reasons.append("to nobody: the partition has no owner")
                elif (at_s, endpoint) in self._failed:
                    reasons.append("no socket took it: there is no connection, or it is full")
                yield _Step(at_s, SENT, tuple(some), names.get(endpoint, ""), epoch, why="; ".join(reasons))


class _Step(NamedTuple):
    """A station by this process's own clock; without parts it is of all."""

    at_s: float
    what: str
    parts: tuple[PartOf, ...] = ()
    peer: str = ""
    epoch: int = 0
    commit: int = 0
    why: str = ""


def _ends(trip: Trip) -> Iterator[_Step]:
    """Its beginning, and what became of it in the spool."""
    if not trip.is_claim:
        yield _Step(trip.began_s, ACCEPTED)
        yield _Step(trip.formed_s, FORMED)
    elif trip.end != SET_ASIDE:
        yield _Step(trip.formed_s, CLAIMED)
    if trip.end == LEFT:
        yield _Step(trip.end_s, ANSWERED)
    if trip.end:
        yield _Step(trip.end_s, trip.end, why=trip.why)
    if trip.deleted_s:
        yield _Step(trip.deleted_s, DELETED)


def _acks(trip: Trip, every: Sequence[PartOf], acked: dict[PartOf, float]) -> Iterator[_Step]:
    """Which parts were acked when, which is noted in `acked`."""
    for ack in trip.acks:
        marks = Marks(ack.mark, ack.above)
        some = [each for each in every if each[0] == ack.partition and each not in acked and marks.covers(each[1])]
        if some:
            acked |= dict.fromkeys(some, ack.at_s)
            yield _Step(ack.at_s, ACKED, tuple(some), epoch=ack.epoch, commit=ack.commit)


def _matches(trip: Trip, ids: Sequence[str]) -> tuple[str, tuple[Part, ...], list[PartOf]]:
    """Its worker, its parts, and those of them that are asked for; nothing where none is."""
    try:
        worker, parts = trip.parts()
    except DecodeError:
        return "", (), []
    matches: dict[PartOf, None] = {}
    for each in ids:
        name = name_in(each)
        pages = {each} | _pages(trip, each)
        for part in parts:
            is_named = name is not None and (name.worker, name.partition, name.seq) == (
                worker,
                part.partition,
                part.seq,
            )
            if is_named or not pages.isdisjoint(part.counts):
                matches[part.partition, part.seq] = None
        if _has_id(trip, each) and (len(pages) == 1 or ALL in pages):  # which page that was isn't remembered
            matches |= dict.fromkeys((part.partition, part.seq) for part in parts)
    return worker, parts, list(matches)


def _may_match(trip: Trip, id: str) -> bool:
    name = name_in(id)
    if name is not None and has_part(trip.body, name):
        return True
    return id.encode("utf-8", "replace") in trip.body or _has_id(trip, id)


def _has_id(trip: Trip, id: str) -> bool:
    return id in trip.ids and id in trip.ids.split("\n")


def _pages(trip: Trip, id: str) -> set[str]:
    """The pages of the requests with this id; none where that can't be told."""
    ids, pages = trip.ids.split("\n"), trip.pages.split("\n")
    if len(ids) != len(pages):
        return set()  # a page had a line break in its name, or there were too many
    return {page for each, page in zip(ids, pages, strict=True) if each == id}


def _wall_ms(at_s: float, now_s: float, wall_s: float) -> float:
    return round((wall_s - (now_s - at_s)) * 1000, 3)
