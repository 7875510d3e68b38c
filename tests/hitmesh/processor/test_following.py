"""Questions to other datacenters' owners: when they are asked, and which answers count."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hitmesh.processor.following import MAX_AGE_S, NEW_S, PATIENCE_S, Following
from hitmesh.protocol.messages import MAX_LOAD, Chunk, Origin, OriginRow, Position, Wanted
from tests.hitmesh.processor.datacenters import HELD_S, WALL_S, World

AT = {"us": "tcp://us"}


@pytest.fixture
def world() -> World:
    world = World("eu", "us")
    world.run(3)
    return world


@pytest.fixture
def following() -> Following:
    return Following(dc="eu", held_s=HELD_S, first=1)


def ask(following: Following, world: World, now_s: float, at: dict[str, str] = AT) -> list[tuple[str, Wanted]]:
    return list(following.ask(world["eu"].partition, {"us"}, at, now_s))


def no_news(number: int, *, held_ms: int = 0) -> Chunk:
    return Chunk(0, "us", number, held_ms, 0, True, None, (), {})


def news(number: int, commit: int, *, whole: bool = True, ledger: str = "l") -> Chunk:
    state = Origin(Position(ledger, 1, commit), commit, {}, WALL_S)
    return Chunk(0, "us", number, 0, 0, whole, state, (OriginRow("s/a", commit, commit),), {})


def age_s(following: Following, world: World, now_s: float) -> float:
    return following.age_s(world["eu"].partition, "us", now_s, WALL_S + now_s)


def test_one_question_is_under_way_until_it_is_given_up(world: World, following: Following) -> None:
    ((to, first),) = ask(following, world, 1.0)
    assert (to, first.origin, first.have) == ("tcp://us", "us", None)
    assert ask(following, world, 1.0 + HELD_S + PATIENCE_S - 0.1) == []
    ((_, second),) = ask(following, world, 1.0 + HELD_S + PATIENCE_S)
    assert second.number > first.number


def test_another_owner_is_asked_at_once(world: World, following: Following) -> None:
    ask(following, world, 1.0)
    ((to, _),) = ask(following, world, 1.1, {"us": "tcp://other"})
    assert to == "tcp://other"


def test_nothing_is_asked_while_what_came_waits_for_its_commit(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 1.0)
    assert following.answered(world["eu"].partition, "us", news(wanted.number, 3), 1.1)
    assert ask(following, world, 1.2) == []
    world["eu"].steps()
    ((_, wanted),) = ask(following, world, 1.3)
    assert wanted.have == Position("l", 1, 3)


def test_an_answer_makes_what_is_here_as_young_as_when_it_was_held_last(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 10.0)
    assert not following.answered(world["eu"].partition, "us", no_news(wanted.number, held_ms=500), 10.7)
    assert age_s(following, world, 11.0) == pytest.approx(0.5)


def test_an_answer_to_a_question_that_was_given_up_makes_nothing_younger(world: World, following: Following) -> None:
    ((_, first),) = ask(following, world, 10.0)
    ask(following, world, 20.0)
    assert not following.answered(world["eu"].partition, "us", no_news(first.number), 20.1)
    assert age_s(following, world, 20.1) > 10


def test_a_part_of_what_is_missing_makes_nothing_younger(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 10.0)
    assert following.answered(world["eu"].partition, "us", news(wanted.number, 3, whole=False), 30.0)
    world["eu"].steps()
    following.committed(world["eu"].partition)
    assert age_s(following, world, 30.0) >= 20


def test_an_answer_that_is_refused_is_not_asked_for_again_at_once(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 1.0)
    following.answered(world["eu"].partition, "us", news(wanted.number, 3), 1.0)
    world["eu"].steps()
    ((_, wanted),) = ask(following, world, 2.0)
    assert not following.answered(world["eu"].partition, "us", news(wanted.number, 9, ledger="other"), 2.0)
    assert ask(following, world, 2.1) == []
    assert world["eu"].counters.faults


def test_a_partition_that_was_just_taken_over_is_not_judged_by_what_its_store_says(
    world: World, following: Following
) -> None:
    ask(following, world, 1.0)
    one = world["eu"].partition
    assert following.worst_ages([one], {"us"}, 1.0 + NEW_S - 0.1, WALL_S) == {}
    assert following.worst_ages([one], {"us"}, 1.0 + NEW_S, WALL_S)["us"] >= NEW_S


def test_a_partition_that_was_given_up_is_forgotten(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 1.0)
    following.forget(0)
    assert not following.answered(world["eu"].partition, "us", news(wanted.number, 3), 1.1)
    assert len(ask(following, world, 1.2)) == 1


def test_a_datacenter_that_can_be_asked_is_asked_itself_and_another_of_whoever_has_more(
    world: World, following: Following
) -> None:
    known = {"ap": Position("l", 1, 9), "us": Position("l", 1, 9), "eu": Position("l", 1, 9)}
    one, at = world["eu"].partition, {"us": "tcp://us", "xx": "tcp://xx"}
    for _, wanted in list(following.ask(one, {"us", "xx"}, at, 1.0)):
        chunk = Chunk(0, wanted.origin, wanted.number, 0, 0, True, None, (), known if wanted.origin == "xx" else {})
        following.answered(one, wanted.origin, chunk, 1.0)
    asked = [(to, wanted.origin) for to, wanted in following.ask(one, {"us", "xx"}, at, 1.1)]
    assert sorted(asked) == [("tcp://us", "us"), ("tcp://xx", "ap"), ("tcp://xx", "xx")]
    asked = [(to, wanted.origin) for to, wanted in following.ask(one, {"us", "xx", "ap"}, {"ap": "tcp://ap"}, 1.1)]
    assert asked == [("tcp://ap", "ap")]


@pytest.mark.parametrize(
    "chunk",
    [
        news(1, 2**63 - 1),
        replace(news(1, 3), rows=(OriginRow("a\nb", 1, 1),)),
        replace(news(1, 3), rows=(OriginRow("s/a", 1, 9),)),
        replace(news(1, 3), rows=(OriginRow("s/a", 2**63 - 1, 1),)),
    ],
)
def test_rows_that_can_t_be_are_refused_with_their_sender_and_make_nothing_younger(
    world: World, following: Following, chunk: Chunk
) -> None:
    ((_, wanted),) = ask(following, world, 1.0)
    before_s, refused = age_s(following, world, 9.0), world["eu"].counters.refused
    assert not following.answered(world["eu"].partition, "us", replace(chunk, number=wanted.number), 1.5)
    assert world["eu"].counters.refused == refused + 1
    assert "'us'" in world["eu"].counters.refusal
    following.committed(world["eu"].partition)
    assert age_s(following, world, 9.0) == before_s


def test_an_answer_wasn_t_held_for_longer_than_its_question_was_under_way(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 1.0)
    following.answered(world["eu"].partition, "us", no_news(wanted.number, held_ms=2**63 - 1), 1.5)
    assert age_s(following, world, 9.0) == 9.0 - 1.5


def test_an_age_that_can_t_be_is_no_load_that_can_t_be(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 1.0)
    chunk = replace(no_news(wanted.number), age_ms=2**63 - 1)
    following.answered(world["eu"].partition, "us", chunk, 1.5)
    assert MAX_AGE_S <= age_s(following, world, 9.0) < MAX_LOAD


def test_what_nobody_can_have_isn_t_asked_of_who_says_that_he_has_it(world: World, following: Following) -> None:
    ((_, wanted),) = ask(following, world, 1.0)
    chunk = replace(no_news(wanted.number), known={"ap": Position("l", 1, 2**63 - 1)})
    following.answered(world["eu"].partition, "us", chunk, 1.1)
    assert {one.origin for _, one in ask(following, world, 1.2)} == {"us"}


def test_an_answer_to_an_attempt_before_is_not_taken_for_this_one(world: World, following: Following) -> None:
    eu = world["eu"]
    world.cut.add(frozenset(("eu", "us")))
    eu.wipe()
    before = {wanted.origin: wanted.number for _, wanted in ask(following, world, 1.0)}
    eu.wipe()  # and a new attempt under way before anybody has seen that the first one ended
    now = {wanted.origin: wanted.number for _, wanted in ask(following, world, 1.1)}
    assert before.keys() == now.keys() == {"eu", "us"}
    assert not following.answered(eu.partition, "us", no_news(before["us"]), 1.2)
    assert following.answered(eu.partition, "us", no_news(now["us"]), 1.2)
