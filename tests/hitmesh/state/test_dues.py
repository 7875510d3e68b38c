"""What a process owes, and when it is late with it."""

from __future__ import annotations

from hitmesh.state.dues import HOPELESS_S, LATE_S, MAX_STATE_CHARS, Dues, Standstill, state_of, told


def test_what_comes_to_its_end_in_time_is_never_late() -> None:
    dues = Dues()
    dues.end(dues.begin("a put", 0.0))
    assert dues.late(LATE_S + 1) == ""


def test_what_is_late_is_told_in_words_that_dont_change_until_it_ends() -> None:
    dues = Dues()
    due = dues.begin("a put", 0.0)
    dues.begin("a claim", LATE_S)
    assert dues.late(LATE_S) == ""
    assert dues.late(LATE_S + 1) == dues.late(LATE_S + 9) == "a put has been under way for 15 s"
    assert dues.hopeless(HOPELESS_S) == ""
    assert dues.hopeless(HOPELESS_S + 1) == "a put has been under way for 120 s"
    dues.end(due)
    assert dues.late(LATE_S + 10) == ""


def test_who_moves_on_or_owes_nothing_any_more_doesnt_stand_still() -> None:
    standstill = Standstill()
    assert standstill.late({1: "a", 2: "a", 3: "a"}, 0.0) == []
    assert standstill.late({1: "a", 2: "b"}, LATE_S) == []
    assert standstill.late({1: "a", 2: "b", 3: "a"}, LATE_S + 1) == [1]
    assert standstill.late({2: "c"}, 2 * LATE_S + 1) == []


def test_a_state_says_why_and_fits_into_a_heartbeat() -> None:
    assert state_of("up", "") == "up"
    assert state_of("draining", "a put") == "draining", "it leaves all the same"
    assert told(state_of("up", "a put: late")) == ("failing", "a put: late")
    assert told("draining") == ("draining", "")
    assert len(state_of("up", "x" * 500)) == MAX_STATE_CHARS
