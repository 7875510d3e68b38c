"""Bringing a partition back from other datacenters, where this one has nothing of it (any more). Pure.

Owns what has been brought so far and who has still to be asked; how a question travels is the shell's
affair, and where rows are written is the partition's. Every origin is asked of one peer at a time,
each time for what is above what is there already: so whatever comes is newer, and is just laid over.

Complete is when every peer has said that it has nothing more: of this datacenter's rows, of its own,
and of those of datacenters that can't be asked themselves. Only then is anything written: first a head
with the marks that belong to the rows, still `restoring`, then the rows, then the head without that
word. So rows are never in the store without marks at least as new, and whoever is interrupted begins
again with both.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from hitmesh.protocol.messages import ERA, Chunk, Head, Origin, Position
from hitmesh.store import Row

# For which "nothing so far" of a peer that is being brought back itself is believed: a few round trips, and
# not until that peer has got something from somebody else.
PROVISIONAL_S: Final = 2.0


class Restoration:
    """One partition of datacenter `dc`, being brought back."""

    def __init__(self, dc: str, head: Head) -> None:
        """`head` is the `restoring` one: of an earlier attempt it may have marks."""
        self._dc = dc
        self._base = head
        self._origins: dict[str, Origin] = {}
        self._rows: dict[tuple[str, str], Row] = {}  # (origin, page): what there was, and what was brought
        self._brought: deque[Row] = deque()  # to be written
        self._done: dict[tuple[str, str], float] = {}  # (peer, origin): it has nothing more, and until when that holds
        self._known: dict[str, Mapping[str, Position]] = {}  # peer -> what it has of whom
        self.is_loaded = False
        """Whether what an earlier attempt has left in the store is known."""
        self.is_sealed = False
        """Whether everybody has been asked, and it is being written."""
        self.faults: list[str] = []

    def loaded(self, rows: Iterable[Row]) -> None:
        """What is in the store already."""
        self._rows = {(row.dc, row.page): row for row in rows}
        self.is_loaded = True

    # --- questions ---------------------------------------------------------------------------

    def wanted(
        self, peers: Collection[str], reachable: Collection[str], now_s: float
    ) -> Iterator[tuple[str, str, Position | None]]:
        """Whom to ask for which origin, and how far we are with it: of each origin one new peer at most.

        Nobody before it is known what there is already, for what comes is laid over it; nor once it is sealed.
        """
        if not self.is_loaded or self.is_sealed:
            return
        asked: set[str] = set()
        for peer, origin in self._open(peers, now_s):
            # Those whose word has run out are asked again all together, or the first would run out again meanwhile.
            if peer in reachable and (origin not in asked or (peer, origin) in self._done):
                asked.add(origin)
                yield peer, origin, self._position(origin)

    def arrived(self, peer: str, chunk: Chunk, now_s: float) -> None:
        """An answer to a question as `wanted` has it."""
        self._known[peer] = chunk.known
        state, have = chunk.state, self._position(chunk.origin)
        if state is None:
            self._done[peer, chunk.origin] = math.inf if chunk.whole else now_s + PROVISIONAL_S
            return
        if have is not None and state.position.ledger != have.ledger:
            self.faults.append(
                f"{peer} has another history of {chunk.origin} than the rest (ledger {state.position.ledger}, "
                f"not {have.ledger}): its rows are left out"
            )
            self._done[peer, chunk.origin] = math.inf
            return
        if have is None or state.position.rank > have.rank:
            self._origins[chunk.origin] = state
            is_new = have is not None and state.position.rank[0] > have.rank[0]  # another era's numbers
            for row in chunk.rows:
                before = self._rows.get((chunk.origin, row.page))
                if before is None or is_new or row.commit > before.commit:
                    new = Row(row.page, chunk.origin, row.count, row.commit)
                    self._rows[chunk.origin, row.page] = new
                    self._brought.append(new)
        if chunk.whole:
            self._done[peer, chunk.origin] = math.inf

    def is_complete(self, peers: Collection[str], now_s: float) -> bool:
        """Whether nobody has anything more."""
        return self.is_loaded and not any(True for _ in self._open(peers, now_s))

    def waits_for(self, peers: Collection[str], now_s: float) -> set[str]:
        """Who has still to answer."""
        return {peer for peer, _ in self._open(peers, now_s)}

    def _open(self, peers: Collection[str], now_s: float) -> Iterator[tuple[str, str]]:
        for peer in sorted(peers):
            # Whoever can't be asked himself, or has lost his rows too: of him others know more than we do.
            further = (
                origin
                for origin, position in sorted(self._known.get(peer, {}).items())
                if origin not in (self._dc, peer) and position.rank > self._rank(origin)
            )
            for origin in (self._dc, peer, *further):
                if self._done.get((peer, origin), -math.inf) <= now_s:
                    yield peer, origin

    def _rank(self, origin: str) -> tuple[int, int]:
        found = self._origins.get(origin)
        return found.position.rank if found else (0, 0)

    def _position(self, origin: str) -> Position | None:
        found = self._origins.get(origin)
        return found.position if found else None

    # --- what is written ---------------------------------------------------------------------

    def seal(self) -> Head | None:
        """Ask no more; the head to write before any row, None when there are no rows to write."""
        self.is_sealed = True
        return replace(self.head(self._base), restoring=True) if self._brought else None

    def rows(self, limit: int) -> list[Row]:
        """The next rows to write, `limit` at most."""
        return [self._brought[index] for index in range(min(limit, len(self._brought)))]

    def wrote(self, limit: int) -> None:
        """What `rows(limit)` said is in the store."""
        for _ in range(min(limit, len(self._brought))):
            self._brought.popleft()

    def head(self, head: Head) -> Head:
        """The head with which the partition goes on, made of its `restoring` one."""
        others = {dc: origin for dc, origin in self._origins.items() if dc != self._dc}
        own = self._origins.get(self._dc)
        rows = [row for (origin, _), row in self._rows.items() if origin == self._dc]
        if own is not None and own.position.commit >= self._base.commit:
            head = replace(
                head,
                ledger=own.position.ledger,
                epoch=max(head.epoch, (own.position.epoch // ERA + 1) * ERA),
                commit=max([own.position.commit, *(row.commit for row in rows)]),
                hits=own.hits,
                lanes=own.lanes,
            )
        lost = max(0, head.hits - sum(row.count for row in rows))
        return replace(head, origins=others, restoring=False, lost=lost)
