"""The verdict on a backend: when it goes down, when it comes up, and how often it is looked at."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.members.health import DOUBT_SHARE, JITTER, Health

EVENTS = st.lists(st.sampled_from(["passed", "failed", "unreachable"]), max_size=40)


def happen(health: Health, *events: str) -> list[bool]:
    return [getattr(health, event)(event) for event in events]


@given(st.integers(1, 5), st.integers(1, 5), EVENTS)
def test_it_follows_the_rules(rise: int, fall: int, events: list[str]) -> None:
    """Against the rules as they are written: by looking back at all that happened."""
    health = Health(rise, fall)
    up, since = True, 0  # the verdict, and the first event after it was reached
    suspended = False
    for number, event in enumerate(events):
        news = happen(health, event)[0]
        recent = events[since : number + 1]
        was = up
        if up and event == "unreachable":
            up, suspended = False, True
        elif up:
            up = recent[-fall:] != ["failed"] * fall
        elif event == "passed":
            if suspended and "failed" not in recent:
                up = True
            else:
                after = [each for each in recent if each != "unreachable"]
                up = after[-rise:] == ["passed"] * rise
        if up != was:
            since = number + 1
            suspended = suspended and not up
            assert news
        assert health.up == up


def test_a_new_one_is_up_at_once() -> None:
    assert Health(2, 3).up


def test_fall_failures_in_a_row_take_it_down_and_fewer_do_not() -> None:
    health = Health(2, 3)
    happen(health, "failed", "failed", "passed", "failed", "failed")
    assert health.up
    assert happen(health, "failed") == [True]
    assert not health.up


def test_rise_passes_in_a_row_bring_it_up_and_fewer_do_not() -> None:
    health = Health(2, 1)
    happen(health, "failed", "passed", "failed", "passed")
    assert not health.up
    assert happen(health, "passed") == [True]
    assert health.up


def test_after_it_came_up_it_takes_all_failures_again() -> None:
    health = Health(1, 3)
    happen(health, "failed", "failed", "failed", "passed", "failed", "failed")
    assert health.up
    happen(health, "failed")
    assert not health.up


def test_one_refused_connection_suspends_it_until_a_check_passes() -> None:
    health = Health(3, 3)
    assert happen(health, "unreachable") == [True]
    assert not health.up
    assert happen(health, "passed") == [True]
    assert health.up


def test_a_failed_check_after_a_refused_connection_makes_it_down() -> None:
    health = Health(2, 3)
    happen(health, "unreachable", "failed", "passed")
    assert not health.up
    happen(health, "passed")
    assert health.up


def test_requests_that_were_on_their_way_do_not_delay_its_return() -> None:
    health = Health(2, 3)
    happen(health, "unreachable", "failed", "passed")
    assert happen(health, "unreachable", "unreachable", "passed") == [False, False, True]
    assert health.up


def test_the_first_failure_asks_for_a_check_and_the_next_ones_do_not() -> None:
    health = Health(2, 5)
    assert happen(health, "failed", "failed", "failed", "passed", "failed") == [True, False, False, False, True]


def test_the_reason_is_the_last_failure_until_a_check_passes() -> None:
    health = Health(1, 2)
    reasons = [health.reason]
    for happens, text in (
        (health.failed, "/health answers 503"),
        (health.unreachable, "Connection refused"),
        (health.failed, "no answer in time"),
        (health.passed, "/health answers 200"),
    ):
        happens(text)
        reasons.append(health.reason)
    assert reasons == ["", "/health answers 503", "Connection refused", "no answer in time", ""]


# --- pauses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "share"),
    [
        ([], DOUBT_SHARE),  # nobody knows yet
        (["passed"], 1.0),
        (["passed", "failed"], DOUBT_SHARE),
        (["passed", "failed", "passed"], 1.0),
        (["passed", "unreachable"], DOUBT_SHARE),
        (["failed"] * 3, DOUBT_SHARE),
        (["failed"] * 3 + ["passed"], DOUBT_SHARE),
        (["failed"] * 3 + ["passed"] * 2, 1.0),
    ],
)
def test_it_is_looked_at_more_often_while_in_doubt(events: list[str], share: float) -> None:
    health = Health(2, 3)
    happen(health, *events)
    assert health.pause_s(2.0, 0.5) == pytest.approx(2.0 * share)


@given(st.floats(0.01, 100), st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=10), EVENTS)
def test_pauses_are_spread_and_never_nothing(interval_s: float, draws: list[float], events: list[str]) -> None:
    health = Health(2, 3)
    happen(health, *events)
    pauses = [health.pause_s(interval_s, draw) for draw in sorted(draws)]
    assert all(earlier <= later for earlier, later in pairwise(pauses))
    low, high = (1 - JITTER) * interval_s * DOUBT_SHARE, (1 + JITTER) * interval_s
    assert all(low <= pause <= high for pause in pauses)
    assert pauses[0] > 0
