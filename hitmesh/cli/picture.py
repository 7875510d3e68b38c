"""A mesh as its Nexuses and its supervisord see it, put together. Pure, but for `ask`.

An instance is one by its datacenter and name. Both sources are partial: a Nexus also knows
instances that somebody started by hand, supervisord also knows processes that don't heartbeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from hitmesh.cli.columns import columns
from hitmesh.compiled import COMPILED, INTERPRETED
from hitmesh.config import ROLES, Config, nexus_endpoints
from hitmesh.errors import MeshError
from hitmesh.protocol import formats
from hitmesh.protocol.messages import Answer, Seen
from hitmesh.state.ages import UPTIME
from hitmesh.state.dues import FAILING
from hitmesh.state.standing import (
    DEAD,
    SILENT_INTERVALS,
    STARTING,
    STARTING_S,
    STORE,
    heartbeat_names,
    place_in_list,
    program_of,
    standing,
)
from hitmesh.state.view import RIVALS
from hitmesh.supervisord import Supervised

RUNNING: Final = "RUNNING"  # supervisord's word
_HIDDEN: Final = (
    COMPILED,
    STORE,
)  # of the loads: the one is told with the version, the other is a number for processors


class Shown(Struct, frozen=True):
    """One line of `hitmesh status`."""

    dc: str
    role: str
    name: str
    version: str | None  # of the release that runs there, as its heartbeats say
    pid: int | None
    state: str  # up, failing, draining, starting, silent, dead; without a process supervisord's word, in small letters
    why: str  # it fails, or doesn't run
    uptime_s: float | None
    heartbeat_age_s: float | None
    load: Mapping[str, float]
    # of the process that supervisord started; a collector's is gunicorn's master, a balancer's its own
    supervisor_pid: int | None
    supervisor_state: str | None


def ask(config: Config) -> Answer | None:
    """A snapshot of one datacenter, or None when no Nexus of it answers.

    A Nexus also tells of the other datacenters; what it tells is second-hand, and no command's business.
    """
    from hitmesh.mesh.lookup import Lookups  # ZeroMQ is slow to import, and not every command asks

    try:
        with Lookups.of(config) as lookups:
            answer = lookups.snapshot()
    except MeshError:
        return None
    return replace(answer, seen=tuple(seen for seen in answer.seen if seen.instance.dc == config.name))


def is_warm(config: Config, name: str) -> bool | None:
    """Whether a Nexus knows everybody, as one that has just started doesn't; None: it doesn't answer."""
    from hitmesh.mesh.lookup import Lookups
    from hitmesh.mesh.network import nexus_keys, operator_keyring

    keyring = operator_keyring(config)
    endpoint = nexus_endpoints(config.placement("nexus", name)).lookups
    with Lookups([endpoint], keyring=keyring, keys=nexus_keys(keyring, config)) as lookups:
        try:
            return lookups.snapshot().warm
        except MeshError:
            return None


def alive(answer: Answer | None, role: str) -> list[Seen]:
    """The living instances of a role."""
    return [seen for seen in answer.seen if seen.alive and seen.instance.role == role] if answer else []


def is_silent(answer: Answer | None, heartbeat_s: float) -> bool:
    """Whether the heartbeat of somebody living is missing at this moment."""
    return any(
        seen.alive and seen.age_ms / 1000 > SILENT_INTERVALS * heartbeat_s for seen in (answer.seen if answer else ())
    )


def merge(
    dc: str, answer: Answer | None, programs: Iterable[Supervised], now_ms: int, *, heartbeat_s: float
) -> list[Shown]:
    """Every instance of one datacenter, living ones first among those of the same name."""
    supervised = {each.name: each for each in programs if each.dc == dc}
    shown = []
    living = set()
    last_heard: dict[str, float] = {}
    for seen in sorted(answer.seen if answer else (), key=lambda seen: (not seen.alive, seen.age_ms)):
        instance = seen.instance
        program = program_of(instance.name)
        if seen.alive:
            living.add(instance.name)
        elif instance.name in living or program in supervised:
            last_heard.setdefault(program, seen.age_ms / 1000)
            continue  # its successor, or its supervisor, says more
        shown.append(_heard(dc, seen, supervised.get(program), now_ms, heartbeat_s))
    is_known = answer is not None and answer.warm
    shown += [
        _unheard(dc, each, last_heard.get(name), is_known=is_known)
        for name, each in supervised.items()
        if name not in living
    ]
    return sorted(shown, key=_order)


def without_idle(config: Config, programs: Iterable[Supervised]) -> list[Supervised]:
    """The programs without those that a scaler hasn't started: nobody misses them."""
    spares = {one.name for role in ROLES for one in config.spares(role)}
    return [
        each for each in programs if not (each.dc == config.name and each.name in spares and each.state == "STOPPED")
    ]


def missing(config: Config, answer: Answer | None) -> list[str]:
    """What a datacenter lacks until it is ready: instances by name, then partitions without an owner."""
    lacking = []
    for role in ROLES:
        heard = {seen.instance.name for seen in alive(answer, role)}
        workers = config.balancer.workers if role == "balancer" else 1
        for placement in config.instances(role):
            lacking += [name for name in heartbeat_names(placement.name, workers) if name not in heard]
    owned = {partition for seen in alive(answer, "processor") for partition in seen.instance.owns}
    count = len(set(range(config.partitions)) - owned)
    return [*lacking, f"owners of {count} of {config.partitions} partitions"] if count else lacking


def table(shown: Sequence[Shown]) -> str:
    """Columns for people."""
    rows: list[tuple[str, ...]] = [("DC", "NAME", "STATE", "PID", "UPTIME", "HEARTBEAT", "VERSION", "LOAD")]
    for each in shown:
        heartbeat = "-" if each.heartbeat_age_s is None else f"{each.heartbeat_age_s:.1f} s ago"
        uptime = "-" if each.uptime_s is None else duration(each.uptime_s)
        figures = [f"{key}={value:g}" for key, value in sorted(each.load.items()) if value and key not in _HIDDEN]
        load = " ".join([f"({each.why})"] * bool(each.why) + figures)
        rows.append((each.dc, each.name, each.state, str(each.pid or "-"), uptime, heartbeat, _version(each), load))
    return columns(rows)


def _version(shown: Shown) -> str:
    """The release, and whether its hot modules are compiled, which one of 0.2.0 doesn't say."""
    if shown.version is None or COMPILED not in shown.load:
        return shown.version or "-"
    return f"{shown.version} {COMPILED if shown.load[COMPILED] else INTERPRETED}"


def as_json(shown: Shown) -> dict[str, Any]:
    """The object that `hitmesh status --json` prints."""
    return {field: getattr(shown, field) for field in shown.__struct_fields__}


def rivals(dc: str, answer: Answer | None) -> int:
    """How many names two processes use in a datacenter, as the Nexus there says that hears the most of them."""
    here = (seen.instance for seen in alive(answer, "nexus") if seen.instance.dc == dc)
    return int(max((one.load.get(RIVALS, 0) for one in here), default=0))


def _heard(dc: str, seen: Seen, supervised: Supervised | None, now_ms: int, heartbeat_s: float) -> Shown:
    instance = seen.instance
    found = standing(instance.state, alive=seen.alive, age_s=seen.age_ms / 1000, heartbeat_s=heartbeat_s)
    # By the instance's own clock that never steps; one of an earlier release tells a moment of its wall clock only.
    load = formats.without(instance.load)
    up_s = load.pop(UPTIME, None)
    uptime_s = max(0, now_ms - instance.started_ms) / 1000 if up_s is None else max(0.0, up_s) + seen.age_ms / 1000
    return Shown(
        dc=dc,
        role=instance.role,
        name=instance.name,
        version=formats.release_of(instance).version if seen.alive else None,
        pid=instance.pid if seen.alive else None,
        state=FAILING if found.failing else found.state,
        why=found.why,
        uptime_s=round(uptime_s, 3) if seen.alive else None,
        heartbeat_age_s=seen.age_ms / 1000,
        load=load if seen.alive else {},
        supervisor_pid=supervised.pid or None if supervised else None,
        supervisor_state=supervised.state if supervised else None,
    )


def _unheard(dc: str, supervised: Supervised, heartbeat_age_s: float | None, *, is_known: bool) -> Shown:
    """One without heartbeats: what its process says, unless the Nexuses, who know everybody, would have heard it."""
    state, why = supervised.state.lower(), supervised.why
    if is_known and supervised.state == RUNNING and supervised.role in ROLES:
        if heartbeat_age_s is not None and heartbeat_age_s <= supervised.uptime_s + 1:  # which are whole seconds
            state, why = DEAD, "its heartbeats stopped"
        elif supervised.uptime_s > STARTING_S:
            state, why = DEAD, "it was never heard"
        else:
            state = STARTING
    return Shown(
        dc=dc,
        role=supervised.role,
        name=supervised.name,
        version=None,
        pid=supervised.pid or None,
        state=state,
        why=why,
        uptime_s=supervised.uptime_s if supervised.pid else None,
        heartbeat_age_s=heartbeat_age_s,
        load={},
        supervisor_pid=supervised.pid or None,
        supervisor_state=supervised.state,
    )


def _order(shown: Shown) -> tuple[int, str, int, str]:
    return place_in_list(shown.role, shown.name, ROLES)


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 60 * 72 else f"{minutes // 60 // 24} d"
