from __future__ import annotations

from typing import Any

import pytest

from hitmesh.deploy import lock
from hitmesh.deploy.lock import Lost
from hitmesh.deploy.memory import TAKEN_OVER
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


@pytest.mark.parametrize(
    "why", ["a: ben is at work: deploy", f"a: {TAKEN_OVER}: the lock was broken"], ids=["an older memory", "this one"]
)
def test_a_lock_that_somebody_took_is_lost_long_before_it_would_be_free_and_stays_lost(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(lock, "FRESH_S", 0.0)
    with lock.held(memory, "anna", "deploy", 3600.0) as may_go_on:
        may_go_on()
        memory.refuses = why
        with pytest.raises(Lost, match=why.removeprefix("a: ")):
            may_go_on()
        memory.refuses = ""
        asked = len(memory.asked)
        with pytest.raises(Lost, match=TAKEN_OVER):
            may_go_on.ask()
        assert len(memory.asked) == asked


def test_a_lock_that_cannot_be_renewed_is_not_said_to_be_somebody_elses(memory: Memory) -> None:
    with lock.held(memory, "anna", "deploy", 3600.0) as may_go_on:
        memory.refuses = "no host of dc answers"
        may_go_on.ask()
        memory.refuses = ""


def test_it_is_asked_again_once_what_is_known_is_no_longer_fresh(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock.held(memory, "anna", "deploy", 3600.0) as may_go_on:
        may_go_on()
        assert len(memory.asked) == 1
        monkeypatch.setattr(lock, "FRESH_S", 0.0)
        may_go_on()
        assert len(memory.asked) == 2
