"""What is sent of families: Prometheus's text and OpenMetrics, as the official parsers read them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from hitmesh.metrics.families import common, counter, gauge, histogram
from hitmesh.metrics.text import PIECE, encoded, registry
from hitmesh.state.histogram import Histogram
from hitmesh.state.rights import SHUT_OUT

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
EVIL = ['a"b', "a\\b", "a\nb", "\x1b[2J", "\u202e", "} 1\nhitmesh_up 1\n#"]


def families() -> Iterator[Metric]:
    times = Histogram()
    times.observe(0.002)
    times.observe(99.0)
    yield gauge("backends", "More than one piece", [({"backend": f"b-{n}"}, n) for n in range(PIECE * 2 + 1)])
    yield counter("hits", "Counts", [({}, 3)])
    yield histogram("put_seconds", "Times", [({"spool": text}, times.snapshot()) for text in EVIL])
    yield gauge("nothing", "Of nobody", [])


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_what_is_sent_is_read_back(accept: str) -> None:
    body, content_type = encoded(families(), accept)
    assert content_type.startswith("application/openmetrics-text" if accept else "text/plain; version=0.0.4")
    found = {family.name: family for family in (openmetrics if accept else prometheus)(body.decode())}
    assert list(found) == ["hitmesh_backends", "hitmesh_hits", "hitmesh_put_seconds"]
    assert [sample.value for sample in found["hitmesh_backends"].samples] == [*range(PIECE * 2 + 1)]
    assert [(one.name, one.value) for one in found["hitmesh_hits"].samples] == [("hitmesh_hits_total", 3)]
    buckets = {
        (one.labels["spool"], one.labels["le"]): one.value
        for one in found["hitmesh_put_seconds"].samples
        if one.name.endswith("_bucket")
    }
    for text in EVIL:  # none of them has broken a line
        assert [buckets[text, bound] for bound in ("0.001", "0.0025", "10.0", "+Inf")] == [0, 1, 1, 2]
    assert len(found["hitmesh_put_seconds"].samples) == len(EVIL) * 17


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=x", "\xff", "text/plain;version=;;=", "," * 9000]
)
def test_an_accept_that_makes_no_sense_is_answered_all_the_same(accept: str) -> None:
    body, _ = encoded([gauge("up", "Up", [({}, 1)])], accept)
    assert b"hitmesh_up 1.0\n" in body


def test_others_have_their_turn_between_the_pieces() -> None:
    pauses = []
    encoded(families(), "", lambda: pauses.append(1))
    assert len(pauses) == 3 + 1 + 2  # by the size of each family


def test_a_registry_is_the_processs_own_and_has_its_memory_and_files() -> None:
    own = registry(lambda: [gauge("up", "Up", [({}, 1)])])
    names = {family.name for family in own.collect()}
    assert {"hitmesh_up", "process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds"} <= names
    assert registry(list) is not own


def test_every_role_says_what_it_is_and_who_was_turned_away() -> None:
    figures = {
        SHUT_OUT: 1.0,
        "log_lost": 2.0,
        "turned_away.acks.unknown_key": 5.0,
        "turned_away_s.acks.unknown_key": 9.0,
    }
    lag = Histogram().snapshot()
    found = {
        sample.name: (sample.labels, sample.value)
        for family in common(dc="eu-west", role="collector", name="c-1", figures=figures, lag=lag, is_failing=True)
        for sample in family.samples
    }
    about, one = found["hitmesh_build_info"]
    assert (about["dc"], about["role"], about["name"], one) == ("eu-west", "collector", "c-1", 1)
    assert found["hitmesh_failing"] == ({}, 1)
    assert found["hitmesh_log_lost_lines_total"] == ({}, 2)
    assert found["hitmesh_turned_away_total"] == ({"link": "acks", "reason": "unknown_key"}, 5)
