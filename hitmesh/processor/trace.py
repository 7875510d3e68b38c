"""What a processor remembers of the parts that came, what became of them, and what it has heard of other datacenters.

Bounded, and cheap while nobody asks. Pure.

Kept are the messages' bytes, for each commit how far each lane was, and what the owners elsewhere say that they have; which
part was in which commit is worked out when somebody asks. Times are monotonic, as a collector's (hitmesh.collector.trace).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from hitmesh.errors import DecodeError
from hitmesh.processor.steps import Offered
from hitmesh.protocol.messages import Applied, Part, Position
from hitmesh.protocol.stations import (
    COMMITTED,
    DROPPED,
    DUPLICATE,
    ELSEWHERE,
    MISDIRECTED,
    REFUSED,
    STAGED,
    Known,
    Name,
    PartOf,
    Station,
    has_part,
    name_in,
    parts_of,
)
from hitmesh.state.lanes import Marks

MAX_MESSAGES: Final = 8192  # of batches
MAX_BYTES: Final = 16 * 1024 * 1024  # of them: as a collector has
MAX_APPLIED: Final = 20_000  # commits, one for each worker that is owed an ack: 5 MB
MAX_HAVES: Final = 20_000  # of what other datacenters have: one for each commit that they tell of
MAX_EVENTS: Final = 8192  # of partitions: two of each, where there are as many as can be
MESSAGE_BYTES: Final = 200  # of one in memory, beside its bytes
PIECE: Final = 256  # messages that are looked through at once

_WORDS: Final = {
    Offered.STAGED: STAGED,
    Offered.DUPLICATE: DUPLICATE,
    Offered.MISDIRECTED: MISDIRECTED,
    Offered.DROPPED: DROPPED,
    Offered.REFUSED: REFUSED,
}

Odd = tuple[int, int, Offered, int, str]  # partition, sequence number, what became of it, the epoch here, why


class _Message(Struct, gc=False):
    at_s: float
    body: bytes
    odd: Sequence[Odd]


class _Applied(Struct, gc=False):
    at_s: float
    worker: str
    partition: int
    epoch: int
    commit: int
    mark: int
    above: tuple[tuple[int, int], ...]


class _Have(Struct, gc=False):
    at_s: float
    dc: str
    owner: str
    partition: int
    position: Position


class _Event(Struct, gc=False):
    at_s: float
    partition: int
    what: str
    epoch: int


class Trace:
    """The memory of one processor."""

    def __init__(self) -> None:
        self._messages: deque[_Message] = deque()
        self._size_bytes = 0
        self._applied: deque[_Applied] = deque(maxlen=MAX_APPLIED)
        self._haves: deque[_Have] = deque(maxlen=MAX_HAVES)
        self._newest: dict[tuple[str, int], Position] = {}  # of datacenter and partition
        self._events: deque[_Event] = deque(maxlen=MAX_EVENTS)

    # --- what happens ------------------------------------------------------------------------

    def received(self, now_s: float, body: bytes, odd: Sequence[Odd]) -> None:
        """A message of a batch came; `odd` are its parts that weren't staged."""
        self._messages.append(_Message(now_s, body, odd))
        self._size_bytes += MESSAGE_BYTES + len(body)
        while len(self._messages) > MAX_MESSAGES or self._size_bytes > MAX_BYTES:
            self._size_bytes -= MESSAGE_BYTES + len(self._messages.popleft().body)

    def applied(self, now_s: float, worker: str, applied: Iterable[Applied]) -> None:
        """A worker is told how far its lanes are committed."""
        for one in applied:
            self._applied.append(
                _Applied(now_s, worker, one.partition, one.epoch, one.commit, one.mark, one.above)
            )  # fmt: skip

    def have(self, now_s: float, dc: str, owner: str, partition: int, position: Position) -> None:
        """Another datacenter's owner says how far it has committed our rows."""
        key = dc, partition
        if self._newest.get(key) != position:
            self._newest[key] = position
            self._haves.append(_Have(now_s, dc, owner, partition, position))

    def partition(self, now_s: float, number: int, what: str, epoch: int) -> None:
        """A partition has come, or gone."""
        self._events.append(_Event(now_s, number, what, epoch))

    # --- what is asked -----------------------------------------------------------------------

    def find(
        self, ids: Sequence[str], last: int, now_s: float, wall_s: float, pause: Callable[[], None] = lambda: None
    ) -> tuple[list[Known], list[Station], int]:
        """The last parts with these pages or names, each as a batch of its own; their stations; how many more match."""
        known: dict[str, Known] = {}
        stations: list[Station] = []
        more: set[str] = set()
        partitions: dict[int, None] = {}
        for number, message in enumerate(reversed(list(self._messages))):
            if number % PIECE == PIECE - 1:
                pause()
            for worker, part in _matches(message.body, ids):
                name = Name(worker, part.partition, part.seq)
                at_ms = _wall_ms(message.at_s, now_s, wall_s)
                if str(name) not in known:
                    if len(known) >= max(last, len(ids)):
                        more.add(str(name))
                        continue
                    only = ((part.partition, part.seq),)
                    known[str(name)] = Known(
                        name=str(name), worker=worker, at_ms=at_ms, hits=sum(part.counts.values()),
                        parts=only, matches=only,
                    )  # fmt: skip
                partitions[part.partition] = None
                stations.append(_received(name, message, at_ms))
        for each in known:
            name_ = name_in(each)
            assert name_ is not None
            stations += self._commits(name_, now_s, wall_s)
        stations += [
            Station(
                at_ms=_wall_ms(event.at_s, now_s, wall_s), what=event.what, partition=event.partition, epoch=event.epoch
            )
            for event in self._events
            if event.partition in partitions
        ]
        return list(known.values()), stations, len(more)

    def _commits(self, name: Name, now_s: float, wall_s: float) -> Iterator[Station]:
        """When a part was committed here, and in other datacenters."""
        of = {"worker": name.worker, "parts": ((name.partition, name.seq),)}
        for one in self._applied:
            if (one.worker, one.partition) == (name.worker, name.partition) and Marks(one.mark, one.above).covers(
                name.seq
            ):
                break
        else:
            return
        yield Station(
            at_ms=_wall_ms(one.at_s, now_s, wall_s), what=COMMITTED, epoch=one.epoch, commit=one.commit, **of  # type: ignore[arg-type]
        )  # fmt: skip
        told: set[str] = set()
        for have in self._haves:
            position = have.position
            if have.partition != name.partition or have.dc in told:
                continue
            if position.rank >= Position(position.ledger, one.epoch, one.commit).rank:
                told.add(have.dc)
                yield Station(
                    at_ms=_wall_ms(have.at_s, now_s, wall_s), what=ELSEWHERE, dc=have.dc, peer=have.owner,
                    epoch=position.epoch, commit=position.commit, **of,  # type: ignore[arg-type]
                )  # fmt: skip


def _received(name: Name, message: _Message, at_ms: float) -> Station:
    part: PartOf = name.partition, name.seq
    for partition, seq, offered, epoch, why in message.odd:
        if (partition, seq) == part:
            return Station(at_ms=at_ms, what=_WORDS[offered], worker=name.worker, parts=(part,), epoch=epoch, why=why)
    return Station(at_ms=at_ms, what=STAGED, worker=name.worker, parts=(part,))


def _matches(body: bytes, ids: Sequence[str]) -> Iterator[tuple[str, Part]]:
    names = [name for each in ids if (name := name_in(each)) is not None and has_part(body, name)]
    pages = [each for each in ids if each.encode("utf-8", "replace") in body]
    if not (names or pages):
        return
    try:
        worker, parts = parts_of(body)
    except DecodeError:
        return
    for part in parts:
        if Name(worker, part.partition, part.seq) in names or any(page in part.counts for page in pages):
            yield worker, part


def _wall_ms(at_s: float, now_s: float, wall_s: float) -> float:
    return round((wall_s - (now_s - at_s)) * 1000, 3)
