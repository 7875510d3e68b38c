"""How many instances a datacenter's scalers want on each node, and how many workers in each balancer, as it stands in its
settings store. Pure.

It is one setting, `deploys/scaler/DC`, as JSON, changed under compare-and-set: so who decides, what is decided and why are
written together. What doesn't read as one is as none: nobody starts or stops anything by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hitmesh.config import Config
from hitmesh.config.live import SCALER
from hitmesh.config.scaler import Scaled, Sized
from hitmesh.settings import Setting

MAX_CHANGES: Final = 20  # kept, each of some 400 bytes: with 256 nodes below a setting's 64 KiB
MAX_WHY_CHARS: Final = 300
EVERYWHERE: Final = "*"  # instead of a node's name: no node has that

_Count = Annotated[int, Meta(ge=0, le=64)]


class Change(Struct, frozen=True, kw_only=True):
    """What was decided: one number on one node, or of workers, or that a hook is run."""

    at: Annotated[float, Meta(ge=0, le=2e11)]  # by the wall clock of whoever wrote it
    role: Sized
    node: str  # empty: of a hook; EVERYWHERE: of the workers of each balancer
    was: int  # in the whole datacenter, or in each balancer
    now: int  # the same: more than there are, of a hook
    why: Annotated[str, Meta(max_length=MAX_WHY_CHARS)]


class Wanted(Struct, frozen=True):
    """All of it."""

    holder: str = ""  # the id of the scaler that has written it: it holds the lease until that is a while ago
    counts: dict[str, dict[Scaled, _Count]] = {}  # by node
    changes: Annotated[tuple[Change, ...], Meta(max_length=MAX_CHANGES)] = ()  # the newest last
    workers: _Count = 0  # of each balancer; 0: as many as its file says

    def on(self, node: str) -> Mapping[Scaled, int] | None:
        """What is wanted on a node; None: nobody has said."""
        return self.counts.get(node)


def key_of(dc: str) -> str:
    """The setting that has a datacenter's."""
    return f"{SCALER}{dc}"


def encode(wanted: Wanted) -> bytes:
    """As it is written."""
    return msgspec.json.encode(wanted)


def decode(value: bytes | None) -> Wanted | None:
    """As it was written; None where there is none, or anything else."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=Wanted)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def wanted_workers(config: Config, settings: Mapping[str, Setting]) -> int:
    """How many workers each balancer is to have at least, by the live `config` and settings; 0: as many as its file says."""
    most = config.scaler.balancer.max
    setting = settings.get(key_of(config.name)) if most else None
    wanted = decode(setting.value) if setting is not None else None
    return min(wanted.workers, most) if wanted is not None else 0


def words(change: Change) -> str:
    """A change, for people."""
    what = "workers of each balancer" if change.role == "balancer" else change.role
    if not change.node:
        return f"{what}: {change.now} are needed, and there is room for {change.was}: the hook is told"
    if change.node == EVERYWHERE:
        return f"{what} {change.was} -> {change.now}"
    return f"{change.role} {change.was} -> {change.now}, on {change.node}"
