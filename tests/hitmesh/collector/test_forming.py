"""A batch that hits are added to, and who is told what became of it."""

from __future__ import annotations

import gevent
import pytest

from hitmesh.collector.collector import RELEASES, Forming
from hitmesh.errors import SpoolRefused


def test_whoever_waits_and_whoever_is_called_learn_the_same() -> None:
    forming = Forming(0.0)
    error = SpoolRefused("no")
    told: list[object] = []
    forming.when_released(lambda: told.append(forming.outcome()))
    waiting = gevent.spawn(forming.outcome)
    gevent.sleep(0)
    forming.release(error)
    assert told == [error]
    assert waiting.get() is error
    with pytest.raises(SpoolRefused, match="no"):
        forming.wait()


def test_one_that_fails_keeps_no_other_from_being_called(caplog: pytest.LogCaptureFixture) -> None:
    forming = Forming(0.0)
    told: list[int] = []
    forming.when_released(lambda: told.append(1))
    forming.when_released(lambda: told.append(1 // 0))
    forming.when_released(lambda: told.append(2))
    forming.release()
    assert told == [1, 2]
    assert "ZeroDivisionError" in caplog.text


def test_of_many_who_are_called_others_needn_t_wait_for_all() -> None:
    forming = Forming(0.0)
    told: list[int] = []
    for number in range(3 * RELEASES):
        forming.when_released(lambda number=number: told.append(number))  # type: ignore[misc]
    seen = []
    other = gevent.spawn(lambda: seen.append(len(told)))
    forming.release()
    other.join()
    assert seen == [RELEASES]
    assert told == list(range(3 * RELEASES))


def test_an_answer_is_shared_only_while_those_are_called_who_were_released_together() -> None:
    forming = Forming(0.0)
    assert not forming.is_answered("s/a")

    def answer() -> None:
        assert forming.answers is not None
        found.append(forming.is_answered("s/a"))
        forming.answers["s/a"] = b"1"

    found: list[bool] = []
    forming.when_released(answer)
    forming.when_released(answer)
    forming.release()
    assert found == [False, True]
    assert forming.answers is None
    assert not forming.is_answered("s/a")
