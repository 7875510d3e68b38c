"""Each datacenter's counts, put together from several datacenters' stores. Pure.

A datacenter's own store says what it has counted. Where that can't be read, or is itself being brought
back, or isn't here, the copy in another datacenter's store stands in for it, which is as old as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec import Struct

from hitmesh.protocol.pages import partition_of
from hitmesh.store.totals import Listing

UNKNOWN_S = float("-inf")  # of a copy that doesn't say when it was current


class Source(Struct, frozen=True):
    """What one datacenter's store says."""

    dc: str
    partitions: int
    listing: Listing | None  # None: it can't be read
    problem: str = ""  # why


class Subtotal(Struct, frozen=True):
    """One datacenter's count of a page."""

    count: int
    age_s: float | None = None  # of a copy that says so; None: from the datacenter's own store, or unknown
    copy_in: str = ""  # the datacenter whose copy it is; empty: its own store


class Missing(Struct, frozen=True):
    """A datacenter whose own store doesn't say all of its counts."""

    dc: str
    why: str
    copies: Mapping[str, float | None]  # where they were taken from -> the age of the oldest in seconds
    is_part: bool = False  # only of partitions that can't be read: what the others have is known

    @property
    def line(self) -> str:
        """For people."""
        if not self.copies:
            return f"{self.why}, and nobody else here has a copy of its counts"
        ages = {dc: "of unknown age" if age_s is None else f"{age_s:.0f} s old" for dc, age_s in self.copies.items()}
        named = " and ".join(f"{dc}'s copy, {age}" for dc, age in ages.items())
        return f"{self.why}: its counts are {named}"


class Together(Struct, frozen=True):
    """All of it."""

    totals: Mapping[str, Mapping[str, Subtotal]]  # page -> datacenter -> count
    missing: Sequence[Missing]


def put_together(sources: Sequence[Source], now_s: float) -> Together:
    """Every page's counts; `now_s` is wall clock."""
    totals: dict[str, dict[str, Subtotal]] = {}
    missing = []
    for dc in _everybody(sources):
        own = next((source for source in sources if source.dc == dc), None)
        for page, count in _own(own):
            totals.setdefault(page, {})[dc] = Subtotal(count)
        needed = _needed(own)
        if needed is not None and not needed:
            continue
        copies = [source for source in sources if source.dc != dc and source.listing is not None]
        taken: dict[str, float | None] = {}
        for page, subtotal in _copied(dc, copies, needed, now_s).items():
            totals.setdefault(page, {})[dc] = subtotal
            taken[subtotal.copy_in] = _older(taken.get(subtotal.copy_in, 0.0), subtotal.age_s)
        why = _why(own)
        if own is not None and why:
            is_bad = own.listing is not None and bool(own.listing.unreadable)
            is_known = _is_known_without(dc, own, copies)
            if taken or is_bad or not is_known:
                missing.append(Missing(dc, why, taken, is_part=is_bad and is_known))
    return Together(totals, missing)


def _everybody(sources: Sequence[Source]) -> list[str]:
    """The datacenters with a store here, and then those of which there are only copies."""
    names = [source.dc for source in sources]
    copied = {dc for each in sources if each.listing for counts in each.listing.totals.values() for dc in counts}
    return names + sorted(copied - set(names))


def _own(own: Source | None) -> Iterator[tuple[str, int]]:
    if own is not None and own.listing is not None:
        for page, counts in own.listing.totals.items():
            if own.dc in counts:
                yield page, counts[own.dc]


def _needed(own: Source | None) -> Collection[int] | None:
    """The partitions that the datacenter's own store doesn't tell; None: all."""
    return None if own is None or own.listing is None else own.listing.restoring | own.listing.unreadable.keys()


def _copied(dc: str, copies: Sequence[Source], needed: Collection[int] | None, now_s: float) -> dict[str, Subtotal]:
    best: dict[str, tuple[float, int, str]] = {}  # page -> when it was current, the count, whose copy
    for source in copies:
        assert source.listing is not None
        for page, counts in source.listing.totals.items():
            if dc not in counts:
                continue
            partition = partition_of(page, source.partitions)
            if needed is None or partition in needed:
                as_of_s = source.listing.as_of_s.get(partition, {}).get(dc, UNKNOWN_S)
                best[page] = max(best.get(page, (UNKNOWN_S, -1, "")), (as_of_s, counts[dc], source.dc))
    return {
        page: Subtotal(count, None if as_of_s == UNKNOWN_S else round(max(0.0, now_s - as_of_s), 3), where)
        for page, (as_of_s, count, where) in best.items()
    }


def _older(one_s: float | None, other_s: float | None) -> float | None:
    return None if one_s is None or other_s is None else max(one_s, other_s)


def _why(own: Source | None) -> str:
    if own is None:
        return ""
    if own.listing is None:
        return own.problem
    count, bad = len(own.listing.restoring), own.listing.unreadable
    if bad:
        return f"{own.dc}: {'; '.join(bad.values())}"
    return f"{count} partition{'s' if count > 1 else ''} of {own.dc} still to be brought back"


def _is_known_without(dc: str, own: Source, copies: Sequence[Source]) -> bool:
    """Whether it has counted nothing, for all that is known, where no copy has a row of it.

    Partitions that can't be read aside, that is so of partitions that were never used, and of those that another one knows to have no rows.
    """
    if own.listing is None:
        return False
    bad = own.listing.unreadable
    if own.listing.restoring == own.listing.headless and all(
        partition_of(page, own.partitions) in bad for page in own.listing.unknown
    ):
        return True
    known = {at for each in copies if each.listing for at, said in each.listing.as_of_s.items() if dc in said}
    return own.listing.restoring <= known
