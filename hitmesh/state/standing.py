"""What an instance's state is called, by its word and by how long ago its last heartbeat was heard. Pure.

Owns the words and the bounds for all who show states to people.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hitmesh.protocol.messages import Instance
from hitmesh.state.ages import UPTIME
from hitmesh.state.dues import FAILING, told

SILENT_INTERVALS: Final = 1.5
"""Of its heartbeats: by then one is missing. Half an interval more than between two, for a busy host and the way here."""

STARTING_S: Final = 6.0
"""For which one that should be there may be unheard when the mesh, or the watching of it, begins, and between its leaving
and its return: a role needs a second or three to start, on a busy host."""

UP: Final = "up"
STARTING: Final = "starting"
DRAINING: Final = "draining"
DRAINED: Final = f"{DRAINING}: by an operator"
"""What one says in its heartbeats that finishes its work since an operator wants it, and will be back: it doesn't leave."""
SILENT: Final = "silent"
DEAD: Final = "dead"

STORE: Final = "store"
"""Of a processor's load: in which totals store it counts, as `TotalsStore.place` has it."""
VIRTUAL_IP: Final = "virtual_ip"
"""Of a balancer's load, behind a virtual IP: 1 while its host has the address."""

CERTIFICATE_ENDS: Final = "certificate_ends"
"""Of a balancer's load, with TLS: when the first of its certificates ends, in seconds since 1970."""

DISK_USED: Final = "disk_used"
"""Of a role's load: the share of its state folder's disk that is used, in hundredths."""

DATABASE_AWAY_S: Final = "database_away_s"
"""Of a recorder's load: for how long it could bring nothing to PostgreSQL; 0: it can."""

ENTRIES_DROPPED: Final = "entries_dropped"
"""Of a recorder's load: entries that it couldn't keep."""

SUPERVISOR: Final = "supervisor"
"""Of a scaler's load: 1 while the supervisord of its host answers; it isn't there before it was asked."""

BEHIND_S: Final = "behind_s"
"""Of a scaler's load: for how long it hasn't come nearer to what is wanted on its host; 0: it is there."""

HOOKS_FAILED: Final = "hooks_failed"
"""Of a scaler's load: how often its hook has failed."""

HOOK_MISSING: Final = "hook_missing"
"""Of a scaler's load: 1 while its hook couldn't be run."""

DRY_RUN: Final = "dry_run"
"""Of a scaler's load: 1 of one that changes nothing."""

GENERATION: Final = "generation"
"""Of a balancer's load: the how manieth of its master's generations of workers it is of. Two of them have one name for a while."""

BUSY: Final = "busy"
"""Of every instance's load: the share of one CPU that its process has used lately, in hundredths."""

P99: Final = "p99_ms"
"""Of a collector's load: within which 99 of 100 answers to hits came lately; it isn't there while there are few."""

_WORKER: Final = re.compile(r"-w[0-9]+$")  # behind the name of a balancer: one of its further workers


class Standing(Struct, frozen=True):
    """How an instance is."""

    state: str  # one of the words above
    failing: bool = False  # it lives, and can't do its work
    why: str = ""


def standing(said: str, *, alive: bool, age_s: float, heartbeat_s: float) -> Standing:
    """Of an instance whose last heartbeat said `said`, and was heard `age_s` ago; `alive` is the Nexuses' verdict."""
    word, why = told(said)
    if not alive:
        return Standing(DEAD)
    if age_s > SILENT_INTERVALS * heartbeat_s:
        return Standing(SILENT)
    if word == FAILING:
        return Standing(UP, failing=True, why=why)
    return Standing(DRAINING if word == DRAINING else UP, why=why)


def heartbeat_names(name: str, workers: int) -> list[str]:
    """Under which names an instance of several workers heartbeats: its first one has its own."""
    return [name, *(f"{name}-w{number}" for number in range(1, workers))]


def program_of(name: str) -> str:
    """The configured instance to which whoever heartbeats under this name belongs."""
    return _WORKER.sub("", name)


def is_exchange(before: Instance, after: Instance) -> bool:
    """Whether both are workers of one balancer, which replaces all of its own: until the former ones leave, two have one name.

    So whoever is heard, the other one hasn't died. Of a generation with a lower number, it has only if it was there first:
    otherwise the balancer was started again. Where they listen tells one balancer from another of its name.
    """
    was, now = before.load.get(GENERATION), after.load.get(GENERATION)
    if was is None or now is None or was == now or before.endpoints != after.endpoints:
        return False
    return now > was or after.load.get(UPTIME, 0.0) >= before.load.get(UPTIME, 0.0)


def place_in_list(role: str, name: str, roles: Sequence[str]) -> tuple[int, str, int, str]:
    """By what instances are sorted for people: by role in that order, then by number."""
    number = program_of(name).rpartition("-")[2]
    at = roles.index(role) if role in roles else len(roles)
    return at, role, int(number) if number.isdecimal() and number.isascii() else 0, name
