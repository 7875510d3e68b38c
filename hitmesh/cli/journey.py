"""What several processes tell of one batch, put together: its stations in order, as a table or as JSON. Pure.

Each time is of its own host's clock. Where clocks contradict, what was caused stands behind its cause, and is marked: a part
that came was sent before, an ack that was heard was given before, a job that was claimed had been put.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hitmesh.cli.columns import columns
from hitmesh.protocol.stations import (
    ACCEPTED,
    ACKED,
    ANSWERED,
    CLAIMED,
    COMMITTED,
    DELETED,
    DROPPED,
    DUPLICATE,
    ELSEWHERE,
    FORMED,
    HANDING_OVER,
    LEFT,
    LOST,
    MISDIRECTED,
    REFUSED,
    SENT,
    STAGED,
    TOOK_OVER,
    Known,
    PartOf,
    Station,
    Told,
)

AT_ONCE_MS: Final = 1.0  # between stations of one kind that are shown as one
LATE_MS: Final = (
    10_000.0  # by which an owner that hung finds out after the batch's end that another one has its partition
)
BEHIND: Final = "*"  # marks a time that contradicts others
# Of stations with the same time, which comes first.
_ORDER: Final = {
    what: number
    for number, what in enumerate(
        (
            ACCEPTED,
            FORMED,
            ANSWERED,
            LEFT,
            CLAIMED,
            HANDING_OVER,
            LOST,
            TOOK_OVER,
            SENT,
            MISDIRECTED,
            DROPPED,
            REFUSED,
            STAGED,
            DUPLICATE,
            COMMITTED,
            ELSEWHERE,
            ACKED,
            DELETED,
        )
    )
}
_ARRIVALS: Final = (STAGED, DUPLICATE, MISDIRECTED, DROPPED, REFUSED)
_OWN: Final = (TOOK_OVER, HANDING_OVER)  # of a partition


class Stop(Struct, frozen=True):
    """A station, and whose."""

    dc: str
    role: str
    name: str
    station: Station
    order_ms: float  # as its time, or later, where that contradicts
    is_behind: bool = False


class Journey(Struct, frozen=True):
    """One batch's."""

    known: Known
    shown: tuple[PartOf, ...]  # the parts that it is about
    stops: tuple[Stop, ...]


def batches(told: Iterable[Told], last: int) -> tuple[list[Known], int]:
    """The newest batches that match, in order of time, and how many more there are. A collector knows a batch whole."""
    found: dict[str, Known] = {}
    more = 0
    whole: set[tuple[str, PartOf]] = set()
    for one in sorted(told, key=lambda one: one.role != "collector"):
        more = max(more, one.more)
        for known in one.known:
            if one.role == "collector":
                whole |= {(known.worker, part) for part in known.parts}
            elif (known.worker, known.parts[0]) in whole:
                continue
            before = found.get(known.name)
            found[known.name] = known if before is None or known.at_ms < before.at_ms else before
    newest = sorted(found.values(), key=lambda known: known.at_ms)
    return newest[-last:], more + max(0, len(newest) - last)


def journey(known: Known, shown: Sequence[PartOf], told: Iterable[Told]) -> Journey:
    """What everybody tells of these parts of a batch, in order."""
    parts = frozenset(shown)
    stops, own = [], []
    for one in told:
        for station in one.stations:
            about = tuple(part for part in station.parts if part in parts)
            stop = Stop(one.dc, one.role, one.name, replace(station, parts=about), station.at_ms)
            if station.worker == known.worker and about:
                stops.append(stop)
            elif station.partition in {partition for partition, _ in parts}:
                own.append(stop)
    stops += [stop for stop in own if _belongs(stop.station, stops)]
    return Journey(known, tuple(shown), tuple(_in_order(_once(stops))))


def _once(stops: Iterable[Stop]) -> list[Stop]:
    """Without those that were told twice: a process is asked several times, and rounds a time anew."""
    found: dict[object, Stop] = {}
    for stop in stops:
        station = stop.station
        plain = replace(station, at_ms=0.0)
        found.setdefault((stop.dc, stop.name, round(station.at_ms / AT_ONCE_MS), msgspec.json.encode(plain)), stop)
    return list(found.values())


def _belongs(own: Station, stops: Sequence[Stop]) -> bool:
    """Whether what happened to a partition did while the batch was on its way."""
    of = [stop.station for stop in stops if any(part[0] == own.partition for part in stop.station.parts)]
    epochs = [station.epoch for station in of if station.epoch]
    if own.what in _OWN:
        return bool(epochs) and min(epochs) + (own.what == TOOK_OVER) <= own.epoch <= max(epochs)
    late_ms = LATE_MS if own.what == LOST else 0.0
    return bool(of) and min(one.at_ms for one in of) <= own.at_ms <= max(one.at_ms for one in of) + late_ms


def _in_order(stops: Sequence[Stop]) -> list[Stop]:
    ordered = sorted(stops, key=_key)
    for _ in range(len(ordered)):  # each round sees to one more step of causes behind each other
        moved = _moved(ordered)
        if moved == ordered:
            break
        ordered = moved
    return sorted(ordered, key=_key)


def _moved(stops: Sequence[Stop]) -> list[Stop]:
    """Those that stand before their cause, or behind one of their own process that was moved, moved behind it."""
    newest: dict[tuple[str, str], float] = {}
    moved = []
    for stop in sorted(stops, key=lambda stop: (stop.station.at_ms, _ORDER.get(stop.station.what, 0))):
        process = stop.dc, stop.name
        causes = [one.order_ms for one in _causes(stop, stops)]
        bound = max(min(causes, default=0.0), newest.get(process, 0.0))
        if stop.order_ms < bound:
            stop = replace(stop, order_ms=bound, is_behind=True)
        if stop.is_behind:
            newest[process] = stop.order_ms
        moved.append(stop)
    return sorted(moved, key=_key)


def _causes(stop: Stop, stops: Iterable[Stop]) -> Iterator[Stop]:
    """Those without one of which it couldn't have happened, at other processes."""
    station = stop.station
    for other in stops:
        if (other.dc, other.name) == (stop.dc, stop.name):
            continue
        cause = other.station
        if station.what in _ARRIVALS:
            is_cause = cause.what == SENT and _instance(cause.peer) == stop.name and other.dc == stop.dc
        elif station.what == ACKED:
            is_cause = cause.what == COMMITTED and (cause.epoch, cause.commit) == (station.epoch, station.commit)
        else:
            is_cause = station.what == CLAIMED and cause.what == ANSWERED
        if is_cause and not set(station.parts).isdisjoint(cause.parts):
            yield other


def _key(stop: Stop) -> tuple[float, int, str]:
    return stop.order_ms, _ORDER.get(stop.station.what, 0), stop.name


# --- shown --------------------------------------------------------------------------------------


def lines(of: Journey) -> list[str]:
    """The journey for people."""
    known, stops = of.known, _together(of.stops)
    began_ms = min((stop.station.at_ms for stop in of.stops if stop.station.what == ACCEPTED), default=known.at_ms)
    parts = f"{len(known.parts)} parts" if len(known.parts) != 1 else "1 part"
    which = f", of which {_parts(of.shown)}" if len(of.shown) < len(known.parts) else ""
    hits = f"{known.hits} hits" if known.hits != 1 else "1 hit"
    head = f"batch {known.name}: {hits} in {parts}{which}"
    rows = [("TIME", "AFTER MS", "WHO", "WHAT")]
    for stop in stops:
        station = stop.station
        mark = BEHIND if stop.is_behind else ""
        after = f"{station.at_ms - began_ms:.1f}"
        who = f"{stop.dc} {stop.name}"
        rows.append((f"{_clock(station.at_ms)}{mark}", after, who, _words(station, of.shown)))
    day = datetime.fromtimestamp(began_ms / 1000, UTC)
    notes = [f"{day:%Y-%m-%d}, times in UTC, each of its own host's clock"]
    if any(stop.is_behind for stop in stops):
        notes.append(f"{BEHIND} by that clock it was before its cause, behind which it stands here")
    return [*columns([(head, "", "", "")]).splitlines(), *columns(rows).splitlines(), *notes]


def as_json(of: Journey) -> dict[str, Any]:
    """The journey for programs."""
    known = of.known
    return {
        "batch": known.name,
        "worker": known.worker,
        "hits": known.hits,
        "parts": [_name(known.worker, part) for part in known.parts],
        "matches": [_name(known.worker, part) for part in known.matches],
        "stations": [
            {
                "at_ms": stop.station.at_ms,
                "is_behind": stop.is_behind,
                "dc": stop.dc,
                "role": stop.role,
                "name": stop.name,
                "what": stop.station.what,
                "parts": [_name(known.worker, part) for part in stop.station.parts],
                **_details(stop.station),
            }
            for stop in of.stops
        ],
    }


def _details(station: Station) -> Mapping[str, object]:
    said = {
        "peer": station.peer,
        "to_dc": station.dc,
        "epoch": station.epoch,
        "commit": station.commit,
        "why": station.why,
        "partition": station.partition if station.partition >= 0 else None,
    }
    return {key: value for key, value in said.items() if value or (key == "partition" and value == 0)}


def _together(stops: Sequence[Stop]) -> list[Stop]:
    """Those of one kind that follow each other at once as one; what differs of them isn't in it."""
    shown: list[Stop] = []
    for stop in stops:
        before = shown[-1] if shown else None
        if before is None or not _is_same(before, stop):
            shown.append(stop)
            continue
        one, other = before.station, stop.station
        merged = replace(
            one,
            parts=one.parts + tuple(part for part in other.parts if part not in one.parts),
            epoch=one.epoch if one.epoch == other.epoch else 0,
            commit=one.commit if one.commit == other.commit else 0,
        )
        shown[-1] = replace(before, station=merged)
    return shown


def _is_same(before: Stop, stop: Stop) -> bool:
    one, other = before.station, stop.station
    return (
        (before.dc, before.name, before.is_behind) == (stop.dc, stop.name, stop.is_behind)
        and (one.what, one.peer, one.dc, one.why) == (other.what, other.peer, other.dc, other.why)
        and one.partition == other.partition
        and abs(one.at_ms - other.at_ms) <= AT_ONCE_MS
    )


def _words(station: Station, shown: Sequence[PartOf]) -> str:
    what = station.what
    if what == SENT:
        what = f"sent to {_instance(station.peer)}" if station.peer else "sent"
    elif what == ELSEWHERE:
        what = f"committed in {station.dc}, by {_instance(station.peer)}"
    elif what in (TOOK_OVER, LOST, HANDING_OVER):
        what = what.replace("the partition", f"partition {station.partition}")
    said = []
    if station.epoch:
        said.append(f"epoch {station.epoch}")
    if station.commit:
        said.append(f"commit {station.commit}")
    if len(shown) > 1 and 0 < len(station.parts) < len(shown):
        said.append(_parts(station.parts))
    if station.why:
        said.append(station.why)
    return f"{what}: {', '.join(said)}" if said else what


def _parts(parts: Sequence[PartOf]) -> str:
    if len(parts) == 1:
        return f"partition {parts[0][0]}, number {parts[0][1]}"
    return f"{len(parts)} parts"


def _name(worker: str, part: PartOf) -> str:
    return f"{worker}:{part[0]}:{part[1]}"


def _instance(peer: str) -> str:
    """The name of an instance in its id, which is the name and some more."""
    return peer.rpartition(".")[0] or peer


def _clock(at_ms: float) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%H:%M:%S.%f}"[:-3]
