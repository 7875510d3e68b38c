"""What a collector tells Prometheus. Pure: names and words for what it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from hitmesh.collector.answers import REASONS
from hitmesh.metrics.families import Counted, Gauged, Table, common, counter, histogram, of_figures
from hitmesh.site.visits import REASONS as IGNORED
from hitmesh.state.histogram import Histogram
from hitmesh.state.senders import REFUSED_PUTS, UNACKED_S, UNKNOWN

_FIGURES: Final[Table] = (
    Counted("accepted", "collector_accepted_hits", "Hits that are on stable storage, and were answered so"),
    Counted("acked", "collector_acked_hits", "Of them, hits that are known to be committed"),
    Counted(
        UNKNOWN, "collector_unknown_hits", "Hits that were refused, and may be counted: their put was never answered"
    ),
    Counted(
        "in_doubt", "collector_in_doubt_hits", "Hits that may not be counted: somebody else has used their numbers"
    ),
    Counted(
        REFUSED_PUTS, "collector_refused_puts", "Batches that couldn't be put into the spool: their hits were refused"
    ),
    Gauged("jobs", "collector_unacked_jobs", "Own jobs in the spool that aren't known to be committed"),
    Gauged(UNACKED_S, "collector_oldest_unacked_seconds", "For how long the oldest of them has waited; 0 without one"),
    Gauged("unacked_bytes", "collector_unacked_bytes", "Memory for batches that aren't committed yet"),
    Gauged("claims", "collector_claimed_jobs", "Jobs of others that it has claimed from the spool"),
    Counted("resent", "collector_resent_jobs", "Times that a job was sent again, since its ack was missing"),
    Counted("jumps", "collector_lane_jumps", "Times that somebody else had used numbers of its lanes"),
    Counted("false_claims", "collector_false_claims", "Claims to a partition that the totals store contradicts"),
)
_TIMES: Final = {
    "hit": "Answers to hits, from the whole request to the whole answer",
    "spool_put": "Puts of a batch into the spool that succeeded",
    "commit": "Batches, from their put to the word of the last owner that they are committed",
}


def collect(
    dc: str,
    name: str,
    figures: Mapping[str, float],
    *,
    times: Mapping[str, Histogram],
    refusals: Mapping[str, int],
    ignored: Mapping[str, int],
    lag: Mapping[str, float],
    is_failing: bool,
) -> Iterator[Metric]:
    """Everything, as of now."""
    yield from common(dc=dc, role="collector", name=name, figures=figures, lag=lag, is_failing=is_failing)
    yield from of_figures(_FIGURES, figures)
    yield counter(
        "collector_refused_requests",
        "Requests that were answered with an error, by reason",
        [({"reason": reason}, refusals.get(reason, 0)) for reason in REASONS],
    )
    yield counter(
        "collector_ignored_hits",
        "Hits that were answered and not counted, as they are no visits, by reason",
        [({"reason": reason}, ignored.get(reason, 0)) for reason in IGNORED],
    )
    for kind, text in _TIMES.items():
        yield histogram(f"collector_{kind}_duration_seconds", text, [({}, times[kind].snapshot())])
