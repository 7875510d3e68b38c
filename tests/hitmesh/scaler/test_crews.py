"""How many workers each balancer has, in virtual time: two balancers, one of which has the address and a demand of so many CPUs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitmesh import config as settings_of
from hitmesh.config import Config
from hitmesh.scaler.crews import busiest
from hitmesh.scaler.deciding import Decider
from hitmesh.scaler.figures import Figures, Host, crews
from hitmesh.scaler.outcome import FULL_S, START_S, Full, Seen
from hitmesh.settings.wanted import EVERYWHERE, Change, Wanted, decode, encode, key_of, wanted_workers, words
from tests.hitmesh.scaler.test_figures import one
from tests.hitmesh.scaler.world import reversals

MINUTE = 60.0
CHANGES_S = 4.0  # from the word to a generation that serves
WALL = 1_000_000.0


def configured(workers: int = 1, **balancer: Any) -> Config:
    node = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1, "scaler": 1}
    data = {
        "name": "dc",
        "insecure": True,
        "nodes": {name: {"address": f"10.0.0.{at}", **node} for at, name in enumerate("ab", 1)},
        "ports": {"balancer_admin": 0},
        "balancer": {"workers": workers},
        "scaler": {"balancer": {"max": 8, "down_s": 300.0, **balancer}},
    }
    return settings_of.parse(data, source="test")


class Pair:
    """Two balancers, `first` on the node a, which serves, and the other one on b. Each step is a second."""

    def __init__(self, config: Config, demand: Callable[[float], float] = lambda _: 0.0) -> None:
        self.config, self.demand = config, demand
        self.now = 0.0
        self.decider = Decider(config)
        self.wanted: Wanted | None = None
        self.began = dict.fromkeys(("balancer-1", "balancer-2"), (config.balancer.workers, -100.0))
        self.stuck: set[str] = set()  # who doesn't follow
        self.hosts = {name: Host(name=name, cpus=16, busy=0.2, free_mb=4096, is_able=True) for name in "ab"}
        self.hold = self.missing = ""
        self.says = ""
        self.fulls: list[Full] = []

    def workers(self) -> int:
        return self.began["balancer-1"][0]

    def crews(self) -> dict[str, Figures]:
        found = {}
        for name, node in (("balancer-1", "a"), ("balancer-2", "b")) if self.began else ():
            workers, at = self.began[name]
            is_new = self.now - at < self.config.scaler.warm_s
            share = min(self.demand(self.now) / workers, 1.0) if node == "a" else 0.01
            found[name] = Figures(
                serving=0 if is_new else workers, new=[f"{name}-w{n}" for n in range(workers if is_new else 0)],
                by_node={node: workers}, busy=share * workers, missing=self.missing,
            )  # fmt: skip
        return found

    def step(self) -> None:
        self.now += 1.0
        crews = self.crews()
        idle = Figures(serving=2, by_node={"a": 1, "b": 1}, busy=0.1)
        roles = {"collector": idle, "processor": idle, "balancer": busiest(crews)}
        seen = Seen(roles=roles, hosts=self.hosts, crews=crews, hold=self.hold)  # type: ignore[arg-type]
        self.decider.look(seen, self.config.scaler, self.now)
        outcome = self.decider.step(seen, self.wanted, self.config.scaler, self.now, WALL + self.now)
        self.wanted = outcome.wanted
        self.says = outcome.says.get("balancer", "")
        self.fulls += [outcome.full] if outcome.full else []
        goal = max(self.wanted.workers, self.config.balancer.workers)
        for name, (workers, at) in self.began.items():
            if workers != goal and at <= self.now and name not in self.stuck:
                self.began[name] = goal, self.now + CHANGES_S

    def run(self, seconds: float) -> list[Change]:
        done: list[Change] = []
        for _ in range(int(seconds)):
            before = self.wanted.changes if self.wanted else ()
            self.step()
            assert self.wanted is not None
            done += [each for each in self.wanted.changes if each not in before]
        return done

    def become(self, **balancer: Any) -> None:
        scaler = self.config.scaler
        changed = msgspec.structs.replace(scaler, balancer=msgspec.structs.replace(scaler.balancer, **balancer))
        self.config = msgspec.structs.replace(self.config, scaler=changed)


def ways(changes: list[Change]) -> list[tuple[int, int]]:
    return [(each.was, each.now) for each in changes]


def test_as_many_as_bring_each_worker_of_the_busiest_to_its_target_and_all_balancers_alike() -> None:
    pair = Pair(configured(), lambda now: 2.0 if now > 30 else 0.2)
    assert pair.run(30 + 18) == [], "a peak of a few seconds changes nothing"
    changes = pair.run(3 * MINUTE)
    assert (pair.workers(), reversals(changes)) == (4, 0), "2 CPUs at 0.6 each are four"
    assert pair.began["balancer-2"][0] == 4, "who takes the address over is as wide"
    first = changes[0]
    assert (first.role, first.node, words(first)) == ("balancer", EVERYWHERE, "workers of each balancer 1 -> 2")
    assert first.why == "1 use 100% of a CPU each, to be 60%, for 20 s"


def test_a_load_that_is_gone_has_one_less_at_a_time_and_never_fewer_than_the_file_says() -> None:
    pair = Pair(configured(workers=2), lambda now: 2.9 if now < 120 else 0.1)
    assert ways(pair.run(120)) == [(2, 4), (4, 5)]
    downs = pair.run(40 * MINUTE)
    assert ways(downs) == [(5, 4), (4, 3), (3, 2)]
    assert all(later.at - earlier.at >= 60 for earlier, later in pairwise(downs))


@pytest.mark.parametrize("period_s", [20.0, 60.0, 90.0, 180.0, 240.0])
def test_30_minutes_of_a_saw_tooth_dont_flap(period_s: float) -> None:
    pair = Pair(configured(), lambda now: 0.2 + 2.4 * (now % period_s) / period_s)
    changes = pair.run(30 * MINUTE)
    assert reversals(changes) == 0, "what one tooth has brought is there for the next one"
    assert len(changes) <= 4
    assert pair.workers() >= (2 if period_s > 60 else 1)


def test_a_demand_about_a_target_changes_nothing() -> None:
    assert Pair(configured(workers=2), lambda _: 1.2 * 1.08).run(30 * MINUTE) == []


def test_the_bounds_are_in_force_at_once_and_somebodys_word_needs_no_room() -> None:
    pair = Pair(configured(), lambda _: 9.0)
    pair.hosts = {name: Host(name=name, cpus=2, busy=0.99, free_mb=10, is_able=True) for name in "ab"}
    pair.become(min=3)
    assert ways(pair.run(3)) == [(1, 3)]
    pair.become(min=0, max=2)
    assert ways(pair.run(3)) == [(3, 2)]
    idle = Pair(configured())
    idle.become(min=5)
    idle.run(30 * MINUTE)
    assert idle.workers() == 5
    assert idle.says.endswith("and 1 would have been enough for 300 s; but scaler.balancer.min is 5")


@pytest.mark.parametrize("hold", ["op@desk is at work: deploy 0.3", "processor-1 brings rows back"])
def test_nothing_is_decided_while_somebody_works_there_or_figures_are_missing(hold: str) -> None:
    pair = Pair(configured(), lambda _: 3.0)
    pair.run(5)
    pair.hold = hold
    pair.become(min=2)
    assert (pair.run(5 * MINUTE), pair.says) == ([], hold)
    pair.hold, pair.missing = "", "balancer-1 don't say how busy they are: an older release"
    pair.become(min=0)
    assert (pair.run(5 * MINUTE), pair.says) == ([], pair.missing)
    pair.missing = ""
    assert pair.run(18) == [], "its past begins anew"
    assert pair.run(10) != []


def test_a_balancer_that_doesnt_follow_is_waited_for_for_a_while() -> None:
    pair = Pair(configured(), lambda _: 0.7)
    pair.stuck = {"balancer-2"}
    assert ways(pair.run(60)) == [(1, 2)]
    pair.demand = lambda _: 1.6
    assert pair.run(15) == []
    assert pair.says == "balancer-2 has 1 of 2 workers"
    assert ways(pair.run(START_S)) == [(2, 3)]


def test_no_more_workers_than_a_host_has_cpus_and_none_where_it_is_busy_and_that_is_told() -> None:
    pair = Pair(configured(), lambda _: 9.0)
    pair.hosts["b"] = Host(name="b", cpus=3, busy=0.1, free_mb=4096, is_able=True)
    pair.run(3 * MINUTE)
    assert pair.workers() == 3, "the one that stands by is to be as wide"
    assert "and there is no room: b has 3 CPUs" in pair.says
    assert (pair.fulls[-1].role, pair.fulls[-1].have) == ("balancer", 3)
    busy = Pair(configured(), lambda _: 9.0)
    busy.hosts["a"] = Host(name="a", cpus=16, busy=0.9, free_mb=4096, is_able=True)
    assert (busy.run(FULL_S), busy.fulls) == ([], []), "a moment without room is told nobody"
    busy.run(FULL_S)
    assert "90% of the CPUs of a are in use" in busy.fulls[-1].why
    full = Pair(configured(), lambda _: 9.0)
    full.hosts["b"] = Host(name="b", cpus=16, busy=0.1, free_mb=100, is_able=True)
    assert full.run(60) == []
    assert "100 MB are free on b" in full.says
    unknown = Pair(configured(), lambda _: 0.7)
    unknown.hosts = {}
    assert ways(unknown.run(60)) == [(1, 2)], "what isn't known is no obstacle"


def test_workers_that_have_just_begun_are_waited_for_and_where_there_are_none_that_is_said() -> None:
    pair = Pair(configured(), lambda _: 9.0)
    assert ways(pair.run(24)) == [(1, 2)]
    said = set()
    for _ in range(int(CHANGES_S + pair.config.scaler.warm_s)):
        assert pair.run(1) == []
        said.add(pair.says)
    assert said <= {"", "balancer-1-w0, balancer-1-w1 have just started"}
    pair.began = {}
    pair.run(1)
    assert pair.says == "no balancer works: nothing can be decided by that"


def test_the_most_is_named_where_it_is_why() -> None:
    pair = Pair(configured(max=2), lambda _: 9.0)
    pair.run(3 * MINUTE)
    assert pair.workers() == 2
    assert "are needed, and at most 2 are wanted" in pair.says


def test_workers_are_those_of_their_balancer_and_those_who_leave_are_none() -> None:
    sightings = [
        one("balancer-1", busy=0.2), one("balancer-1-w1", busy=0.5), one("balancer-1-w2", "draining"),
        one("balancer-2", busy=0.1), one("balancer-3", "draining"), one("collector-1"),
        one("balancer-9-w1", up_s=2.0, busy=0.9),
    ]  # fmt: skip
    found = crews(sightings, {"balancer-1": "a", "balancer-2": "b"}, 100.0, warm_s=10.0, heartbeat_s=1.0)
    assert {name: (each.counted, dict(each.by_node)) for name, each in found.items()} == {
        "balancer-1": (2, {"a": 2}), "balancer-2": (1, {"b": 1}), "balancer-9": (1, {"": 1}),
    }  # fmt: skip
    assert busiest(found).new == ("balancer-9-w1",)
    assert busiest({}) == Figures()


def test_balancers_go_by_the_setting_up_to_the_live_most_and_not_at_all_where_there_is_none() -> None:
    config, off = configured(max=4), configured(max=0)
    for text, workers in ((encode(Wanted(workers=3)), 3), (encode(Wanted(workers=9)), 4), (b"{", 0), (None, 0)):
        setting = settings_of_store(text)
        assert wanted_workers(config, setting) == workers
        assert wanted_workers(off, setting) == 0
    assert decode(b'{"workers": 65}') is None
    before = decode(b'{"holder": "s", "counts": {"a": {"collector": 2}}, "changes": []}')
    assert before is not None
    assert before.workers == 0, "as it was written before there was such a number"


def settings_of_store(value: bytes | None) -> dict[str, Any]:
    from hitmesh.settings import Setting

    key = key_of("dc")
    return {} if value is None else {key: Setting(key, value, 1, "scaler", WALL)}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 8.0), st.integers(1, 40)), min_size=1, max_size=12), st.integers(2, 8))
def test_whatever_the_demand_its_number_stays_between_least_and_most_and_goes_down_by_one(
    pieces: list[tuple[float, int]], most: int
) -> None:
    until, steps = 0.0, []
    for demand, seconds in pieces:
        until += 5 * seconds
        steps.append((until, demand))
    pair = Pair(configured(max=most, down_s=30.0), lambda now: next((d for at, d in steps if now < at), 0.0))
    for change in pair.run(until + 60):
        assert 1 <= change.now <= most
        assert change.now >= change.was - 1
