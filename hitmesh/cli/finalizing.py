"""Whether a mesh may write the newest formats of this release, and who is in the way. Pure.

They may be written once every living instance of every datacenter reads them. A datacenter that nobody could ask
may have an older release, so it is in the way, unless it is retired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from hitmesh import __version__
from hitmesh.protocol.formats import FIRST, READS, reads, release_of
from hitmesh.protocol.messages import Instance
from hitmesh.state.peers import UNHEARD
from hitmesh.visible import visible

Heard = Mapping[str, tuple[Instance, ...] | None]
"""Datacenter -> its living instances; None: nobody there could be asked."""


class Report(Struct, frozen=True):
    """Who reads what, and what is written."""

    instances: tuple[Instance, ...]
    written: Mapping[str, int]  # of each format the one that is written now
    newer: Mapping[str, int]  # those that this release could write instead
    in_the_way: tuple[str, ...]  # why these can't be written yet; empty when they can, and when there are none


def report(heard: Heard, written: Mapping[str, int]) -> Report:
    """What `written`, the finalised formats, and these instances come to."""
    now = {name: written.get(name, FIRST) for name in READS}
    newer = {name: known.last for name, known in READS.items() if known.last > now[name]}
    instances = tuple(each for dc in sorted(heard) for each in sorted(heard[dc] or (), key=_order))
    return Report(instances, now, newer, tuple(_in_the_way(heard, instances, newer)) if newer else ())


def table(found: Report) -> str:
    """Columns for people, and what can be done."""
    rows = [("DC", "NAME", "VERSION", *(name.upper() for name in READS))]
    for each in found.instances:
        release = release_of(each)
        rows.append((each.dc, each.name, release.version, *(str(reads(release, name)) for name in READS)))
    rows.append(("written", "", "", *(str(found.written[name]) for name in READS)))
    widths = [max(len(visible(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, map(visible, row), widths)).rstrip() for row in rows]
    return "\n".join([*lines, *(visible(line) for line in _conclusion(found))])


def as_json(found: Report) -> dict[str, Any]:
    """The object that `hitmesh formats --json` prints."""
    return {
        "version": __version__,
        "written": dict(found.written),
        "newer": dict(found.newer),
        "can_finalize": bool(found.newer) and not found.in_the_way,
        "in_the_way": list(found.in_the_way),
        "instances": [
            {
                "dc": each.dc,
                "role": each.role,
                "name": each.name,
                "version": release_of(each).version,
                "reads": {name: reads(release_of(each), name) for name in READS},
            }
            for each in found.instances
        ],
    }


def named(formats: Mapping[str, int]) -> str:
    """Formats in words."""
    return " and ".join(f"{name} format {number}" for name, number in formats.items())


def _conclusion(found: Report) -> list[str]:
    if not found.newer:
        return [f"the newest formats of hitmesh {__version__} are written"]
    if found.in_the_way:
        return [f"{named(found.newer)} can't be written yet:", *(f"  {each}" for each in found.in_the_way)]
    return [f"every living instance reads {named(found.newer)}; `hitmesh formats finalize` has it written"]


def _in_the_way(heard: Heard, instances: tuple[Instance, ...], newer: Mapping[str, int]) -> Iterator[str]:
    for dc in sorted(heard):
        if heard[dc] is None:
            yield f"no Nexus of {dc} answers; `hitmesh datacenter retire {dc}` if it is gone for good"
    for each in instances:
        release = release_of(each)
        lacking = {name: number for name, number in newer.items() if reads(release, name) < number}
        if lacking:
            yield f"{each.dc} {each.name} is of release {release.version}, which doesn't read {named(lacking)}"
        if (unheard := each.load.get(UNHEARD, 0)) > 0 and each.role == "nexus":
            words = "another datacenter" if unheard == 1 else f"{unheard:g} other datacenters"
            yield f"{each.dc} {each.name} hears nothing of {words}"


def _order(instance: Instance) -> tuple[str, str]:
    return instance.role, instance.name
