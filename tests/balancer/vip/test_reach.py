from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from balancer.members.checks import Outcome
from balancer.vip import reach
from balancer.vip.reach import LATE_S, QUIET_S, Reach
from balancer.vip.word import TICK_S


class Collectors:
    """A service with two backends; those in `well` answer when they are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.well: set[str] = set()
        self.asked: list[str] = []
        self.now = 100.0
        self.backends = [
            SimpleNamespace(usable=True, stats=SimpleNamespace(address=name, classes=[0] * 10)) for name in ("a", "b")
        ]
        route = SimpleNamespace(service="collector", check_path="/health")
        self.services: Any = [SimpleNamespace(route=route, backends=self.backends)]
        self.reach = Reach(self.services, now=self.now)
        monkeypatch.setattr(reach, "probe", self._probe)

    def look(self, *, s: float = 0.1, may_ask: bool = True) -> float:
        """One more look; how long ago it is then that one answered."""
        self.now += s
        self.reach.look(self.now, may_ask=may_ask)
        gevent.sleep(0)
        return self.now - self.reach.reached_at

    def _probe(self, backend: Any, path: str, host: str, timeout_s: float) -> Outcome:
        self.asked.append(host)
        return Outcome(host in self.well, "", 200, 0.0)


@pytest.fixture
def collectors(monkeypatch: pytest.MonkeyPatch) -> Collectors:
    return Collectors(monkeypatch)


def test_answers_to_clients_are_enough_and_nobody_is_asked(collectors: Collectors) -> None:
    for _ in range(5):
        collectors.backends[0].stats.classes[2] += 1
        assert collectors.look() == 0.0
    assert collectors.asked == []


def test_failures_of_a_collector_are_no_answers(collectors: Collectors) -> None:
    collectors.backends[0].stats.classes[5] += 1
    assert collectors.look() > QUIET_S


def test_without_answers_one_is_asked_for_and_who_answered_is_asked_again(collectors: Collectors) -> None:
    collectors.well = {"b"}
    for _ in range(20):
        collectors.look()
    assert collectors.look() < QUIET_S
    first = collectors.asked.index("b")
    assert set(collectors.asked[first:]) == {"b"}


def test_a_worker_that_may_not_ask_only_counts(collectors: Collectors) -> None:
    collectors.well = {"a", "b"}
    assert collectors.look(s=0.12, may_ask=False) > QUIET_S
    assert collectors.asked == []


def test_where_no_other_host_is_heard_of_nothing_counts(collectors: Collectors) -> None:
    collectors.well = {"a", "b"}
    collectors.reach.is_cut_off = True
    collectors.backends[0].stats.classes[2] += 1
    assert collectors.look() > QUIET_S


def test_what_the_hub_had_no_time_for_is_not_held_against_the_collectors(collectors: Collectors) -> None:
    assert collectors.look(s=TICK_S + 10 * LATE_S, may_ask=False) == pytest.approx(TICK_S)
