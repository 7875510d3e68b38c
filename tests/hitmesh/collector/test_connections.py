"""Which connection has to go, and when."""

from __future__ import annotations

from hitmesh.collector.connections import NEVER, Connections, Waiting


class Fake(Waiting):
    """A connection that notes whether it was ended."""

    def __init__(self, *, since: float = 0.0, deadline: float = 100.0, idle: bool = False) -> None:
        self.since, self.deadline, self.idle = since, deadline, idle
        self.ended = 0

    def expire(self, status: int) -> None:
        self.ended, self.deadline = status, NEVER


def ended(most: int, *fakes: Fake) -> list[int]:
    """Which of them have ended once all were opened."""
    connections = Connections(most)
    for fake in fakes:
        connections.opened(fake)
    return [number for number, fake in enumerate(fakes) if fake.ended]


def test_a_deadline_that_passed_ends_a_connection() -> None:
    late, early, working = Fake(deadline=9.9), Fake(deadline=10.1), Fake(deadline=NEVER)
    connections = Connections(10)
    for fake in (late, early, working):
        connections.opened(fake)
    connections.sweep(10.0)
    assert [fake.ended for fake in (late, early, working)] == [408, 0, 0]


def test_nobody_goes_while_there_is_room() -> None:
    assert ended(4, Fake(), Fake(), Fake(idle=True)) == []


def test_when_all_places_are_taken_who_keeps_us_waiting_for_the_longest_goes() -> None:
    assert ended(3, Fake(since=2.0), Fake(since=1.0), Fake(since=3.0)) == [1]


def test_an_idle_one_stays_while_more_are_within_requests() -> None:
    assert ended(3, Fake(since=1.0, idle=True), Fake(since=2.0), Fake(since=3.0)) == [1]


def test_one_that_has_just_come_stays_while_more_are_idle() -> None:
    assert ended(3, Fake(since=1.0, idle=True), Fake(since=2.0, idle=True), Fake(since=0.5)) == [0]


def test_a_request_that_is_being_answered_is_never_cut() -> None:
    assert ended(3, Fake(deadline=NEVER), Fake(deadline=NEVER), Fake(since=5.0)) == [2]
    assert ended(2, Fake(deadline=NEVER), Fake(deadline=NEVER)) == []


def test_of_many_places_some_are_made_free_at_once() -> None:
    assert ended(300, *(Fake(since=number) for number in range(300))) == [0, 1, 2]


def test_one_that_is_full_without_a_newcomer_makes_room_too() -> None:
    fakes = [Fake(deadline=NEVER) for _ in range(3)]
    connections = Connections(3)
    for fake in fakes:
        connections.opened(fake)
    for fake in fakes:
        fake.deadline = 100.0
    connections.sweep(10.0)
    assert sorted(fake.ended for fake in fakes) == [0, 0, 503]


def test_a_closed_one_is_forgotten() -> None:
    connections = Connections(2)
    fake = Fake()
    connections.opened(fake)
    connections.closed(fake)
    assert len(connections) == 0
