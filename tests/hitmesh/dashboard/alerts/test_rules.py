"""The rules: what each finds, in words, and what it leaves to others."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hitmesh.config.alerts import RULES as NAMES
from hitmesh.config.alerts import Disk, Errors, Rules, SpoolDeep
from hitmesh.dashboard.alerts.rules import MAX_SIGNS, RULES, Judged, Seen, judge
from hitmesh.dashboard.alerts.shares import LEAST, STEP_S, WINDOW_S, Share, Shares
from hitmesh.dashboard.problems import Facts, Problems, faults
from hitmesh.dashboard.status import Books, Datacenter, Hits, Instance, Part, Problem, Spool, Store
from tests.hitmesh.dashboard.seen import row

WALL = 1_800_000_000.0
DAY = 86_400.0
HITS = Hits(count=1)
QUIET = Share()


def part(**what: Any) -> Part:
    well = {"books": Books(balanced=True, age_s=0.0), "spools": [spool()]}
    return Part(**{"dc": "eu", "at": WALL, "hits": HITS, **well, **what})


def spool(name: str = "a", **what: Any) -> Spool:
    return Spool(**{"key": name, "name": name, "depth": 0, "oldest_s": None, **what})


def others(**states: Any) -> dict[str, Datacenter]:
    return {dc: Datacenter(key=dc, state=state, age_s=0.0, hits=HITS) for dc, state in {"eu": "up", **states}.items()}


def seen(dcs: dict[str, Datacenter] | None = None, share: Share | None = QUIET, **what: Any) -> Seen:
    return Seen(part=part(**what), dcs=dcs or others(), share=share, wall=WALL)


def found(given: Seen, rules: Rules = Rules()) -> list[tuple[str, str, str]]:  # noqa: B008 - it is frozen
    return [(sign.name, sign.level, sign.says) for sign in judge(given, rules).signs.values()]


def problem(key: str, level: Any = "bad", says: str = "x") -> Problem:
    return Problem(key=f"eu {key}", level=level, kind="store", dc="eu", says=says, since=0.0)


def test_every_rule_of_the_configuration_is_judged() -> None:
    assert tuple(RULES) == NAMES


def test_where_all_is_well_there_is_nothing_and_all_is_judged() -> None:
    well = seen(
        dcs=others(us="up"),
        instances=[row("collector-1", load={"hub_lag_s": 0.1, "disk_used": 0.5}), row("balancer-1", "starting")],
        share=Share(0, 1000),
    )
    assert judge(well, Rules()) == Judged({}, frozenset())


@pytest.mark.parametrize(
    ("given", "name", "level", "says"),
    [
        ({"dcs": others(us="dead")}, "datacenter_silent/us", "bad", "datacenter us is out of reach from eu"),
        ({"dcs": others(us="silent")}, "datacenter_silent/us", "warn", "the dashboards of us aren't heard in eu"),
        (
            {"books": Books(balanced=False, off=3, problems=["partition 7: so"], age_s=0.0)},
            "books",
            "bad",
            "the books of eu are off by 3 hits: partition 7: so",
        ),
        ({"spools": [spool(depth=5001)]}, "spool_deep", "bad", "5001 jobs wait in the spool of eu: more than 5000"),
        (
            {"spools": [spool(depth=1, oldest_s=61.0)]},
            "spool_old",
            "bad",
            "hits have waited in the spool of eu for 61 s",
        ),
        (
            {"spools": [spool(), spool("b", usable=False, why="gone")]},
            "spool_copy/b",
            "warn",
            "a copy of the spool of eu",
        ),
        ({"spools": [spool("b", usable=False, why="gone")]}, "spool_copy/b", "bad", "the spool of eu can't be used"),
        (
            {"instances": [row("c-1", load={"disk_used": 0.91})]},
            "disk/c-1",
            "warn",
            "the disk with the state folder of c-1",
        ),
        (
            {"instances": [row("c-1", load={"disk_used": 0.97})]},
            "disk/c-1",
            "bad",
            "the disk with the state folder of c-1",
        ),
        ({"instances": [row("c-1", load={"hub_lag_s": 0.6})]}, "hub_lag/c-1", "warn", "c-1 of eu is too busy"),
        ({"share": Share(21, 1000)}, "errors", "bad", "2.1% of the answers of eu are errors: 21 of 1000"),
        (
            {"instances": [row("balancer-1", load={"certificate_ends": WALL + 10 * DAY})]},
            "certificate/balancer-1",
            "warn",
            "a certificate that balancer-1 of eu shows ends in 10 days",
        ),
        (
            {"instances": [row("balancer-1", load={"certificate_ends": WALL - 1})]},
            "certificate/balancer-1",
            "bad",
            "a certificate that balancer-1 of eu shows has ended",
        ),
        ({"instances": [row("c-1", "dead", why="killed")]}, "instance_dead/c-1", "warn", "c-1 of eu is dead: killed"),
        ({"problems": [problem("scaler scaler-2", "warn")]}, "scaler/scaler-2", "warn", "x"),
        ({"problems": [problem("hook failed scaler-2", "warn")]}, "scaler/scaler-2", "warn", "x"),
        ({"problems": [problem("role collector")]}, "trouble/role-collector", "bad", "x"),
    ],
)
def test_what_is_not_well_is_found(given: dict[str, Any], name: str, level: str, says: str) -> None:
    [(found_name, found_level, found_says)] = found(seen(**given))
    assert (found_name, found_level) == (name, level)
    assert found_says.startswith(says)


def test_a_rule_that_is_off_finds_nothing_and_a_threshold_moves() -> None:
    given = seen(spools=[spool(depth=11)], instances=[row("c-1", load={"disk_used": 0.4})], share=Share(1, 1000))
    assert found(given) == []
    rules = Rules(spool_deep=SpoolDeep(threshold=10), disk=Disk(threshold=0.3), errors=Errors(threshold=0.0))
    assert [name for name, *_ in found(given, rules)] == ["spool_deep", "disk/c-1", "errors"]
    off = replace(rules, spool_deep=SpoolDeep(threshold=10, off=True), disk=Disk(off=True), errors=Errors(off=True))
    assert found(given, off) == []


def test_what_is_not_known_is_not_judged() -> None:
    unknown = seen(books=None, spools=[spool(depth=None)], share=None)
    assert judge(unknown, Rules()).unjudged == {"books", "spool_deep", "spool_old", "errors"}
    assert "books" in judge(seen(store=Store(reachable=False)), Rules()).unjudged


def test_of_datacenters_that_hear_one_another_the_first_tells_of_one_that_is_silent() -> None:
    def tells(mine: str, **states: Any) -> list[tuple[str, bool]]:
        given = Seen(part=part(dc=mine), dcs=others(**{mine: "up", **states}), share=Share(), wall=WALL)
        return [(sign.name, sign.begins) for sign in judge(given, Rules()).signs.values()]

    assert tells("eu", us="up", ap="dead") == [("datacenter_silent/ap", True)]
    assert tells("us", eu="up", ap="dead") == [("datacenter_silent/ap", False)]
    assert tells("us", eu="dead", ap="dead") == [("datacenter_silent/eu", True), ("datacenter_silent/ap", True)]
    assert tells("us", eu="silent", ap="dead") == [("datacenter_silent/eu", True), ("datacenter_silent/ap", True)]
    assert tells("us", eu="retired") == []


def test_one_disk_is_one_alert_whoever_is_on_it() -> None:
    rows = [row("c-1", load={"disk_used": 0.92}), row("c-2", load={"disk_used": 0.93})]
    on_one = [replace(each, node="app-1") for each in rows]
    [(name, _, says)] = found(seen(instances=on_one))
    assert (name, says) == ("disk/app-1", "the disk with the state folder of app-1 in eu is 93% full")


def test_what_another_rule_is_for_is_no_trouble_besides() -> None:
    facts = Facts(
        dc="eu",
        spools=[Spool(key="a", name="a", depth=60_000, oldest_s=9000.0, usable=False, why="full")],
        books=Books(balanced=False, age_s=0.0),
        disk_used=0.99,
        untold={"mail": "refused"},
    )
    problems = Problems().update(faults(facts), 0.0, WALL)
    assert {each.level for each in problems} >= {"bad"}
    names = {sign.rule for sign in judge(seen(problems=problems), Rules()).signs.values()}
    assert "trouble" not in names


def test_a_link_is_trouble_unless_its_datacenter_is_silent() -> None:
    problems = [problem("link us")]
    assert [name for name, *_ in found(seen(dcs=others(us="up"), problems=problems))] == ["trouble/link-us"]
    assert [name for name, *_ in found(seen(dcs=others(us="dead"), problems=problems))] == ["datacenter_silent/us"]


def test_hostile_names_are_text_and_fit_into_a_setting_key() -> None:
    evil = "x\r\nBcc: me\x1b[2J\u202e<b>/../é" + "y" * 400
    [(name, _, says)] = found(seen(spools=[spool(), spool(evil, usable=False, why=evil)]))
    assert name.startswith("spool_copy/x-Bcc-me-2J-b-..-yyy")
    assert len(name) <= 120
    assert says.isprintable()
    assert len(says) <= 200


def test_a_flood_of_signs_is_bounded() -> None:
    rows: list[Instance] = [row(f"c-{number}", load={"hub_lag_s": 9.0}) for number in range(3 * MAX_SIGNS)]
    assert len(judge(seen(instances=rows), Rules()).signs) == MAX_SIGNS


# --- the share of errors --------------------------------------------------------------------------


def balancer(requests: int, failed: int, name: str = "balancer-1", state: Any = "up") -> Instance:
    return row(name, state, load={"requests": requests, "failed": failed})


def test_what_was_before_the_first_look_is_of_no_minute() -> None:
    shares = Shares()
    assert shares.look([balancer(10_000, 5_000)], 0.0) == Share()
    assert shares.look([balancer(10_100, 5_010)], 5.0) == Share(10, 100)


def test_what_is_more_than_a_minute_ago_counts_no_more() -> None:
    shares = Shares()
    shares.look([balancer(0, 0)], 0.0)
    shares.look([balancer(100, 100)], 5.0)
    later = 5.0 + WINDOW_S + STEP_S
    assert shares.look([balancer(200, 100)], later) == Share(0, 100)


def test_few_answers_are_no_share() -> None:
    shares = Shares()
    shares.look([balancer(0, 0)], 0.0)
    assert shares.look([balancer(LEAST - 1, LEAST - 1)], 5.0) == Share()


def test_a_balancer_that_begins_anew_counts_from_there() -> None:
    shares = Shares()
    shares.look([balancer(1000, 500), balancer(0, 0, "balancer-2")], 0.0)
    assert shares.look([balancer(60, 3), balancer(40, 1, "balancer-2")], 5.0) == Share(4, 100)


def test_nobody_heard_is_no_share_of_anything() -> None:
    assert Shares().look([balancer(1, 0, state="dead")], 0.0) is None
    assert Shares().look([row("collector-1")], 0.0) == Share()
