"""How long things took, in buckets."""

from __future__ import annotations

import pytest

from hitmesh.state.histogram import BOUNDS_S, LABELS, Histogram


@pytest.mark.parametrize(
    ("took_s", "bucket"), [(0.0, "0.0005"), (0.0005, "0.0005"), (0.00051, "0.001"), (10.0, "10.0"), (10.1, "+Inf")]
)
def test_a_time_is_in_the_bucket_whose_bound_it_does_not_exceed(took_s: float, bucket: str) -> None:
    histogram = Histogram()
    histogram.observe(took_s)
    assert [label for label in LABELS if histogram.snapshot()[label]] == [bucket]


def test_a_snapshot_has_how_many_and_how_long_in_all() -> None:
    histogram = Histogram()
    for took_s in (0.002, 0.002, 3.0):
        histogram.observe(took_s)
    snapshot = histogram.snapshot()
    assert sum(snapshot[label] for label in LABELS) == 3
    assert snapshot["sum"] == 3.004


def test_bounds_rise_and_each_has_its_own_label() -> None:
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))
    assert [float(label) for label in LABELS] == [*BOUNDS_S, float("inf")]
