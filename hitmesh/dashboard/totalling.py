"""A datacenter's own hits, as of now: what its store has committed as of the last look, and what was accepted since. Pure.

Invariants:
- Every accepted hit is counted once: by the look that finds it applied, or else by its collector's word.
- A collector that ends between two looks takes none of its hits with it; the next look finds them in store or spool.
- What was said is never taken back, unless the store itself has less than before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct


class Found(Struct, frozen=True):
    """What a look at the store and the spools has found."""

    committed: int  # own rows
    applied: Mapping[str, int]  # worker -> its hits that are committed
    spooled: int = 0  # in jobs of workers that don't live any more


class Totalling:
    """The count of one datacenter."""

    def __init__(self) -> None:
        self._found: Found | None = None
        self._accepted: Mapping[str, int] = {}  # of the collectors that live
        self._ended: dict[str, int] = {}  # of those that have ended since the last look
        self._said: int | None = None

    def heard(self, accepted: Mapping[str, int]) -> None:
        """The collectors that live, by worker id, and what each has accepted."""
        for id, count in self._accepted.items():
            if id not in accepted:
                self._ended[id] = count
        for id in accepted:
            self._ended.pop(id, None)  # it was only silent
        self._accepted = dict(accepted)

    def looked(self, found: Found, living: Collection[str]) -> None:
        """A look has ended. It knows of those that had ended before it began: all that aren't in `living`."""
        before = self._found
        if before is not None and found.committed < before.committed:
            self._said = None  # restored from a backup, or changed by hand
        self._found = found
        self._ended = {id: count for id, count in self._ended.items() if id in living}

    def count(self) -> int | None:
        """All hits that were accepted; None before the first look."""
        found = self._found
        if found is None:
            return None
        there = [*self._accepted.items(), *self._ended.items()]
        on_the_way = sum(max(0, count - found.applied.get(id, 0)) for id, count in there)
        total = found.committed + found.spooled + on_the_way
        self._said = max(total, self._said or 0)
        return self._said
