"""Formats: what a release reads of what others have written, and what it writes. Pure.

Owns the numbers and how an instance tells them; whether a newer one may be written is the live setting
`formats/NAME`, which `hitmesh formats finalize` sets once every living instance reads it. Until then everybody
writes what the release before reads, so that it can come back.

    wire       the frames between processes
    job        what a collector puts into the spool
    head       a partition's record in the totals store
    settings   the records of the settings stores

Up to wire format 1 an instance has no place for words: it tells its release as numbers among its loads. From
wire format 2 on it has the field `release`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from hitmesh import __version__
from hitmesh.protocol.messages import Instance, Release

WIRE: Final = "wire"
FIRST: Final = 1  # of each format: what is written before anybody has finalised another
RELEASE_ON_WIRE: Final = 2  # the wire format from which on an instance has the field `release`
VERSION_LOAD: Final = "version"
READS_LOAD: Final = "reads."  # what follows is a format's name
_STEP: Final = 1000  # of a version's second and third number: 0.2.0 is told as 2000


class Range(Struct, frozen=True):
    """The formats of one kind that a release reads."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.last) if self.first == self.last else f"{self.first} to {self.last}"


READS: Final[Mapping[str, Range]] = MappingProxyType(
    {WIRE: Range(1, 2), "job": Range(1, 1), "head": Range(1, 1), "settings": Range(1, 1)}
)
"""What this release reads. It writes the first of each until another one is finalised."""

THIS: Final = Release(__version__, {name: reads.last for name, reads in READS.items()})
EARLIEST: Final = Release("0.1.0", {})
"""The release before there was any word of it: who tells nothing is that one."""


class Written(Struct, frozen=True):
    """Which formats a mesh writes, as one process knows it."""

    formats: Mapping[str, int] = MappingProxyType({})  # those that were finalised
    unreadable: str = ""  # why this release can't read what the others write; empty when it can

    @property
    def wire(self) -> int:
        """The wire format."""
        return self.formats.get(WIRE, FIRST)


def why_unreadable(name: str, number: int) -> str:
    """Why this release can't read what others write in that format; empty when it can."""
    reads = READS.get(name)
    if reads is None:
        return f"the mesh writes {name} format {number}, of which hitmesh {__version__} knows nothing"
    if reads.first <= number <= reads.last:
        return ""
    return f"the mesh writes {name} format {number}, and hitmesh {__version__} reads {reads}"


def telling(load: Mapping[str, float], wire: int) -> tuple[dict[str, float], Release | None]:
    """How an instance of this release tells it under a wire format: what its `load` and its `release` are then."""
    if wire >= RELEASE_ON_WIRE:
        return dict(load), THIS
    reads = {READS_LOAD + name: float(number) for name, number in THIS.reads.items()}
    return {VERSION_LOAD: _number(THIS.version), **reads, **load}, None  # in front: of too many loads the last are cut


def release_of(instance: Instance) -> Release:
    """The release that an instance says it is, in whichever way."""
    if instance.release is not None:
        return instance.release
    if VERSION_LOAD not in instance.load:
        return EARLIEST
    reads = {
        name.removeprefix(READS_LOAD): max(0, int(number))
        for name, number in instance.load.items()
        if name.startswith(READS_LOAD)
    }
    return Release(_text(instance.load[VERSION_LOAD]), reads)


def reads(release: Release, name: str) -> int:
    """The newest format of that name that a release reads."""
    return release.reads.get(name, FIRST)


def without(load: Mapping[str, float]) -> dict[str, float]:
    """A load without what stands for the release."""
    return {name: each for name, each in load.items() if name != VERSION_LOAD and not name.startswith(READS_LOAD)}


def _number(version: str) -> float:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    assert found is not None, f"{version} is not a version"
    first, second, third = map(int, found.groups())
    return float((first * _STEP + second) * _STEP + third)


def _text(number: float) -> str:
    rest, third = divmod(max(0, int(number)), _STEP)
    return ".".join(map(str, (*divmod(rest, _STEP), third)))
