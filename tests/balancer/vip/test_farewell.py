from __future__ import annotations

import pytest

from balancer.vip.farewell import FINISH_S, MOVE_S, SHUT_S, TELL_S, Farewell, Step


def steps(*, finished_at: float = 100.0, moved_at: float = 100.0, drain_s: float = 8.0) -> dict[Step, float]:
    """When each is taken."""
    farewell, now, taken = Farewell(drain_s, 0.0), 0.0, {}
    while not farewell.has_ended:
        step = farewell.step(now, has_finished=now >= finished_at, is_here=now < moved_at)
        if step is not None:
            taken[step] = now
        now = round(now + 0.01, 2)
    return taken


def test_the_steps_are_taken_in_order_and_each_once() -> None:
    assert list(steps()) == list(Step)


def test_who_is_slow_is_not_waited_for_and_nor_is_a_host_that_does_not_come() -> None:
    taken = steps()
    assert taken[Step.GIVE_UP] - taken[Step.SHUT] == pytest.approx(SHUT_S + FINISH_S)
    assert taken[Step.CLOSE] - taken[Step.GIVE_UP] == pytest.approx(MOVE_S)


def test_nothing_is_waited_for_that_has_happened() -> None:
    taken = steps(finished_at=1.3, moved_at=1.4)
    assert taken[Step.GIVE_UP] == pytest.approx(1.3)
    assert taken[Step.CLOSE] == pytest.approx(1.4)


def test_an_address_that_moves_early_ends_no_worker_early() -> None:
    taken = steps(moved_at=0.0)
    assert taken[Step.DISMISS] == pytest.approx(TELL_S + SHUT_S)


def test_a_client_is_told_for_at_most_half_the_time_that_there_is() -> None:
    assert steps(drain_s=1.0)[Step.SHUT] == pytest.approx(0.5)
