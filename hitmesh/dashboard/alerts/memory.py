"""What the dashboards of a datacenter share about its alerts: which fire, what is to be told, and who tells it. Pure.

It stands in the datacenter's settings store, under `deploys/alerts/DC/memory`, as JSON, and is changed there under
compare-and-set (`hitmesh/settings/agreement.py`). What doesn't read as one is an empty memory: at worst something is told again.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from hitmesh.config.live import ALERTS
from hitmesh.dashboard.status import Level

MAX_FIRINGS: Final = 30  # and as many notices: of 1 KB each they are below a setting's 64 KiB; nobody reads more
MAX_NOTICES: Final = 30

Moment = Annotated[float, Meta(ge=0, le=2e11)]
"""Seconds since 1970 by the wall clock of whoever wrote it; up to the year 8000."""
Kind = Literal["firing", "worse", "still firing", "recovered", "test"]


class Firing(Struct, frozen=True, kw_only=True):
    """An alert that fires."""

    id: str  # its own: another time the same alert has another one
    rule: str
    level: Level
    says: str
    since: Moment  # when there was the first sign of it
    told: int = 0  # how often; 0: it was silenced all the time
    told_at: Moment = 0.0  # when last


class Notice(Struct, frozen=True, kw_only=True):
    """What is to be told to everybody who is still owed it."""

    id: str  # of the firing
    number: int  # of this telling of it, from 1
    kind: Kind
    name: str  # of the alert
    rule: str
    level: Level
    says: str
    since: Moment
    at: Moment
    owed: tuple[str, ...] = ()  # ways, by name

    @property
    def key(self) -> tuple[str, int]:
        """Which one it is, among all."""
        return self.id, self.number


class Claim(Struct, frozen=True):
    """Which dashboard tells. One whose `beat` doesn't rise any more has died, and another takes its place."""

    who: str  # an instance's id
    beat: int


class Memory(Struct, frozen=True):
    """All of it."""

    firings: dict[str, Firing] = {}  # by the alert's name
    notices: tuple[Notice, ...] = ()  # the oldest first
    claim: Claim | None = None  # nobody needs one while nothing is to be told


def key_of(dc: str) -> str:
    """The setting that has a datacenter's."""
    return f"{ALERTS}{dc}/memory"


def encode(memory: Memory) -> bytes:
    """As it is written."""
    return msgspec.json.encode(memory)


def decode(value: bytes | None) -> Memory:
    """As it was written; an empty one of anything else."""
    try:
        memory = msgspec.json.decode(value or b"{}", type=Memory)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Memory()
    if len(memory.firings) > MAX_FIRINGS or len(memory.notices) > MAX_NOTICES:
        return Memory()
    return memory


def joined(theirs: Memory, ours: Memory) -> Memory:
    """What somebody wrote, with what we have told while the store was away."""
    known = {each.key for each in theirs.notices}
    firings = {**ours.firings, **theirs.firings}
    notices = (*theirs.notices, *(each for each in ours.notices if each.key not in known))
    return Memory(dict(list(firings.items())[:MAX_FIRINGS]), notices[:MAX_NOTICES], theirs.claim)
