"""What a recorder tells Prometheus. Pure: names and words for what it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from hitmesh.metrics.families import Counted, Gauged, Table, common, of_figures
from hitmesh.state.standing import DATABASE_AWAY_S, ENTRIES_DROPPED

_FIGURES: Final[Table] = (
    Counted("entries", "recorder_entries", "Lines and figures that roles sent it"),
    Counted(ENTRIES_DROPPED, "recorder_dropped_entries", "Of these, those that it couldn't keep"),
    Gauged("volumes_bytes", "recorder_volumes_bytes", "Size of its volumes"),
    Gauged("cannot_write", "recorder_unwritable", "Whether its volumes can't be written"),
    Counted("rows", "recorder_database_rows", "Rows that it brought to PostgreSQL"),
    Gauged(DATABASE_AWAY_S, "recorder_database_away_seconds", "For how long nothing could be brought there; 0: it can"),
)


def collect(
    dc: str, name: str, figures: Mapping[str, float], *, lag: Mapping[str, float], is_failing: bool
) -> Iterator[Metric]:
    """Everything, as of now."""
    yield from common(dc=dc, role="recorder", name=name, figures=figures, lag=lag, is_failing=is_failing)
    yield from of_figures(_FIGURES, figures)
