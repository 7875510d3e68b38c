"""What a Nexus tells Prometheus. Pure: names and words for the figures that it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from hitmesh.metrics.families import Counted, Gauged, Table, common, of_figures
from hitmesh.state.peers import UNHEARD
from hitmesh.state.view import RIVALS

_FIGURES: Final[Table] = (
    Gauged("instances", "nexus_instances", "Instances that it knows, of all datacenters"),
    Counted(
        "refused",
        "nexus_refused_words",
        "Heartbeats, last words and instances that it didn't believe, or had no room for",
    ),
    Gauged(RIVALS, "nexus_rivals", "Names under which two processes live"),
    Gauged("peers", "nexus_heard_datacenters", "Other datacenters that it hears"),
    Gauged(UNHEARD, "nexus_unheard_datacenters", "Other datacenters that there must be, and that it doesn't hear"),
    Gauged("peers_refused", "nexus_refused_datacenters", "Datacenters whose words it refused in the last seconds"),
    Counted("settings_merged", "nexus_merged_settings", "Live settings taken over from other datacenters"),
    Counted(
        "settings_failed", "nexus_failed_settings", "Tries to take over live settings of another datacenter that failed"
    ),
    Counted("settings_strange", "nexus_refused_settings", "Live settings of other datacenters that were refused"),
)


def collect(
    dc: str, name: str, figures: Mapping[str, float], lag: Mapping[str, float], *, is_failing: bool
) -> Iterator[Metric]:
    """Everything, as of now."""
    yield from common(dc=dc, role="nexus", name=name, figures=figures, lag=lag, is_failing=is_failing)
    yield from of_figures(_FIGURES, figures)
