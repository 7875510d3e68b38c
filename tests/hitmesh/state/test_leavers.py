"""Who has said that it stops."""

from __future__ import annotations

from hitmesh.state.leavers import MAX_LEAVERS, Leavers
from hitmesh.state.standing import DRAINED
from tests.hitmesh.mesh.instances import instance, with_state


def test_a_worker_that_is_shown_as_stopping_stops_and_no_other() -> None:
    leavers = Leavers()
    live = [with_state(instance("c-1", "a"), "draining"), instance("c-2", "b")]
    assert leavers.has_said_so("a", live)
    assert not leavers.has_said_so("b", live)
    assert not leavers.has_said_so("nobody", live)


def test_a_worker_has_said_so_though_the_next_one_has_its_name_already() -> None:
    leavers = Leavers()
    leavers.look([with_state(instance("c-1", "old"), "draining")])
    assert leavers.has_said_so("old", [instance("c-1", "new")])
    assert not leavers.has_said_so("new", [instance("c-1", "new")])


def test_a_worker_that_goes_on_doesn_t_stop_whoever_has_said_so() -> None:
    leavers = Leavers()
    leavers.look([with_state(instance("c-1", "a"), "draining")])
    assert not leavers.has_said_so("a", [instance("c-1", "a")])


def test_the_memory_is_bounded() -> None:
    leavers = Leavers()
    for number in range(MAX_LEAVERS + 1):
        leavers.look([with_state(instance("c", f"id-{number}"), "draining")])
    assert not leavers.has_said_so("id-0", [])
    assert leavers.has_said_so("id-1", [])


def test_one_that_an_operator_has_drained_does_not_stop() -> None:
    leavers, drained = Leavers(), with_state(instance("collector-1"), DRAINED)
    leavers.look([drained])
    assert not leavers.has_said_so(drained.id, [drained])
    assert not leavers.has_said_so(drained.id, [])
