"""What a processor tells other datacenters' owners: whom, when, and in which pieces. Pure: `now` comes in.

Owns the answers on their way out and the lists of rows for those who are far behind; what is new is the
partition's and its feed's. A question is answered at once when there is news, else when there is some,
else after `held_s` with none: so an answer is also a sign of life.

An answer is never more than one chunk, and the next question is the ack of it.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from hitmesh.processor.feed import Held, by_commit, cut
from hitmesh.processor.partition import Partition
from hitmesh.protocol.messages import Chunk, Origin, OriginRow, Position
from hitmesh.store import Row

CATCH_UP_ROWS: Final = 500_000  # rows from the store, for those who are far behind: some 80 MB

_Key = tuple[int, str, str]  # partition, who asks, whose rows


@dataclass(frozen=True, slots=True)
class Load:
    """Rows that have to be read from the store before a question can be answered."""

    partition: Partition
    held: Held
    epoch: int  # under which the partition was owned then
    after: int  # the commit above which rows are wanted
    upto: Position  # up to which the store has every row of the origin


class Telling:
    """The answers of one processor of datacenter `dc`."""

    def __init__(self, *, dc: str, held_s: float, age_s: Callable[[Partition, str, float, float], float]) -> None:
        """`age_s(partition, origin, now_s, wall_s)`: how old what is known of another datacenter is."""
        self._dc = dc
        self.held_s = held_s
        self._age_s = age_s
        self._catch_ups: OrderedDict[_Key, tuple[Load, list[OriginRow]]] = OrderedDict()
        self._loading: set[_Key] = set()
        self._chunks: dict[str, list[Chunk]] = defaultdict(list)
        self._loads: list[Load] = []

    def take(self) -> tuple[dict[str, list[Chunk]], list[Load]]:
        """What is to be sent, by where to, and what is to be read; both are the caller's now."""
        chunks, loads = self._chunks, self._loads
        self._chunks, self._loads = defaultdict(list), []
        return chunks, loads

    # --- what happens ------------------------------------------------------------------------

    def asked(self, one: Partition, held: Held, owner: str, wall_s: float) -> None:
        """A question of the instance `owner` about a partition that is owned here."""
        key = (held.dc, held.wanted.origin)
        is_first = one.feed.meets(*key, owner)
        one.feed.held[key] = held
        self._check_past(one, held)
        if self._has_news(one, held):
            self._answer(one, held, held.since_s, wall_s)
        elif is_first:
            self._say(one, held, None, (), held.since_s, wall_s)  # it may be waiting for just that

    def has_nothing(self, one: Partition, held: Held, wall_s: float) -> None:
        """A question about a partition that has no past here, or is being brought back: nothing so far."""
        self._say(one, held, None, (), held.since_s, wall_s, whole=False)

    def committed(self, one: Partition, now_s: float, wall_s: float) -> None:
        """There may be news for those who wait."""
        for held in list(one.feed.held.values()):
            if self._has_news(one, held):
                self._answer(one, held, now_s, wall_s)

    def look(self, one: Partition, now_s: float, wall_s: float) -> None:
        """Answer those who have waited for long enough. To be called some times per `held_s`."""
        for held in list(one.feed.held.values()):
            if self._has_news(one, held):
                self._answer(one, held, now_s, wall_s)
            elif now_s - held.since_s >= self.held_s:
                self._say(one, held, None, (), now_s, wall_s)

    def loaded(self, load: Load, rows: Iterable[Row] | None, now_s: float, wall_s: float) -> None:
        """The partition's rows, as the store has them; None: it didn't answer, and is asked again by `look`."""
        one, origin = load.partition, load.held.wanted.origin
        key = (one.number, load.held.dc, origin)
        self._loading.discard(key)
        if rows is None or one.epoch != load.epoch:
            return
        found = {row.page: OriginRow(row.page, row.count, row.commit) for row in rows if row.dc == origin}
        if origin != self._dc:
            found.update({row.page: row for row in one.redo_of(origin)})
        listed = by_commit(row for row in found.values() if load.after < row.commit <= load.upto.commit)
        self._catch_ups[key] = load, listed
        while len(self._catch_ups) > 1 and sum(len(rows) for _, rows in self._catch_ups.values()) > CATCH_UP_ROWS:
            self._catch_ups.popitem(last=False)
        # The question may have been asked again meanwhile: a large partition takes longer than an asker waits.
        held, position = one.feed.held.get((load.held.dc, origin)), self._position(one, origin)
        if held is None or position is None or not _is_for(load, held, position):
            return
        some, is_all = cut([row for row in listed if row.commit > _after(held, position)])
        # The end of the list isn't the end of what there is: the newest own rows are in memory.
        state = self._state(one, origin, load.upto.commit if is_all else some[-1].commit, wall_s)
        self._say(one, held, state, some, now_s, wall_s, whole=is_all and origin != self._dc)

    def _check_past(self, one: Partition, held: Held) -> None:
        have, position = held.wanted.have, one.position
        if held.wanted.origin != self._dc or have is None or position is None or have.ledger != position.ledger:
            return
        if have.rank > position.rank:
            one.counters.fault(
                f"{held.dc} has commit {have.commit} of partition {one.number}, and this store only {position.commit}: was "
                "it restored from a backup? Hits that only the others know of are lost; wiped, it would have got them back"
            )

    # --- answers -----------------------------------------------------------------------------

    def _has_news(self, one: Partition, held: Held) -> bool:
        have, position = held.wanted.have, self._position(one, held.wanted.origin)
        if position is None or have is None:
            return position is not None
        return have.ledger != position.ledger or have.rank < position.rank or self._is_ahead(held, position)

    def _is_ahead(self, held: Held, position: Position) -> bool:
        """Whether the asker says that it has more of our own rows than there are."""
        have = held.wanted.have
        return held.wanted.origin == self._dc and have is not None and have.rank > position.rank

    def _position(self, one: Partition, origin: str) -> Position | None:
        if origin == self._dc:
            return one.position
        known = one.origins.get(origin)
        return known.position if known else None

    def _answer(self, one: Partition, held: Held, now_s: float, wall_s: float) -> None:
        """Answer a question for which there is news, now or once it has been read."""
        origin, have = held.wanted.origin, held.wanted.have
        position = self._position(one, origin)
        assert position is not None
        if have is not None and (have.ledger != position.ledger or self._is_ahead(held, position)):
            # Nothing can be laid over another history; where this one is, is said: it can't be taken for no news.
            self._say(one, held, self._state(one, origin, position.commit, wall_s), (), now_s, wall_s, whole=False)
            return
        after = _after(held, position)
        rows = one.feed.above(after) if origin == self._dc else None
        if rows is not None:
            some, is_all = cut(rows)
            upto = position.commit if is_all else some[-1].commit
            self._say(one, held, self._state(one, origin, upto, wall_s), some, now_s, wall_s, whole=is_all)
            return
        key = (one.number, held.dc, origin)
        load, listed = self._catch_ups.get(key, (None, []))
        left = [row for row in listed if row.commit > after]
        if left and load is not None and _is_for(load, held, position):
            self._catch_ups.move_to_end(key)
            some, _ = cut(left)
            state = self._state(one, origin, some[-1].commit, wall_s)
            self._say(one, held, state, some, now_s, wall_s, whole=False)
            return
        self._catch_ups.pop(key, None)
        if key not in self._loading:
            self._loading.add(key)
            end = replace(position, commit=one.feed.floor) if origin == self._dc else position
            self._loads.append(Load(one, held, one.epoch, after, end))

    def _state(self, one: Partition, origin: str, upto: int, wall_s: float) -> Origin:
        if origin == self._dc:
            return one.own_origin(upto, int(wall_s))
        known = one.origins[origin]
        position = Position(known.position.ledger, known.position.epoch, upto)
        return Origin(position, known.hits, known.lanes, known.as_of_s)

    def _say(
        self,
        one: Partition,
        held: Held,
        state: Origin | None,
        rows: Sequence[OriginRow],
        now_s: float,
        wall_s: float,
        *,
        whole: bool = True,
    ) -> None:
        origin = held.wanted.origin
        if one.feed.held.get((held.dc, origin)) is held:
            del one.feed.held[held.dc, origin]
        age_ms = int(self._age_s(one, origin, now_s, wall_s) * 1000) if origin != self._dc else 0
        held_ms = max(0, int((now_s - held.since_s) * 1000))
        known = {dc: found.position for dc, found in one.origins.items()}
        self._chunks[held.reply_to].append(
            Chunk(one.number, origin, held.wanted.number, held_ms, age_ms, whole, state, tuple(rows), known)
        )


def _is_for(load: Load, held: Held, position: Position) -> bool:
    """Whether rows that were read for one question answer this one.

    They don't where it asks for earlier ones as well, as it does when the asker's store was wiped, nor where
    their origin has begun another era since, whose commits they aren't.
    """
    is_same = (load.upto.ledger, load.upto.rank[0]) == (position.ledger, position.rank[0])
    return is_same and load.after <= _after(held, position)


def _after(held: Held, position: Position) -> int:
    """Above which commit rows are new to the asker: all of them, if its own are of an earlier era."""
    have = held.wanted.have
    return have.commit if have is not None and have.rank[0] == position.rank[0] else 0
