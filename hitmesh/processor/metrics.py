"""What a processor tells Prometheus. Pure: names and words for what it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from hitmesh.metrics.families import Counted, Gauged, Table, common, gauge, histogram, of_figures
from hitmesh.state.ages import AGE_PREFIX
from hitmesh.state.histogram import Histogram

_FIGURES: Final[Table] = (
    Counted("hits", "processor_applied_hits", "Hits committed"),
    Counted("commits", "processor_commits", "Commits of a partition"),
    Counted(
        "duplicates", "processor_duplicate_parts", "Parts that had been applied before: acked, and not counted again"
    ),
    Counted("dropped", "processor_dropped_parts", "Parts left to the spool: no room, or a closed lane's"),
    Counted("refused", "processor_refused_parts", "Parts and rows that can't be, or that their sender may not send"),
    Counted("step_downs", "processor_step_downs", "Times that a partition was taken from it"),
    Counted("false_claims", "processor_false_claims", "Claims to a partition that the totals store contradicts"),
    Gauged("faults", "processor_faults", "Faults that an operator must look at; its log has them"),
    Gauged("partitions", "processor_partitions", "Partitions that it owns"),
    Gauged("restoring", "processor_restoring_partitions", "Partitions that it brings back from other datacenters"),
    Gauged("pages", "processor_pages", "Pages in its partitions"),
    Counted("rows_received", "processor_received_rows", "Rows of other datacenters, committed here"),
    Counted("bad_rows", "processor_bad_row_messages", "Messages about rows that were refused"),
)


def collect(
    dc: str,
    name: str,
    figures: Mapping[str, float],
    *,
    commits: Histogram,
    lag: Mapping[str, float],
    is_failing: bool,
) -> Iterator[Metric]:
    """Everything, as of now."""
    yield from common(dc=dc, role="processor", name=name, figures=figures, lag=lag, is_failing=is_failing)
    yield from of_figures(_FIGURES, figures)
    ages = {key.removeprefix(AGE_PREFIX): age_s for key, age_s in figures.items() if key.startswith(AGE_PREFIX)}
    yield gauge(
        "processor_copy_age_seconds",
        "How old its copy of another datacenter's counts is",
        [({"peer": peer}, age_s) for peer, age_s in ages.items()],
    )
    yield histogram(
        "processor_commit_duration_seconds", "Rounds of commits in the totals store", [({}, commits.snapshot())]
    )
