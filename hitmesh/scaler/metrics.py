"""What a scaler tells Prometheus. Pure: names and words for what it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

from hitmesh.metrics.families import common


def collect(
    dc: str, name: str, figures: Mapping[str, float], *, lag: Mapping[str, float], is_failing: bool
) -> Iterator[Metric]:
    """Everything, as of now."""
    yield from common(dc=dc, role="scaler", name=name, figures=figures, lag=lag, is_failing=is_failing)
