"""The arithmetic of copies: does each datacenter's store have what the others have counted? Pure.

The stores are read one after the other, while hits go on, and each of them twice (`first`, `second`).
Rows only grow, so a copy in the first reading can't have more than the original in the second one: one
that has is of hits that the original has lost. What a copy of the second reading lacks of the original
of the first, it is behind: the way between datacenters takes its time, and is cut now and then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from hitmesh.protocol.pages import partition_of

SHOWN_PAGES = 3  # that are named in a problem


class Stored(Struct, frozen=True):
    """What one datacenter's store has of everybody."""

    partitions: int
    counts: Mapping[str, Mapping[str, int]]  # datacenter -> page -> count
    as_of_s: Mapping[str, float]  # other datacenter -> when its oldest partition was current, wall clock
    restoring: Collection[int] = ()  # partitions whose rows are to be brought back


class Copy(Struct, frozen=True):
    """One datacenter's hits in another one's store."""

    hits: int
    behind: int  # hits of the original that it lacks
    age_s: float | None


class Replicated(Struct, frozen=True):
    """One datacenter's copies."""

    copies: Mapping[str, Copy]  # by where they are
    problems: Sequence[str]


def compare(
    first: Mapping[str, Stored], second: Mapping[str, Stored], *, retired: Collection[str], now_s: float
) -> dict[str, Replicated]:
    """Each datacenter's copies in the others. The original of a retired one isn't looked at for what it has lost."""
    found = {}
    for dc, original in first.items():
        copies, problems = {}, []
        for other in first:
            if other == dc:
                continue
            before, after = first[other].counts.get(dc, {}), second[other].counts.get(dc, {})
            own = original.counts.get(dc, {})
            as_of_s = second[other].as_of_s.get(dc)
            copies[other] = Copy(
                hits=sum(after.values()),
                behind=sum(max(0, count - after.get(page, 0)) for page, count in own.items()),
                age_s=None if as_of_s is None else round(max(0.0, now_s - as_of_s), 3),
            )
            if dc not in retired:
                problems += _ahead(other, before, dc, second[dc])
        found[dc] = Replicated(copies, problems)
    return found


def _ahead(other: str, copy: Mapping[str, int], dc: str, original: Stored) -> list[str]:
    own = original.counts.get(dc, {})
    ahead = {
        page: count - own.get(page, 0)
        for page, count in copy.items()
        if count > own.get(page, 0) and partition_of(page, original.partitions) not in original.restoring
    }
    if not ahead:
        return []
    named = ", ".join(sorted(ahead)[:SHOWN_PAGES]) + (" ..." if len(ahead) > SHOWN_PAGES else "")
    return [f"{sum(ahead.values())} hits are counted in {other}'s copy, and not at home: on {named}"]
