"""What a dashboard tells Prometheus: its own figures, and what it sees of its datacenter. Pure.

What is of the whole datacenter is told by each of its dashboards: take the `max` of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, get_args

from prometheus_client.core import Metric

from hitmesh.config import ROLES
from hitmesh.dashboard.status import Books, Kind, Level, Part, Spool, State, Store
from hitmesh.metrics.families import Counted, Gauged, Labels, Table, common, gauge, of_figures

_FIGURES: Final[Table] = (
    Gauged("clients", "dashboard_clients", "Browsers and programs that listen to its events"),
    Counted("news", "dashboard_news", "News told to dashboards of other datacenters"),
    Counted("bad_news", "dashboard_bad_news", "News of other dashboards that were refused"),
)


def collect(
    part: Part, name: str, figures: Mapping[str, float], *, lag: Mapping[str, float], is_failing: bool
) -> Iterator[Metric]:
    """Everything, as of now."""
    yield from common(dc=part.dc, role="dashboard", name=name, figures=figures, lag=lag, is_failing=is_failing)
    yield from of_figures(_FIGURES, figures)
    yield from _datacenter(part)
    yield from _spools(part)
    yield from _store(part.store)
    if part.books is not None:
        yield from _books(part.books)
    yield from _links(part)


def _datacenter(part: Part) -> Iterator[Metric]:
    if part.hits.count is not None:
        yield gauge(
            "datacenter_hits",
            "Hits of its own: its part of every total, as far as it is known",
            [({}, part.hits.count)],
        )
    problems = Counter((one.level, one.kind) for one in part.problems)
    yield gauge(
        "datacenter_problems",
        "What the dashboard calls a problem of this datacenter, by how bad it is and what it is with",
        [
            ({"level": level, "kind": kind}, problems[level, kind])
            for level in get_args(Level)
            for kind in get_args(Kind)
        ],
    )
    states = Counter((one.role, one.state) for one in part.instances)
    yield gauge(
        "datacenter_instances",
        "Instances that should be there or are, by role and state",
        [({"role": role, "state": state}, states[role, state]) for role in ROLES for state in get_args(State)],
    )


def _spools(part: Part) -> Iterator[Metric]:
    def of(one: Spool) -> Labels:
        return {"spool": one.name}

    yield gauge(
        "spool_jobs",
        "Jobs that wait in a copy of the spool",
        [(of(one), one.depth) for one in part.spools if one.depth is not None],
    )
    yield gauge(
        "spool_oldest_seconds",
        "For how long the oldest of them has waited",
        [(of(one), one.oldest_s or 0.0) for one in part.spools if one.depth is not None],
    )
    yield gauge("spool_buried_jobs", "Jobs that are set aside", [(of(one), one.buried) for one in part.spools])
    yield gauge("spool_usable", "Whether hits can be put there", [(of(one), one.usable) for one in part.spools])


def _store(store: Store) -> Iterator[Metric]:
    yield gauge("store_reachable", "Whether the totals store answers", [({}, store.reachable)])
    if store.commit_lag_s is not None:
        yield gauge(
            "store_commit_lag_seconds",
            "For how long the oldest accepted hit has waited to be committed",
            [({}, store.commit_lag_s)],
        )
    yield gauge("store_partitions", "Partitions of the totals", [({}, len(store.owners))])
    yield gauge("store_unowned_partitions", "Partitions that nobody owns", [({}, list(store.owners).count(None))])
    yield gauge(
        "store_unreadable_partitions", "Partitions with a head or row that can't be read", [({}, len(store.unreadable))]
    )
    yield gauge("store_restoring_partitions", "Partitions brought back from other datacenters", [({}, store.restoring)])
    if store.pages is not None:
        yield gauge("store_pages", "Pages with a row", [({}, store.pages)])


def _books(books: Books) -> Iterator[Metric]:
    yield gauge("books_balanced", "Whether accepted = committed + spooled + in flight", [({}, books.balanced)])
    yield gauge(
        "books_hits",
        "Hits, by where they are",
        [
            ({"state": "accepted"}, books.accepted),
            ({"state": "committed"}, books.committed),
            ({"state": "spooled"}, books.spooled),
            ({"state": "in_flight"}, books.in_flight),
            ({"state": "unknown"}, books.unknown),
            ({"state": "lost"}, books.lost),
        ],
    )
    yield gauge("books_off_hits", "By how many hits they don't balance", [({}, books.off)])
    yield gauge("books_age_seconds", "Since they were looked at", [({}, books.age_s)])


def _links(part: Part) -> Iterator[Metric]:
    yield gauge(
        "link_up",
        "Whether this datacenter hears another one: 0 when the link is cut",
        [({"source": one.source}, one.state != "cut") for one in part.links],
    )
    yield gauge(
        "link_rows_age_seconds",
        "How old this datacenter's copy of another one's counts is",
        [({"source": one.source}, one.rows_age_s) for one in part.links if one.rows_age_s is not None],
    )
