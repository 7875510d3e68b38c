"""Problems: each kind in words, when it begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.dashboard.problems import (
    GONE_S,
    MAX_PROBLEMS,
    RULES,
    WARN_S,
    Facts,
    Fault,
    Problems,
    faults,
    sentence,
    worst_first,
)
from hitmesh.dashboard.status import Backend, Balancer, Books, Instance, Link, Problem, Spool, Store
from tests.hitmesh.dashboard.seen import row

WALL = 1_000_000.0


def facts(**what: Any) -> Facts:
    return Facts(dc="eu", **what)


def said(**what: Any) -> list[tuple[str, str]]:
    return [(fault.level, fault.says) for fault in faults(facts(**what))]


def spool(**what: Any) -> Spool:
    return Spool(**{"key": "a", "name": "a", "depth": 0, "oldest_s": None, **what})


def backend(name: str, status: str, why: str = "") -> Backend:
    return Backend(key=name, service="collectors", name=name, address="", status=status, why=why)


UP: Sequence[Instance] = [row("nexus-1"), row("nexus-2"), row("processor-1"), row("collector-1"), row("collector-2")]


def but(**states: Any) -> Sequence[Instance]:
    """All up, but for some: their names with _ for -."""
    others = {name.replace("_", "-"): state for name, state in states.items()}
    return [row(one.name, others.get(one.name, "up"), why="its heartbeats stopped") for one in UP]


def test_where_all_is_well_there_is_nothing() -> None:
    well = facts(
        instances=UP,
        spools=[spool(depth=3, oldest_s=0.4)],
        store=Store(commit_lag_s=0.2, owners=["processor-1"]),
        books=Books(balanced=True, age_s=1.0),
        balancers=[Balancer(key="b", name="balancer-1", backends=[backend("collector-1", "UP")])],
        links=[Link(key="us>eu", source="us", target="eu", state="up", rows_age_s=0.5)],
        disk_used=0.4,
        disk_free_bytes=10**11,
        settings={"eu": 4, "us": 4},
    )
    assert list(faults(well)) == []


@pytest.mark.parametrize(
    ("what", "level", "says"),
    [
        ({"instances": but(nexus_1="dead")}, "warn", "nexus-1 of eu is dead: its heartbeats stopped"),
        ({"instances": but(nexus_1="dead", nexus_2="dead")}, "bad", "both Nexuses of eu are dead: nobody notices who dies"),
        ({"instances": but(nexus_1="dead", nexus_2="silent")}, "bad", "both Nexuses of eu are dead: nobody notices who dies"),
        ({"instances": but(processor_1="dead")}, "bad", "processor-1 of eu is dead: hits are spooled and not counted"),
        ({"instances": but(collector_1="silent")}, "warn", "collector-1 of eu is silent: its heartbeats stopped"),
        ({"instances": [row("collector-1", failing=True, why="x"), row("collector-2")]}, "warn", "collector-1 of eu fails: x"),
        ({"instances": [row("processor-1", failing=True, why="x")]}, "bad", "processor-1 of eu fails: x"),
        ({"instances": UP, "deaths": {"collector-1": [2.0]}}, "warn", "collector-1 of eu died and is back"),
        (
            {"instances": UP, "deaths": {"collector-1": [2.0, 99.0, 400.0]}},
            "warn",
            "collector-1 of eu dies again and again: 3 times in the last 10 minutes",
        ),
        ({"instances": [row("nexus-1", load={"rivals": 1.0})]}, "warn", "1 name in eu are used by two processes"),
        ({"instances": [row("collector-1", load={"hub_lag_s": 0.8})]}, "warn", "collector-1 of eu is too busy"),
        ({"instances": [row("recorder-1", "dead")]}, "warn", "recorder-1 of eu is dead: what is logged is kept nowhere"),
        (
            {"grew": {"records_dropped": ["a-1", "b-1", "c-1", "d-1"]}},
            "warn",
            "lines that a-1, b-1, c-1 and 1 more of eu logged are lost: no recorder takes them",
        ),
        ({"grew": {"entries_dropped": ["recorder-1"]}}, "warn", "recorder-1 of eu can't keep what it is sent: lines are lost"),
        (
            {"instances": [row("recorder-1", load={"database_away_s": 7.0})]},
            "warn",
            "recorder-1 of eu can't bring statistics to PostgreSQL; its volumes keep them",
        ),
        (
            {"instances": [row("scaler-1", load={"supervisor": 0.0})]},
            "warn",
            "scaler-1 of eu can't start or stop anything: the supervisord of its host doesn't answer",
        ),
        (
            {"instances": [row("scaler-1", load={"supervisor": 1.0, "behind_s": 65.0})]},
            "warn",
            "scaler-1 of eu hasn't brought its host to what is wanted for more than 60 s: its log says what it tries",
        ),
        (
            {"instances": [row("scaler-1", load={"hook_missing": 1.0})]},
            "warn",
            "the hook of scaler-1 of eu can't be run: its log says why",
        ),
        ({"grew": {"hooks_failed": ["scaler-1"]}}, "warn", "the hook of scaler-1 of eu failed: its log has its first line"),
        (
            {"instances": [row("scaler-1", "dead"), row("scaler-2", "dead")]},
            "warn",
            "both scalers of eu are dead: nobody changes how many run",
        ),
        ({"grew": {"log_lost": ["nexus-1"]}}, "warn", "nexus-1 of eu loses lines of its log"),
        ({"grew": {"conflicts": ["processor-1"]}}, "warn", "processor-1 of eu had a partition taken from it"),
        ({"grew": {"faults": ["processor-1"]}}, "bad", "processor-1 of eu has found a store that isn't as it was left"),
        ({"grew": {"refused_puts": ["collector-1"]}}, "bad", "collector-1 of eu can't put hits into the spool: they are refused"),
        ({"spools": [spool(usable=False, why="full")]}, "bad", "the spool of eu can't be used, hits are refused: full"),
        ({"spools": [spool(usable=False, why="full"), spool(name="b")]}, "warn", "a copy of the spool of eu can't be used: a: full"),
        ({"spools": [spool(depth=6000)]}, "warn", "6000 jobs wait in the spool of eu"),
        ({"spools": [spool(depth=60_000)]}, "bad", "60000 jobs wait in the spool of eu"),
        ({"spools": [spool(oldest_s=64.0)]}, "warn", "hits have waited in the spool of eu for more than 60 s"),
        ({"spools": [spool(oldest_s=9000.0)]}, "bad", "hits have waited in the spool of eu for more than 2 h"),
        ({"untold": {"mail": "refused"}}, "warn", "alerts of eu don't get out by mail: refused"),
        ({"unagreed": "no leader"}, "warn", "the dashboards of eu can't agree on who tells of alerts: no leader"),
        ({"spools": [spool(buried=2)]}, "warn", "2 jobs in the spool of eu are set aside"),
        ({"store": Store(reachable=False, why="timed out")}, "bad", "the totals store of eu can't be read: timed out"),
        ({"store": Store(commit_lag_s=7.0)}, "warn", "hits of eu have waited for more than 5 s to be committed"),
        ({"store": Store(commit_lag_s=17.0)}, "bad", "hits of eu have waited for more than 15 s to be committed"),
        ({"store": Store(owners=["p", None], orphans=[1])}, "bad", "nobody owns 1 of 2 partitions of eu"),
        ({"store": Store(unreadable=[1, 2, 3, 4])}, "bad", "4 partitions of eu can't be read: 1, 2, 3 ..."),
        ({"store": Store(restoring=4)}, "warn", "4 partitions of eu are being brought back from other datacenters"),
        (
            {"books": Books(balanced=False, off=40, problems=["partition 7: so", "and so"], age_s=0.0)},
            "bad",
            "the books of eu are off by 40 hits: partition 7: so, and 1 more",
        ),
        (
            {"balancers": [Balancer(key="b", name="b", why="timed out")], "instances": [row("b")]},
            "warn",
            "b of eu doesn't tell its figures: timed out",
        ),
        (
            {"balancers": [Balancer(key="b", name="b", backends=[backend("c-1", "DOWN", "refused"), backend("c-2", "UP")])]},
            "warn",
            "b of eu can't use c-1: refused",
        ),
        (
            {"balancers": [Balancer(key="b", name="b", backends=[backend("c-1", "DOWN", "refused")])]},
            "bad",
            "b of eu has no backend left for collectors: refused",
        ),
        ({"balancers": [Balancer(key="b", name="b", held=3)]}, "bad", "b of eu has requests that wait for a backend to live"),
        ({"balancers": [Balancer(key="b", name="b", waiting=3)]}, "warn", "b of eu has requests that wait for a free connection"),
        (
            {"links": [Link(key="us>eu", source="us", target="eu", state="cut", why="nobody is heard")]},
            "bad",
            "the link from us to eu is cut: nobody is heard",
        ),
        ({"links": [Link(key="us>eu", source="us", target="eu", state="late", why="so")]}, "warn", "the link from us to eu is late: so"),
        ({"disk_used": 0.93, "disk_free_bytes": 10**10}, "warn", "the disk with the state folder of eu is 93% full"),
        ({"disk_used": 0.98, "disk_free_bytes": 10**10}, "bad", "the disk with the state folder of eu is 98% full"),
        ({"disk_used": 0.2, "disk_free_bytes": 10**6}, "bad", "the disk with the state folder of eu is 20% full"),
        ({"settings": {"eu": 5, "us": 4}}, "warn", "us hasn't taken over the live settings of eu"),
        ({"refused": {"timing.x": "what"}}, "warn", "the live setting timing.x doesn't apply in eu: what"),
        ({"settings_why": "gone"}, "warn", "the settings store of eu can't be read: gone"),
        ({"past_why": "disk full"}, "warn", "the dashboard of eu can't keep the past: disk full"),
    ],
)  # fmt: skip
def test_each_trouble_is_one_problem_in_words(what: dict[str, Any], level: str, says: str) -> None:
    found = said(**what)
    assert len(found) == 1, found
    assert found[0][0] == level
    assert found[0][1].startswith(says)


def test_one_that_starts_or_drains_is_no_problem() -> None:
    assert said(instances=but(collector_1="starting", processor_1="draining")) == []


def test_a_partition_that_is_handed_over_and_a_store_that_nobody_has_made_yet_are_no_problem() -> None:
    assert said(store=Store(owners=["p", None])) == []
    starts = but(processor_1="starting")
    assert said(instances=starts, store=Store(reachable=False, absent=True, why="the file is gone")) == []
    assert [level for level, _ in said(instances=starts, store=Store(reachable=False, why="refused"))] == ["bad"]


@pytest.mark.parametrize(
    "load",
    [
        {},
        {"supervisor": 1.0, "behind_s": 55.0},
        {"supervisor": 0.0, "dry_run": 1.0},
    ],
    ids=["that has just started", "that brings its host there", "that is to change nothing"],
)
def test_a_scaler_is_no_problem(load: dict[str, float]) -> None:
    assert said(instances=[row("scaler-1", load=load)]) == []


def test_what_strangers_wrote_is_text() -> None:
    (found,) = said(instances=[row("collector-1", failing=True, why="\x1b[2J\u202egnp"), row("collector-2")])
    assert found[1].isprintable()


def test_every_rule_says_what_it_is_about() -> None:
    assert all(rule.__doc__ for rule in RULES)


def fault(key: str = "a", level: Any = "bad", **what: Any) -> Fault:
    return Fault(key=key, level=level, kind="store", dc="eu", says=f"{key} is so", **what)


def keys(problems: Sequence[Problem]) -> list[str]:
    return [problem.key for problem in problems]


def test_what_hits_suffer_from_is_shown_at_once_and_all_else_when_it_has_lasted() -> None:
    known = Problems()
    there = [fault("a"), fault("b", "warn"), fault("c", "warn", after_s=5.0)]
    assert keys(known.update(there, 0.0, WALL)) == ["eu a"]
    assert keys(known.update(there, WARN_S, WALL + 1)) == ["eu a", "eu b"]
    assert keys(known.update(there, 5.0, WALL + 5)) == ["eu a", "eu b", "eu c"]


def test_a_problem_goes_two_seconds_after_it_is_mended() -> None:
    known = Problems()
    known.update([fault()], 0.0, WALL)
    assert keys(known.update([], GONE_S, WALL + 2)) == ["eu a"]
    assert keys(known.update([], GONE_S + 0.1, WALL + 3)) == []


@given(st.lists(st.booleans(), max_size=30))
def test_the_beginning_stays_as_long_as_the_problem(there: list[bool]) -> None:
    """Looks come each second; a gap of up to GONE_S is none."""
    known = Problems()
    began: float | None = None
    away = 0
    for now, is_there in enumerate(there):
        away = 0 if is_there else away + 1
        if away > GONE_S:
            began = None
        if is_there and began is None:
            began = WALL + now
        shown = known.update([fault()] if is_there else [], float(now), WALL + now)
        assert [problem.since for problem in shown] == ([] if began is None else [began])


def test_the_sentence_is_the_worst_and_how_many_more() -> None:
    def problem(key: str, level: Any, kind: Any, since: float = 0.0) -> Problem:
        return Problem(key=key, level=level, kind=kind, dc="eu", says=f"{key} is so", since=since)

    assert sentence([]) == "all is well"
    ordered = worst_first(
        [
            problem("a", "warn", "store"),
            problem("b", "bad", "link"),
            problem("c", "bad", "store", 2),
            problem("d", "bad", "store"),
        ]
    )
    assert [each.key for each in ordered] == ["d", "c", "b", "a"]
    assert sentence(ordered) == "d is so, and 3 more problems"
    assert sentence(ordered[:2]) == "d is so, and 1 more problem"
    assert sentence(ordered[:1]) == "d is so"


def test_they_are_bounded() -> None:
    known = Problems()
    assert len(known.update([fault(str(number)) for number in range(1000)], 0.0, WALL)) == MAX_PROBLEMS
