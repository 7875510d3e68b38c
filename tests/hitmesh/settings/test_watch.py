"""What a watch makes of what its source says."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.settings import Setting, watch
from hitmesh.settings.watch import Watch

A = {"a": Setting("a", b"1", 1, "anna", 1.0)}
B = {"a": Setting("a", b"2", 2, "anna", 2.0)}
AWAY = StoreUnknown("500: No cluster leader", op="watch settings", endpoint="consul://x")


class Script:
    """A source that says one thing after the other, and then stops its watch."""

    def __init__(self, *says: Mapping[str, Setting] | StoreUnknown | None) -> None:
        self.says = list(says)
        self.closed = 0
        self.troubles: list[str] = []  # the watch's at each look
        self.watch = Watch(self, "consul://x")

    def look(self) -> Mapping[str, Setting] | None:
        self.troubles.append(self.watch.trouble)
        if not self.says:
            self.watch.stop()
            return None
        said = self.says.pop(0)
        if isinstance(said, StoreUnknown):
            raise said
        return said

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between tries; nobody waits really."""
    waited: list[float] = []
    monkeypatch.setattr(watch, "pause", waited.append)
    return waited


def test_what_there_is_comes_first_and_then_each_change() -> None:
    assert list(Script({}, A, B, {}).watch) == [{}, A, B, {}]


def test_nothing_comes_twice_in_a_row() -> None:
    assert list(Script(A, None, dict(A), None, B, B).watch) == [A, B]


def test_an_outage_is_never_handed_out(pauses: list[float]) -> None:
    assert list(Script(A, AWAY, AWAY, dict(A), AWAY, B).watch) == [A, B]


def test_an_outage_from_the_beginning_hands_out_nothing_until_it_ends(pauses: list[float]) -> None:
    assert list(Script(AWAY, AWAY, A).watch) == [A]


def test_an_outage_is_told_once_and_so_is_its_end(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(Script(A, *[AWAY] * 100, None, *[AWAY] * 100, B).watch)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    first = caplog.records[0].getMessage()
    assert first == (
        "settings: watch settings at consul://x: 500: No cluster leader; the last known ones stay in force"
    )


def test_an_outage_from_the_beginning_says_that_nothing_is_known(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    list(Script(AWAY, A).watch)
    assert caplog.records[0].getMessage().endswith("; none are known yet")


def test_tries_come_less_often_up_to_a_bound_and_anew_after_an_answer(pauses: list[float]) -> None:
    list(Script(*[AWAY] * 5, None, AWAY).watch)
    assert pauses == [0.1, 0.2, 0.4, 0.5, 0.5, 0.1]


def test_trouble_is_why_there_is_no_answer_until_there_is_one(pauses: list[float]) -> None:
    script = Script(A, AWAY, AWAY, None, AWAY, B)
    list(script.watch)
    assert script.troubles == ["", "", str(AWAY), str(AWAY), "", str(AWAY), ""]


def test_an_error_that_nobody_expected_is_raised() -> None:
    script = Script()
    script.look = lambda: 1 // 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        next(script.watch)


def test_the_source_is_closed_at_the_end_and_when_the_watch_is_left() -> None:
    ended = Script(A)
    list(ended.watch)
    assert ended.closed == 1
    left = Script(A, B)
    with left.watch as one:
        next(one)
    assert left.closed == 1
