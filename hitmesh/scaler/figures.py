"""What a scaler goes by: the instances of a role and the hosts, as their heartbeats say. Pure.

An instance is *serving* when it is up and has been for a while; *new* before that; *out* when it can't be counted on:
it fails, is silent, or is drained by an operator. One that leaves is none any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from hitmesh.config import Config, Role
from hitmesh.config.scaler import Sized
from hitmesh.state.ages import UPTIME
from hitmesh.state.standing import BUSY, DRAINED, DRAINING, DRY_RUN, P99, SUPERVISOR, UP, program_of, standing
from hitmesh.state.view import Sighting

CPUS: Final = "cpus"
HOST_BUSY: Final = "host_busy"
FREE_MB: Final = "host_free_mb"
"""Of a scaler's load: its host's CPUs, the share of them in use, and the memory that is free there."""
RESTORING: Final = "restoring"
"""Of a processor's load: partitions whose rows are being brought back."""


class Figures(Struct, frozen=True, kw_only=True):
    """The instances of a role."""

    serving: int = 0
    new: Sequence[str] = ()
    out: Sequence[str] = ()
    by_node: Mapping[str, int] = {}  # all that live; under "" those that the configuration doesn't know
    busy: float = 0.0  # CPUs that those serving and new use together
    p99_ms: float = 0.0  # the worst of those serving; 0: nobody says, since there is little to do
    missing: str = ""  # whose figures are missing, in words: nothing can be decided by the others'
    unsettled: str = ""  # which processor hasn't any partition yet

    @property
    def living(self) -> int:
        """Of all kinds."""
        return sum(self.by_node.values())

    @property
    def counted(self) -> int:
        """Those that share the load, or will in a moment."""
        return self.serving + len(self.new)

    def fields(self) -> dict[str, float]:
        """For a log's record."""
        return {
            "counted": self.counted,
            "new": len(self.new),
            "out": len(self.out),
            "cpus_used": round(self.busy, 2),
            "p99_ms": self.p99_ms,
        }

    def words(self) -> str:
        """For a log."""
        mean = self.busy / self.counted if self.counted else 0.0
        p99 = f", p99 {self.p99_ms:g} ms" if self.p99_ms else ""
        return f"{self.counted} use {mean:.0%} of a CPU each{p99}"


class Host(Struct, frozen=True, kw_only=True):
    """A node with a scaler that lives."""

    name: str
    cpus: float = 0.0
    busy: float = 1.0  # share of all of them
    free_mb: float = 0.0
    is_able: bool = False  # its supervisord answers, and its figures are there

    @property
    def room(self) -> float:
        """CPUs that nobody uses."""
        return self.cpus * (1.0 - self.busy)


def figures(
    sightings: Iterable[Sighting],
    role: Sized,
    nodes: Mapping[str, str],
    now: float,
    *,
    warm_s: float,
    heartbeat_s: float,
) -> Figures:
    """Of a role, whose instances by name run on `nodes`."""
    serving, busy, p99_ms = 0, 0.0, 0.0
    new, out, unsaid, unsettled = list[str](), list[str](), list[str](), list[str]()
    by_node: dict[str, int] = {}
    for seen in sightings:
        one = seen.instance
        found = standing(one.state, alive=seen.alive, age_s=max(0.0, now - seen.heard), heartbeat_s=heartbeat_s)
        if one.role != role or not seen.alive or (one.state.startswith(DRAINING) and one.state != DRAINED):
            continue
        node = nodes.get(program_of(one.name), "")
        by_node[node] = by_node.get(node, 0) + 1
        if found.state != UP or found.failing:
            out.append(one.name)
            continue
        if BUSY not in one.load:
            unsaid.append(one.name)
        busy += one.load.get(BUSY, 0.0)
        if role == "processor" and not one.owns:
            unsettled.append(one.name)
        if one.load.get(UPTIME, 0.0) < warm_s:
            new.append(one.name)
        else:
            serving += 1
            p99_ms = max(p99_ms, one.load.get(P99, 0.0))
    missing = f"{', '.join(sorted(unsaid))} don't say how busy they are: an older release" if unsaid else ""
    return Figures(
        serving=serving, new=tuple(sorted(new)), out=tuple(sorted(out)), by_node=by_node, busy=busy, p99_ms=p99_ms,
        missing=missing, unsettled=", ".join(sorted(unsettled)),
    )  # fmt: skip


def crews(
    sightings: Iterable[Sighting], nodes: Mapping[str, str], now: float, *, warm_s: float, heartbeat_s: float
) -> dict[str, Figures]:
    """Of the workers of each balancer of which some are heard, by its name; they run on `nodes`."""
    by_name: dict[str, list[Sighting]] = {}
    for seen in sightings:
        if seen.instance.role == "balancer":
            by_name.setdefault(program_of(seen.instance.name), []).append(seen)
    found = {
        name: figures(some, "balancer", nodes, now, warm_s=warm_s, heartbeat_s=heartbeat_s)
        for name, some in by_name.items()
    }
    return {name: each for name, each in found.items() if each.living}


def hosts(sightings: Iterable[Sighting], nodes: Mapping[str, str], *, dry_run: bool = False) -> dict[str, Host]:
    """The nodes whose scalers live and act, by name; of a `dry_run` also those that only say what they would do."""
    found: dict[str, Host] = {}
    for seen in sightings:
        one, load = seen.instance, seen.instance.load
        node = nodes.get(one.name)
        if one.role != "scaler" or not seen.alive or node is None or (load.get(DRY_RUN) and not dry_run):
            continue
        if node in found and found[node].is_able:
            continue  # of two there, one that was started by hand has no supervisord to ask
        found[node] = Host(
            name=node,
            cpus=load.get(CPUS, 0.0),
            busy=load.get(HOST_BUSY, 1.0),
            free_mb=load.get(FREE_MB, 0.0),
            is_able=bool(load.get(SUPERVISOR)) and CPUS in load and HOST_BUSY in load,
        )
    return found


def nodes_of(config: Config, role: Role) -> dict[str, str]:
    """On which node each instance of a role runs, those that a scaler starts too, by name."""
    return {one.name: one.node for one in (*config.instances(role), *config.spares(role))}


def restoring(sightings: Iterable[Sighting]) -> str:
    """Whose partitions are being restored, in words; empty: nobody's."""
    names = [s.instance.name for s in sightings if s.alive and s.instance.load.get(RESTORING, 0) > 0]
    return f"{', '.join(sorted(names))} {'bring' if names[1:] else 'brings'} rows back" if names else ""
