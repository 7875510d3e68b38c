"""What a scaler decides, in virtual time: a datacenter of two hosts whose collectors share a demand of so many CPUs."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitmesh.scaler.deciding import Decider
from hitmesh.scaler.figures import Host
from hitmesh.scaler.outcome import FULL_S, START_S
from hitmesh.settings.wanted import MAX_CHANGES, decode, encode
from tests.hitmesh.scaler.world import STARTS_S, World, configured, reversals

MINUTE = 60.0


def saw_tooth(period_s: float, highest: float, lowest: float = 0.2) -> object:
    return lambda now: lowest + (highest - lowest) * (now % period_s) / period_s


def test_what_lives_is_wanted_where_nobody_has_said_anything() -> None:
    world = World(configured())
    world.came["b"] += [-100.0]
    assert world.run(1) == []
    assert world.wanted is not None
    assert {name: each["collector"] for name, each in world.wanted.counts.items()} == {"a": 1, "b": 2}


def test_a_load_that_lasts_starts_as_many_as_bring_each_to_its_target_and_the_answers_below_theirs() -> None:
    world = World(configured(), lambda now: 3.0 if now > 30 else 0.2)
    assert world.run(30 + 8) == [], "a peak of a few seconds starts nothing"
    a, *_ = world.run(90)
    assert (world.count(), world.slowest < 100.0) == (5, True), "3 CPUs at 0.6 each are five"
    assert reversals(world.done) == 0
    assert {name: len(each) for name, each in world.came.items()} == {"a": 3, "b": 2}, "spread evenly"
    assert a.why == "2 use 100% of a CPU each, p99 250 ms, to be 100 ms, for 10 s"


def test_looks_that_come_a_little_late_are_as_good() -> None:
    world = World(configured(up_s=2.0), lambda _: 1.9)
    world.late_s = 0.05
    world.run(10)
    assert [(each.was, each.now) for each in world.done] == [(2, 3), (3, 4)], "one on each host"


def test_slow_answers_of_busy_collectors_start_one_more_and_those_of_idle_ones_none() -> None:
    world = World(configured(busy=0.9, p99_ms=20.0), lambda _: 1.7)  # 85% each: 33 ms
    world.run(30)
    assert (world.count(), [(each.was, each.now) for each in world.done]) == (3, [(2, 3)])
    idle = World(configured(p99_ms=1.0), lambda _: 0.1)
    assert idle.run(60) == []
    assert "more of them wouldn't help" in idle.deciders[0]._judges["collector"]._looks[-1].why


def test_what_was_too_slow_under_a_load_isnt_gone_back_to_under_as_much() -> None:
    world = World(configured(busy=0.9, p99_ms=20.0), lambda now: 1.7 if now < 30 * MINUTE else 0.5)
    changes = world.run(30 * MINUTE)  # the CPUs of two would do
    assert [(each.was, each.now) for each in changes] == [(2, 3)]
    assert "2 were too slow when they used 1.7 CPUs" in world.says["collector"]
    assert [(each.was, each.now) for each in world.run(10 * MINUTE)] == [(3, 2)]


def test_a_load_that_is_gone_stops_one_after_the_other_and_never_those_that_the_nodes_say() -> None:
    world = World(configured(), lambda now: 3.0 if now < 60 else 0.1)
    world.run(60)
    assert world.count() == 5
    assert world.run(300 - 5) == [], "for as long the peak is remembered"
    downs = world.run(30 * MINUTE)
    assert [(each.was, each.now) for each in downs] == [(5, 4), (4, 3), (3, 2)]
    at = [each.at for each in downs]
    assert all(later - earlier >= 60 for earlier, later in pairwise(at)), "a fifth of down_s between two"
    assert {name: len(each) for name, each in world.came.items()} == {"a": 1, "b": 1}


@pytest.mark.parametrize("period_s", [20.0, 60.0, 90.0, 180.0, 240.0])
def test_30_minutes_of_a_saw_tooth_dont_flap(period_s: float) -> None:
    world = World(configured(), saw_tooth(period_s, 2.6))  # type: ignore[arg-type]
    changes = world.run(30 * MINUTE)
    assert reversals(changes) == 0, "what one tooth has started is there for the next one"
    assert len(changes) <= 4
    assert world.count() >= (3 if period_s > 20 else 2)


@pytest.mark.parametrize("period_s", [400.0, 900.0])
def test_a_saw_tooth_slower_than_down_s_is_followed_once_a_tooth(period_s: float) -> None:
    world = World(configured(), saw_tooth(period_s, 3.0))  # type: ignore[arg-type]
    changes = world.run(30 * MINUTE)
    assert reversals(changes) <= 2 * (30 * MINUTE / period_s)


def test_a_demand_about_a_target_changes_nothing() -> None:
    assert World(configured(), lambda _: 1.2 * 1.08).run(30 * MINUTE) == []
    world = World(configured(), lambda now: 1.2 * (1.3 if now % 7 < 3 else 0.7))
    assert world.run(30 * MINUTE) == []


def test_never_more_than_the_most_nor_fewer_than_the_least() -> None:
    world = World(configured(max=4), lambda _: 9.0)
    world.run(5 * MINUTE)
    assert (world.count(), "at most 4 are wanted" in world.says["collector"]) == (4, True)
    world.become(max=3)
    world.run(10)
    assert (world.count(), world.done[-1].why) == (3, "at most 3 are wanted")
    idle = World(configured())
    idle.run(5)
    idle.become(min=5)
    [a, b] = idle.run(2)
    assert (b.now, a.why) == (5, "at least 5 are wanted"), "at once: it is somebody's word"
    idle.run(30 * MINUTE)
    assert idle.count() == 5
    assert idle.says["collector"].endswith("and 1 would have been enough for 300 s; but scaler.collector.min is 5")
    idle.become(min=0)
    idle.run(30 * MINUTE)
    assert idle.says["collector"].endswith("and 1 would have been enough for 300 s; but the nodes say 2")


@pytest.mark.parametrize("hold", ["op@desk is at work: deploy 0.3", "processor-1 brings rows back"])
def test_nothing_is_decided_while_somebody_works_there_and_what_was_seen_meanwhile_says_nothing(hold: str) -> None:
    world = World(configured(), lambda _: 3.0)
    world.run(5)
    world.hold = hold
    assert world.run(5 * MINUTE) == []
    assert world.says == {"collector": hold}
    world.hold = ""
    assert world.run(8) == [], "its past begins anew"
    assert world.run(10) != []


def test_figures_that_are_missing_or_stale_are_no_ground_for_anything() -> None:
    world = World(configured(), lambda _: 3.0)
    world.run(5)
    world.missing = "collector-1 don't say how busy they are: an older release"
    assert world.run(5 * MINUTE) == []
    assert world.says["collector"] == world.missing
    world.missing = ""
    assert world.run(8) == []
    world.now += 30.0  # nobody has looked
    assert world.run(8) == []
    assert world.run(10) != []


def test_one_that_has_just_started_is_waited_for_before_another_is() -> None:
    world = World(configured(busy=0.9, p99_ms=20.0), lambda now: 1.7 if now < 40 else 2.6)
    changes = world.run(120)
    at = [each.at for each in changes]
    quiet_s = STARTS_S + world.config.scaler.warm_s + world.config.scaler.collector.up_s - 2.5
    assert len(at) == 2
    assert at[1] - at[0] >= quiet_s


def test_one_that_doesnt_come_is_waited_for_for_a_while_and_then_not_counted_on() -> None:
    world = World(configured(nodes=3, collector=1, busy=0.9, p99_ms=20.0), lambda _: 2.55)
    world.run(3)
    world.starts = False
    changes = world.run(START_S)
    assert len(changes) == 1
    assert "1 of 4 haven't come yet" in world.says["collector"]
    assert len(world.run(START_S)) == 1


def test_a_drained_or_failing_collector_is_no_capacity() -> None:
    world = World(configured(collector=2), lambda _: 2.3)  # 57% of four, 77% of three
    assert world.run(60) == []
    world.out["a"] = 1
    changes = world.run(30)
    assert [(each.was, each.now) for each in changes] == [(4, 5)]


def test_where_every_host_is_full_that_is_said_and_told_with_why() -> None:
    world = World(configured(max=12, node_max=2), lambda _: 9.0)
    world.hosts["b"] = Host(name="b", cpus=4, busy=0.95, free_mb=4096, is_able=True)
    world.run(40)
    assert {name: len(each) for name, each in world.came.items()} == {"a": 2, "b": 1}
    assert "every host is full" in world.says["collector"]
    assert world.fulls == [], "a host that has just started has no figures either"
    world.run(FULL_S)
    full = world.fulls[-1]
    assert (full.role, full.have) == ("collector", 3)
    assert full.needed > 3
    assert full.why.endswith("a has 2 of 2; b 95% of its CPUs are in use")
    assert "every host is full" in world.says["collector"]


@pytest.mark.parametrize(
    "host",
    [
        Host(name="a", cpus=4, busy=0.1, free_mb=100, is_able=True),
        Host(name="a", cpus=4, busy=0.1, free_mb=4096, is_able=False),
    ],
)
def test_nothing_is_started_where_there_is_no_memory_or_no_supervisord(host: Host) -> None:
    world = World(configured(), lambda _: 1.9)
    world.hosts["a"] = host
    world.run(60)
    assert {name: len(each) for name, each in world.came.items()} == {"a": 1, "b": 3}


def test_a_host_whose_scaler_is_gone_is_told_nothing_and_its_collectors_still_count() -> None:
    world = World(configured(), lambda now: 3.0 if now < 60 else 0.1)
    world.run(60)
    assert {name: len(each) for name, each in world.came.items()} == {"a": 3, "b": 2}
    del world.hosts["a"]
    world.run(30 * MINUTE)
    assert {name: len(each) for name, each in world.came.items()} == {"a": 3, "b": 1}


def test_whoever_takes_over_has_seen_the_past_and_goes_on_from_what_is_wanted() -> None:
    world = World(configured(), lambda now: 3.0 if now < 60 else 0.1)
    world.deciders.append(Decider(world.config))
    world.run(60)
    for _ in range(int(30 * MINUTE)):
        world.step(by=1)
    assert [(each.was, each.now) for each in world.done[-3:]] == [(5, 4), (4, 3), (3, 2)]


def test_no_past_is_no_reason_to_stop_anybody() -> None:
    world = World(configured(), lambda now: 3.0 if now < 60 else 0.1)
    world.run(200)
    world.deciders = [Decider(world.config)]
    assert world.run(295) == []


def test_what_is_agreed_upon_reads_as_it_was_written_and_anything_else_as_nothing() -> None:
    world = World(configured(), saw_tooth(400.0, 3.0))  # type: ignore[arg-type]
    world.run(2 * 3600)
    assert world.wanted is not None
    assert len(world.wanted.changes) <= MAX_CHANGES
    assert decode(encode(world.wanted)) == world.wanted
    for value in (
        None,
        b"",
        b"[]",
        b"{",
        b'{"counts": {"a": {"collector": 65}}}',
        b'{"counts": {"a": {"nexus": 1}}}',
        b"\xff",
    ):
        assert decode(value) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 8.0), st.integers(1, 40)), min_size=1, max_size=12), st.integers(2, 8))
def test_whatever_the_demand_its_number_stays_between_least_and_most_and_goes_down_by_one(
    pieces: list[tuple[float, int]], most: int
) -> None:
    until, steps = 0.0, []
    for demand, seconds in pieces:
        until += 5 * seconds
        steps.append((until, demand))
    world = World(
        configured(max=most, node_max=most, down_s=30.0), lambda now: next((d for at, d in steps if now < at), 0.0)
    )
    for change in world.run(until + 60):
        assert 2 <= change.now <= most
        assert change.now >= change.was - 1
    assert world.wanted is not None
    assert msgspec.json.decode(encode(world.wanted))


def test_the_seen_of_a_role_that_isnt_scaled_changes_nothing() -> None:
    world = World(configured())
    world.run(600)
    assert {each.role for each in world.done} <= {"collector"}
