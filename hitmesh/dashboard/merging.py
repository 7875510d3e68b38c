"""All datacenters' parts into one status, as one dashboard sees it. Pure: `now` comes in.

Owns the judgement of whole datacenters and of links, and the one total. It must not know how parts come here.

Invariants:
- A datacenter that isn't heard keeps its last part, and its age grows; its count never gets smaller for it.
- A count is its own datacenter's word, or the newest copy of its rows here, whichever is larger: counts only grow.
- Every datacenter that is configured, heard, or has rows here is shown.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hitmesh.dashboard.problems import PART_S, Fault, Problems, sentence, worst_first
from hitmesh.dashboard.status import (
    EVENTS,
    Datacenter,
    Event,
    Hits,
    Link,
    Part,
    SeenFrom,
    Status,
    Total,
)

UNHEARD: Final = "nobody there is heard"
MAX_DCS: Final = 64  # as many as a mesh has
MAX_DELAY_S: Final = 60.0  # what is more is no delay: a clock was set
FIRST_S: Final = 6.0  # for which a dashboard that begins waits for the word of the others' before it misses it


class Told(Struct, frozen=True):
    """What a dashboard has told of its datacenter, and how long ago that came here."""

    part: Part
    age_s: float


class Around(Struct, frozen=True, kw_only=True):
    """What is known here of other datacenters without their dashboards."""

    expected: Collection[str] = ()  # those that are configured, or have rows here
    retired: Collection[str] = ()
    copies: Mapping[str, Hits] = {}  # their hits as our store has them


class Merging:
    """The status of all datacenters, seen from one."""

    def __init__(self, seen_from: SeenFrom, now: float) -> None:
        self._seen_from = seen_from
        self._began = now
        self._problems = Problems()
        self._looked: float | None = None
        self._resumed = float("-inf")  # when we looked again after a pause of our own

    def status(self, own: Part, others: Mapping[str, Told], around: Around, now: float, wall: float) -> Status:
        """Everything. `own` is of this datacenter, as of now."""
        if self._looked is not None and now - self._looked > PART_S / 2:
            self._resumed = now
        self._looked = now
        # Who was stopped itself has heard nobody meanwhile.
        others = {
            dc: Told(told.part, min(told.age_s, now - self._resumed)) if self._is_excused(told, now) else told
            for dc, told in others.items()
        }
        mine = self._seen_from.dc
        names = [mine, *sorted({*others, *around.expected, *own.heard} - {mine})][:MAX_DCS]
        dcs = {}
        for dc in names:
            told = Told(own, 0.0) if dc == mine else others.get(dc)
            dcs[dc] = _datacenter(dc, told, own, around)
            if told is None and dcs[dc].state == "dead" and now - self._began <= FIRST_S:
                dcs[dc] = replace(dcs[dc], state="silent")  # there was no time to hear of it
        links = _links(own, others, dcs)
        said, alerts = [*own.problems], [*own.alerts]
        for dc, told in others.items():
            if dc in dcs and dc != mine and dcs[dc].state in ("up", "silent"):
                said += told.part.problems
                alerts += told.part.alerts
        problems = worst_first([*said, *self._problems.update(self._faults(mine, dcs, others, now), now, wall)])
        counts = [each.hits.count for each in dcs.values()]
        return Status(
            ok=not problems,
            says=sentence(problems),
            now=wall,
            seen_from=replace(self._seen_from, uptime_s=round(now - self._began, 1)),
            total=Total(
                hits=sum(each for each in counts if each is not None)
                if any(each is not None for each in counts)
                else None,
                per_s=round(sum(each.hits.per_s for each in dcs.values()), 1),
                pages=own.store.pages,
            ),
            problems=problems,
            dcs=dcs,
            links=links,
            top=own.top,
            events=_newest([own.events, *(told.part.events for dc, told in others.items() if dc != mine)]),
            alerts=alerts,
            silences=own.silences,
        )

    def _is_excused(self, told: Told, now: float) -> bool:
        """Whether a part may only be old because we were away when the next ones came."""
        return now - self._resumed <= PART_S < told.age_s

    def _faults(
        self, mine: str, dcs: Mapping[str, Datacenter], others: Mapping[str, Told], now: float
    ) -> Iterator[Fault]:
        for dc, found in dcs.items():
            if dc == mine or found.state not in ("silent", "dead"):
                continue
            if dc not in others and now - self._began <= FIRST_S:
                continue
            if found.state == "dead":
                yield Fault(
                    key="datacenter", level="bad", kind="datacenter", dc=dc,
                    says=f"datacenter {dc} is out of reach: {UNHEARD}; its last count stands",
                )  # fmt: skip
            else:
                yield Fault(
                    key="datacenter", level="bad" if dc in others else "warn", kind="datacenter", dc=dc,
                    says=f"the dashboard of {dc} isn't heard: what is shown of it is old",
                )  # fmt: skip


def _datacenter(dc: str, told: Told | None, own: Part, around: Around) -> Datacenter:
    heard_s = own.heard.get(dc)
    copy = around.copies.get(dc)
    if told is None:
        state = "retired" if dc in around.retired else "silent" if heard_s is not None else "dead"
        return Datacenter(
            key=dc, state=state, age_s=round(heard_s or 0.0, 1), hits=copy or Hits(count=None)  # type: ignore[arg-type]
        )  # fmt: skip
    part, age_s = told.part, told.age_s
    state = "up"
    if dc in around.retired:
        state = "retired"
    elif age_s > PART_S:
        state = "silent" if heard_s is not None else "dead"
    return Datacenter(
        key=dc,
        state=state,  # type: ignore[arg-type]
        age_s=round(age_s, 1),
        hits=_hits(part.hits, age_s, copy),
        instances=part.instances,
        spools=part.spools,
        store=part.store,
        books=None if part.books is None else replace(part.books, age_s=round(part.books.age_s + age_s, 1)),
        balancers=part.balancers,
        virtual_ip=part.virtual_ip,
        ways=part.ways,
    )


def _hits(said: Hits, age_s: float, copy: Hits | None) -> Hits:
    """Its own word while that is new; else whatever is larger, and so newer."""
    found = Hits(count=said.count, per_s=said.per_s if age_s <= PART_S else 0.0, age_s=round(said.age_s + age_s, 1))
    if copy is None or copy.count is None or (said.count is not None and (age_s <= PART_S or copy.count <= said.count)):
        return found
    return Hits(count=copy.count, per_s=0.0, age_s=copy.age_s)


def _links(own: Part, others: Mapping[str, Told], dcs: Mapping[str, Datacenter]) -> list[Link]:
    """Each direction by the word of whoever hears there; where that is old, nobody knows."""
    found = {link.key: link for link in own.links}
    for dc, told in others.items():
        if dc == own.dc:
            continue
        for link in told.part.links:
            if link.target != dc or link.source not in dcs:
                continue
            if told.age_s > PART_S and link.state == "up":
                link = replace(link, state="late", why=f"{dc} isn't heard, which would say")
            found[link.key] = link
    heard = {own.dc: own, **{dc: told.part for dc, told in others.items() if told.age_s <= PART_S}}
    return [
        replace(found[key], delay_s=_delay_s(heard.get(found[key].source), heard.get(found[key].target)))
        for key in sorted(found)
    ]


def _delay_s(one: Part | None, other: Part | None) -> float | None:
    """Half of the way there and back; None when not both have heard each other. The clocks' difference falls out."""
    if one is None or other is None or one.who not in other.offsets or other.who not in one.offsets:
        return None
    both = one.offsets[other.who] + other.offsets[one.who]
    return round(max(0.0, both / 2), 3) if both <= 2 * MAX_DELAY_S else None


def _newest(lists: Iterable[Sequence[Event]]) -> list[Event]:
    merged = heapq.merge(*lists, key=lambda event: -event.at)
    return [event for _, event in zip(range(EVENTS), merged, strict=False)]
