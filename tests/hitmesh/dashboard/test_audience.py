"""Who listens: one thing to be sent for each, and all of it anew for who is behind."""

from __future__ import annotations

from hitmesh.dashboard.audience import Audience


class Stage:
    """An audience, of which `whole` says how often it was asked for."""

    def __init__(self, most: int = 10) -> None:
        self.woken = 0
        self.audience = Audience(lambda: b"whole", most)

    def wake(self) -> None:
        self.woken += 1


def test_whoever_comes_gets_the_whole_document_first_and_then_what_changes() -> None:
    stage = Stage()
    seat = stage.audience.sit(stage.wake)
    assert seat is not None
    stage.audience.tell(b"patch 1")  # before it has taken anything: it is in the whole document
    assert stage.audience.take(seat) == b"whole"
    assert stage.audience.take(seat) == b""
    stage.audience.tell(b"patch 2")
    assert stage.audience.take(seat) == b"patch 2"


def test_who_is_slow_gets_the_whole_document_instead_of_a_backlog() -> None:
    stage = Stage()
    seat = stage.audience.sit(stage.wake)
    assert seat is not None
    stage.audience.take(seat)
    for number in range(100):
        stage.audience.tell(b"patch %d" % number)
    assert stage.audience.take(seat) == b"whole"
    assert stage.audience.take(seat) == b""


def test_a_patch_behind_a_tick_that_was_not_taken_is_not_lost() -> None:
    stage = Stage()
    seat = stage.audience.sit(stage.wake)
    assert seat is not None
    stage.audience.take(seat)
    stage.audience.tick(b"tick 1")
    stage.audience.tell(b"patch")
    assert stage.audience.take(seat) == b"whole"


def test_a_tick_takes_nobodys_place() -> None:
    stage = Stage()
    seat = stage.audience.sit(stage.wake)
    assert seat is not None
    stage.audience.take(seat)
    stage.audience.tell(b"patch")
    stage.audience.tick(b"tick")
    assert stage.audience.take(seat) == b"patch"
    stage.audience.tick(b"tick")
    assert stage.audience.take(seat) == b"tick"
    assert stage.woken == 3


def test_as_many_may_listen_as_there_are_seats() -> None:
    stage = Stage(most=2)
    first, second = stage.audience.sit(stage.wake), stage.audience.sit(stage.wake)
    assert first is not None
    assert second is not None
    assert stage.audience.sit(stage.wake) is None
    stage.audience.leave(first)
    stage.audience.leave(first)
    assert len(stage.audience) == 1
    assert stage.audience.sit(stage.wake) is not None
