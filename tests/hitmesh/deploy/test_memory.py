from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.deploy.memory import MAX_TRAIL, Memory, before, was_rolled_back
from hitmesh.errors import CommandError
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.settings.trail import Entry

ANNA, BEN = "anna@desk", "ben@desk"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    store = SqliteSettings(tmp_path / "settings.db")
    yield Memory(store, "us-west")
    store.close()


def test_two_people_at_once_the_second_is_told_who_is_at_work(memory: Memory) -> None:
    memory.take("a", ANNA, "deploy 0.2.0", 120, now=1000.0)
    with pytest.raises(CommandError, match=r"anna@desk is at work: deploy 0\.2\.0, for 30 s; free in 90 s"):
        memory.take("b", BEN, "deploy 0.3.0", 120, now=1030.0)
    assert memory.lock() is not None


def test_the_lock_of_a_deploy_that_died_is_free_after_a_while_and_a_renewed_one_is_not(memory: Memory) -> None:
    memory.take("a", ANNA, "deploy", 120, now=1000.0)
    memory.take("a", ANNA, "deploy", 120, now=1100.0)
    with pytest.raises(CommandError, match="for 130 s"):
        memory.take("b", BEN, "deploy", 120, now=1130.0)
    assert memory.take("b", BEN, "deploy", 120, now=1221.0).who == BEN


def test_a_lock_is_given_back_by_its_holder_alone_unless_it_is_broken(memory: Memory) -> None:
    memory.take("a", ANNA, "deploy", 120, now=1000.0)
    assert memory.free("b", BEN) is None
    broken = memory.free("", BEN)
    assert broken is not None
    assert broken.who == ANNA
    memory.take("b", BEN, "deploy", 120, now=1000.0)


def test_a_lock_that_was_broken_or_taken_is_not_renewed_and_stays_lost_when_it_is_free_again(memory: Memory) -> None:
    memory.take("a", ANNA, "deploy", 120, now=1000.0)
    memory.take("a", ANNA, "deploy", 120, now=1130.0, again=True)  # its time was over, and nobody wanted it
    memory.free("", BEN)
    with pytest.raises(CommandError, match="somebody else has taken over: the lock was broken"):
        memory.take("a", ANNA, "deploy", 120, now=1131.0, again=True)
    assert memory.lock() is None
    memory.take("b", BEN, "deploy 0.3.0", 120, now=1132.0)
    with pytest.raises(CommandError, match="somebody else has taken over: ben@desk is at work: deploy"):
        memory.take("a", ANNA, "deploy", 120, now=1133.0, again=True)
    memory.free("b", BEN)
    with pytest.raises(CommandError, match="somebody else has taken over"):
        memory.take("a", ANNA, "deploy", 120, now=1134.0, again=True)


def entry(result: str, release: str = "r1", what: str = "deploy") -> Entry:
    return Entry(at=1.0, who=ANNA, what=what, result=result, release=release)


def test_the_trail_keeps_the_last_ones_and_stays_below_what_a_setting_may_hold(memory: Memory) -> None:
    for number in range(MAX_TRAIL + 3):
        memory.add(entry(f"{number} " + "x" * 1000, what="y" * 1000, release="0.2.0-0123456789ab"))
    trail = memory.trail()
    assert [each.result.split()[0] for each in trail][:1] == ["3"]
    assert len(trail) == MAX_TRAIL


def test_a_release_that_was_rolled_back_is_known_until_it_was_deployed_after_all() -> None:
    assert was_rolled_back([entry("rolled back: it dies")], "r1") is not None
    assert was_rolled_back([entry("rolled back: it dies"), entry("done")], "r1") is None
    assert was_rolled_back([entry("rolled back: it dies")], "r2") is None


def test_a_rollback_goes_to_the_last_other_release_that_was_deployed_whole() -> None:
    trail = [entry("done", "r1"), entry("rolled back: no", "r2"), entry("done", "r3")]
    assert before(trail, "r3") == "r1"
    assert before(trail[:1], "r1") == ""
