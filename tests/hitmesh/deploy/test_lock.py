from __future__ import annotations

from typing import Any

import pytest

from hitmesh.deploy import lock
from hitmesh.errors import CommandError
from tests.services import wait_for

FOR_S = 0.4


class Memory:
    """A memory of deploys that says what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuses = ""

    def __call__(self, command: str, _given: object) -> Any:
        self.asked.append(command)
        if self.refuses:
            raise CommandError(self.refuses)


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_a_lock_is_renewed_while_it_is_held_and_given_back(memory: Memory) -> None:
    with lock.held(memory, "anna", "deploy", FOR_S) as may_go_on:
        wait_for(lambda: memory.asked.count("take") > lock.RENEWALS + 1, what="renewals for longer than it lasts")
        may_go_on()
    assert memory.asked[-1] == "free"


@pytest.mark.parametrize("why", ["ben is at work: deploy", "no host of dc answers"])
def test_who_holds_it_no_more_may_not_go_on(memory: Memory, why: str) -> None:
    def is_over() -> bool:
        try:
            may_go_on()
        except CommandError as error:
            return why in error.message
        return False

    with lock.held(memory, "anna", "deploy", FOR_S) as may_go_on:
        memory.refuses = why
        wait_for(is_over, what="the end of the lock")


def test_a_lock_that_somebody_took_is_lost_long_before_it_would_be_free(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RENEWALS", 36_000)  # each 0.1 s
    with lock.held(memory, "anna", "deploy", 3600.0) as may_go_on:
        memory.refuses = "ben is at work: deploy"
        wait_for(lambda: memory.asked.count("take") > 2, what="a renewal that is refused")
        with pytest.raises(CommandError, match="ben is at work"):
            may_go_on()
