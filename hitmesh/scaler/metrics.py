"""What a scaler tells Prometheus. Pure: names and words for what it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from hitmesh.config.scaler import SIZED
from hitmesh.metrics.families import Counted, Gauged, Table, common, gauge, of_figures
from hitmesh.scaler.figures import CPUS, FREE_MB, HOST_BUSY
from hitmesh.state.standing import BEHIND_S, HOOK_MISSING, HOOKS_FAILED, SUPERVISOR

_FIGURES: Final[Table] = (
    Counted(
        "decisions",
        "scaler_decisions",
        "Numbers of instances that it has changed, and hooks that it has decided to run",
    ),
    Counted("hooks", "scaler_hooks", "Times that it has run the hook, since every host was full"),
    Counted(HOOKS_FAILED, "scaler_failed_hooks", "Of these, those that failed"),
    Gauged(
        HOOK_MISSING, "scaler_hook_missing", "1 while the hook couldn't be run: it isn't there, or isn't executable"
    ),
    Gauged("leads", "scaler_leads", "1 of the scaler of the datacenter that decides"),
    Gauged(SUPERVISOR, "scaler_supervisor_up", "1 while the supervisord of its host answers"),
    Gauged(
        BEHIND_S, "scaler_behind_seconds", "For how long it hasn't come nearer to what is wanted there; 0: it is there"
    ),
    Gauged(CPUS, "scaler_host_cpus", "CPUs of its host"),
    Gauged(HOST_BUSY, "scaler_host_busy_ratio", "Share of them in use"),
    Gauged(FREE_MB, "scaler_host_free_megabytes", "Memory that is free on its host"),
)


def collect(
    dc: str, name: str, figures: Mapping[str, float], *, lag: Mapping[str, float], is_failing: bool
) -> Iterator[Metric]:
    """Everything, as of now."""
    yield from common(dc=dc, role="scaler", name=name, figures=figures, lag=lag, is_failing=is_failing)
    yield from of_figures(_FIGURES, figures)
    wanted = [({"wanted_role": role}, figures[f"wanted_{role}"]) for role in SIZED if f"wanted_{role}" in figures]
    yield gauge(
        "scaler_wanted_instances",
        "Instances that are wanted in the datacenter, by role; of balancers the workers of each",
        wanted,
    )
