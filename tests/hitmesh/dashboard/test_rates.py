"""Rates and growth, from counters that come with heartbeats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.dashboard.growth import Growth
from hitmesh.dashboard.pacing import LEAST_S, MOST_S, SHARE, STEP_S, TELL_S, Telling, pause_s
from hitmesh.dashboard.rates import WINDOW_S, Rates


def test_a_rate_is_what_was_counted_between_heartbeats() -> None:
    rates = Rates()
    for second in range(8):
        rates.tell("a", 100.0 * second, float(second))
        rates.tell("b", 10.0 * second, float(second))
    assert round(rates.of("a", 7.0)) == 100
    assert round(rates.total(7.0)) == 110
    rates.keep({"b"})
    assert round(rates.total(7.0)) == 10


def test_one_heartbeat_is_no_rate_and_an_old_one_none_any_more() -> None:
    rates = Rates()
    rates.tell("a", 1e9, 1.0)
    assert rates.total(1.0) == 0.0
    rates.tell("a", 1e9 + 5, 2.0)
    assert rates.total(2.0) == 5.0
    assert rates.total(2.1 + WINDOW_S) == 0.0


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 1000), st.sampled_from([0.0, 0.01, 0.5, 1.0])), max_size=60
    )
)
def test_restarts_make_no_negative_and_no_huge_rates(told: list[tuple[str, int, float]]) -> None:
    """A counter grows by 1,000 in a half a second at most; a restart is a smaller one, or another id."""
    rates, now, counts = Rates(), 0.0, dict.fromkeys("abc", 0)
    for id, more, after_s in told:
        now += after_s
        counts[id] = more if more % 7 == 0 else counts[id] + int(more * after_s)
        rates.tell(id, counts[id], now)
        assert 0.0 <= rates.of(id, now) <= 6_000


def test_a_counter_has_grown_for_a_while() -> None:
    growth = Growth({"log_lost": 60.0})
    growth.tell("log_lost", "c-1", "a", 7.0, 0.0)
    growth.tell("log_lost", "c-2", "b", 0.0, 0.0)
    assert growth.grown(0.0) == {}, "what was there at first isn't growth"
    growth.tell("log_lost", "c-1", "a", 8.0, 10.0)
    growth.tell("log_lost", "c-2", "x", 0.0, 10.0)
    assert growth.grown(11.0) == {"log_lost": ["c-1"]}
    growth.tell("log_lost", "c-2", "y", 1.0, 12.0)
    assert growth.grown(71.0) == {"log_lost": ["c-2"]}
    assert growth.grown(80.0) == {}


def test_looking_takes_a_twentieth_of_the_time() -> None:
    assert pause_s(0.001) == LEAST_S
    assert pause_s(1.0) == SHARE * 1.0
    assert pause_s(1e6) == MOST_S


def test_news_go_out_each_second_and_at_once_when_other_problems_are_there() -> None:
    telling, now = Telling(100.0), 100.0
    assert telling.ticks(now)
    assert telling.is_due([], now)
    assert not telling.ticks(now + STEP_S)
    assert not telling.is_due([], now + STEP_S)
    now += TELL_S
    assert telling.is_due([], now)
    assert telling.is_due(["instance a"], now + STEP_S)  # a new one
    assert not telling.is_due(["instance a"], now + STEP_S)
    assert telling.is_due(["instance b"], now + STEP_S)  # another one
    assert telling.is_due([], now + STEP_S)  # mended
    assert telling.ticks(now + TELL_S), "what is told between doesn't put a second off"
