from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.state.histogram import BOUNDS_S, Histogram
from hitmesh.state.recent import ENOUGH, SPAN_S, Recent


def filled(histogram: Histogram, took_s: float, times: int) -> None:
    for _ in range(times):
        histogram.observe(took_s)


def test_only_what_was_lately_counts_and_of_few_nothing_is_said() -> None:
    histogram = Histogram()
    recent = Recent(histogram)
    filled(histogram, 9.0, 1000)
    assert recent.p99_s(0.0) is None, "that was before it was asked"
    filled(histogram, 0.002, ENOUGH - 1)
    assert recent.p99_s(1.0) is None
    filled(histogram, 0.002, 100)
    found = recent.p99_s(2.0)
    assert found is not None
    assert 0.001 < found <= 0.0025
    filled(histogram, 0.2, 10)
    assert (recent.p99_s(3.0) or 0) > 0.1
    for second in range(4, 4 + int(SPAN_S) + 2):
        filled(histogram, 0.002, 100)
        recent.p99_s(float(second))
    assert (recent.p99_s(4.0 + SPAN_S + 3) or 1) <= 0.0025, "a peak is gone soon"


@given(st.lists(st.sampled_from(BOUNDS_S), min_size=ENOUGH, max_size=300))
def test_99_of_100_are_within_it_and_no_bucket_less_would_do(took: list[float]) -> None:
    histogram = Histogram()
    recent = Recent(histogram)
    recent.p99_s(0.0)
    for each in took:
        histogram.observe(each)
    found = recent.p99_s(1.0)
    assert found is not None
    bound = min(each for each in BOUNDS_S if each >= found - 1e-9)
    assert sum(each <= bound for each in took) >= 0.99 * len(took)
    lower = [each for each in BOUNDS_S if each < bound]
    assert not lower or sum(each <= lower[-1] for each in took) < 0.99 * len(took)
