"""Figures as families of Prometheus's samples. Pure.

Names begin with `hitmesh_`; counters end in `_total`; times are in seconds and sizes in bytes. Labels have few values,
which nobody outside chooses: roles, reasons, datacenters; never a page's name or a client's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from hitmesh import __version__
from hitmesh.compiled import COMPILED
from hitmesh.settings.live import LOAD, LOAD_REFUSED
from hitmesh.state.histogram import LABELS
from hitmesh.state.outgoing import DROPPED
from hitmesh.state.rights import SHUT_OUT, TURNED_AWAY

PREFIX: Final = "hitmesh_"
Labels = Mapping[str, str]


class Counted(NamedTuple):
    """A figure that only grows."""

    key: str  # among a role's figures, which its heartbeats have too
    name: str  # without prefix and `_total`
    text: str


class Gauged(NamedTuple):
    """A figure that rises and falls."""

    key: str
    name: str
    text: str


Table = Sequence[Counted | Gauged]

# What every role's heartbeats have, as far as it has the parts that count it.
_COMMON: Final[Table] = (
    Gauged(COMPILED, "compiled", "1 when its hot modules are compiled, 0 when they are interpreted"),
    Counted("log_lost", "log_lost_lines", "Lines of its log that couldn't be written"),
    Counted(DROPPED, "records_dropped", "Lines and figures of its own that no recorder took in time"),
    Counted("bad_frames", "bad_frames", "Messages that were refused"),
    Gauged(SHUT_OUT, "shut_out_connections", "Nexuses that were reached, and don't let this instance in"),
    Gauged(LOAD, "live_settings_version", "Version of the newest live setting that is known here"),
    Gauged(LOAD_REFUSED, "live_settings_refused", "Live settings that don't apply here"),
)


def common(
    *,
    dc: str,
    role: str,
    name: str,
    figures: Mapping[str, float],
    lag: Mapping[str, float] | None,
    is_failing: bool,
) -> Iterator[Metric]:
    """What every role has. `lag` is a snapshot of the hub's histogram, for those that measure it."""
    about = {"version": __version__, "dc": dc, "role": role, "name": name}
    yield InfoMetricFamily(f"{PREFIX}build", "What this is", value=about)
    yield gauge("failing", "Whether it can't do its work, as /health says", [({}, is_failing)])
    if lag is not None:
        yield histogram("hub_lag_seconds", "How much later than asked the process's hub did something", [({}, lag)])
    yield from of_figures(_COMMON, figures)
    turned_away = []
    for key, count in figures.items():
        if key.startswith(TURNED_AWAY):
            link, _, reason = key.removeprefix(TURNED_AWAY).partition(".")
            turned_away.append(({"link": link, "reason": reason}, count))
    yield counter(
        "turned_away", "Connections and messages of those who aren't heard, by socket and reason", turned_away
    )


def of_figures(table: Table, figures: Mapping[str, float]) -> Iterator[Metric]:
    """Those of the table that there are."""
    for row in table:
        if row.key in figures:
            make = counter if isinstance(row, Counted) else gauge
            yield make(row.name, row.text, [({}, figures[row.key])])


def counter(name: str, text: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    """Of what only grows; `name` is without prefix and `_total`."""
    return _family(CounterMetricFamily(PREFIX + name, text), f"{PREFIX}{name}_total", samples)


def gauge(name: str, text: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    """Of what rises and falls."""
    return _family(GaugeMetricFamily(PREFIX + name, text), PREFIX + name, samples)


def histogram(name: str, text: str, snapshots: Iterable[tuple[Labels, Mapping[str, float]]]) -> Metric:
    """Of times, by snapshots of `hitmesh.state.histogram`."""
    family = HistogramMetricFamily(PREFIX + name, text)
    for labels, snapshot in snapshots:
        count = 0.0
        for bound in LABELS:
            count += snapshot[bound]
            family.add_sample(f"{PREFIX}{name}_bucket", {**labels, "le": bound}, count)
        family.add_sample(f"{PREFIX}{name}_count", dict(labels), count)
        family.add_sample(f"{PREFIX}{name}_sum", dict(labels), snapshot["sum"])
    return family


def _family(family: Metric, name: str, samples: Iterable[tuple[Labels, float]]) -> Metric:
    for labels, value in samples:
        family.add_sample(name, dict(labels), value)
    return family
