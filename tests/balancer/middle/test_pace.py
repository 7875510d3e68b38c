"""How slow a peer may be, as arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from balancer.middle.pace import BEHIND_S, behind_at, paced

SPAN_S = 10.0
RATE = 500


def ends_at(pieces: list[tuple[float, int]], rate: int = RATE) -> float:
    """When patience ends with (seconds since the last one, bytes)."""
    now, due = 0.0, SPAN_S
    for pause_s, size in pieces:
        now += pause_s
        if due <= now:
            break
        due = paced(due, size, now, SPAN_S, rate)
    return due


def test_nothing_ends_it_after_the_span() -> None:
    assert ends_at([]) == SPAN_S


def test_a_trickle_ends_it_hardly_later() -> None:
    assert ends_at([(3.0, 1)] * 16_000) < SPAN_S + 0.1


def test_at_the_rate_it_goes_on() -> None:
    assert ends_at([(9.0, 9 * RATE)] * 1000) >= 9000 + SPAN_S - 0.01


def test_who_was_fast_may_pause_for_the_span_and_no_longer() -> None:
    assert ends_at([(0.1, 10**9)]) == 0.1 + SPAN_S


def test_without_a_rate_any_byte_will_do() -> None:
    assert ends_at([(9.0, 1)] * 100, rate=0) == 900 + SPAN_S


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 10**6))))
def test_patience_never_shrinks_and_never_reaches_further_than_the_span(pieces: list[tuple[float, int]]) -> None:
    now, due = 0.0, SPAN_S
    for pause_s, size in pieces:
        now += pause_s
        if due <= now:
            return
        later = paced(due, size, now, SPAN_S, RATE)
        assert due <= later <= now + SPAN_S
        due = later


def test_one_is_behind_a_second_after_it_stops_and_never_after_patience_has_ended() -> None:
    assert behind_at(SPAN_S, SPAN_S) == BEHIND_S
    assert behind_at(SPAN_S + 5, SPAN_S) == 5 + BEHIND_S
    assert behind_at(0.5, 0.5) == 0.5
