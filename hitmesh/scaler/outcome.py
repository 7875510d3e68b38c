"""What a scaler's deciding goes by, and comes to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hitmesh.config.scaler import Sized
from hitmesh.scaler.figures import Figures, Host
from hitmesh.settings.wanted import MAX_CHANGES, MAX_WHY_CHARS, Change, Wanted

START_S: Final = (
    60.0  # for one that is wanted to come, or isn't to go: 3 s on two quiet cores. Then it isn't waited for
)
FULL_S: Final = 30.0  # that there must have been no room before that is told: hosts that start have none either
QUIET_SHARE: Final = 0.2  # of `down_s`: between two that are stopped, so that the others' figures can be seen first


class Seen(Struct, frozen=True, kw_only=True):
    """A datacenter at a moment."""

    roles: Mapping[Sized, Figures]  # of "balancer": the workers of the busiest one
    hosts: Mapping[str, Host]
    crews: Mapping[str, Figures] = {}  # the workers of each balancer that is heard, by its name
    hold: str = ""  # why nothing may be changed by anybody now


class Full(Struct, frozen=True):
    """More are needed than there is room for."""

    role: Sized
    needed: int
    have: int
    why: str


class Outcome(Struct, frozen=True):
    """What a step has come to."""

    wanted: Wanted  # the very one that was, where nothing is to change
    says: Mapping[Sized, str] = {}  # why nothing changes, where there is something to be said
    full: Full | None = None


def change(role: Sized, node: str, was: int, now: int, why: str, wall: float) -> Change:
    """One that is decided now."""
    return Change(at=wall, role=role, node=node, was=was, now=now, why=why[:MAX_WHY_CHARS])


def hooked(wanted: Wanted, full: Full, wall: float) -> Wanted:
    """With the word that a hook is run."""
    told = change(full.role, "", full.have, full.needed, full.why, wall)
    return replace(wanted, changes=(*wanted.changes, told)[-MAX_CHANGES:])
