"""All parts into one status."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hitmesh.dashboard.merging import FIRST_S, Around, Merging, Told
from hitmesh.dashboard.status import Event, Hits, Link, Part, Problem, SeenFrom, Status
from tests.hitmesh.dashboard.seen import row

WALL = 1_000_000.0
NOTHING = Around()


def part(dc: str, count: int | None, **what: Any) -> Part:
    return Part(**{"dc": dc, "at": WALL, "hits": Hits(count=count, per_s=10.0), "instances": [row("nexus-1")], **what})


def merging() -> Merging:
    return Merging(SeenFrom(dc="eu", name="dashboard-1", version="1", uptime_s=0.0), 0.0)


def status(own: Part, now: float = 100.0, around: Around = NOTHING, **others: tuple[Part, float]) -> Status:
    told = {dc: Told(each, age_s) for dc, (each, age_s) in others.items()}
    return merging().status(own, told, around, now, WALL)


def event(dc: str, at: float) -> Event:
    return Event(key=f"{dc} {at}", at=at, dc=dc, kind="joined", says="it joined")


def test_the_total_is_the_sum_of_everybodys_own_word() -> None:
    found = status(part("eu", 5, heard={"us": 1.0}), us=(part("us", 7), 0.5))
    assert (found.total.hits, found.total.per_s) == (12, 20.0)
    assert (found.ok, found.says) == (True, "all is well")
    assert {dc: (each.state, each.age_s) for dc, each in found.dcs.items()} == {"eu": ("up", 0.0), "us": ("up", 0.5)}
    assert list(found.dcs) == ["eu", "us"]


def test_one_whose_dashboard_is_silent_keeps_its_last_part_and_gets_older() -> None:
    found = status(part("eu", 5, heard={"us": 1.0}), us=(part("us", 7), 41.0))
    us = found.dcs["us"]
    assert (us.state, us.age_s, us.hits.count, us.hits.per_s, us.hits.age_s) == ("silent", 41.0, 7, 0.0, 41.0)
    assert len(us.instances) == 1
    assert found.total.hits == 12
    assert found.says == "the dashboard of us isn't heard: what is shown of it is old"


def test_who_was_stopped_itself_calls_nobody_silent_for_that_while() -> None:
    merged, own, us = merging(), part("eu", 5, heard={"us": 1.0}), part("us", 7)
    assert merged.status(own, {"us": Told(us, 0.5)}, NOTHING, 100.0, WALL).ok
    assert merged.status(own, {"us": Told(us, 60.5)}, NOTHING, 160.0, WALL).ok
    assert merged.status(own, {"us": Told(us, 61.5)}, NOTHING, 161.0, WALL).ok
    for now in (162.0, 163.0, 163.5):
        last = merged.status(own, {"us": Told(us, now - 99.5)}, NOTHING, now, WALL)
    assert last.dcs["us"].state == "silent"


def test_one_of_which_nobody_is_heard_is_dead() -> None:
    found = status(part("eu", 5), us=(part("us", 7), 41.0))
    assert found.dcs["us"].state == "dead"
    assert found.says == "datacenter us is out of reach: nobody there is heard; its last count stands"


def test_a_newer_copy_here_stands_in_for_the_word_of_a_silent_one() -> None:
    around = Around(copies={"us": Hits(count=9, age_s=3.0)})
    own = part("eu", 5, heard={"us": 1.0})
    assert status(own, around=around, us=(part("us", 7), 41.0)).dcs["us"].hits == Hits(count=9, age_s=3.0)
    assert status(own, around=around, us=(part("us", 12), 41.0)).dcs["us"].hits.count == 12
    assert status(own, around=around, us=(part("us", 7), 0.5)).dcs["us"].hits.count == 7


def test_one_without_a_dashboard_is_shown_with_what_is_known_here() -> None:
    around = Around(expected=["us", "ap"], copies={"us": Hits(count=9, age_s=3.0)})
    own = part("eu", 5, heard={"us": 1.0})
    found = status(own, around=around)
    assert {dc: (each.state, each.hits.count) for dc, each in found.dcs.items()} == {
        "eu": ("up", 5), "ap": ("dead", None), "us": ("silent", 9)
    }  # fmt: skip
    assert found.total.hits == 14
    assert {each.dc: each.level for each in found.problems} == {"ap": "bad"}


def test_each_datacenter_that_is_away_is_a_problem_of_its_own() -> None:
    found = status(part("eu", 5, heard={"us": 1.0}), us=(part("us", 7), 41.0), ap=(part("ap", 7), 41.0))
    assert {each.key for each in found.problems} == {"us datacenter", "ap datacenter"}


def test_a_dashboard_that_begins_calls_nobody_dead_of_whom_there_was_no_time_to_hear() -> None:
    found = status(part("eu", 5), around=Around(expected=["ap"]), now=FIRST_S - 1)
    assert (found.dcs["ap"].state, found.ok) == ("silent", True)


def test_a_retired_one_is_no_problem_and_stays_in_the_sum() -> None:
    around = Around(expected=["us"], retired=["us"], copies={"us": Hits(count=9)})
    found = status(part("eu", 5), around=around)
    assert (found.dcs["us"].state, found.total.hits, found.ok) == ("retired", 14, True)


def test_nobody_knows_is_not_zero() -> None:
    assert status(part("eu", None)).total.hits is None


def test_problems_of_all_are_together_the_worst_first() -> None:
    def problem(dc: str, level: Any) -> Problem:
        return Problem(key=f"{dc} p", level=level, kind="store", dc=dc, says=f"{dc} is so", since=0.0)

    own = part("eu", 5, problems=[problem("eu", "warn")], heard={"us": 1.0})
    found = status(own, us=(part("us", 7, problems=[problem("us", "bad")]), 0.5))
    assert [each.dc for each in found.problems] == ["us", "eu"]
    assert found.says == "us is so, and 1 more problem"
    assert not found.ok
    gone = status(part("eu", 5), us=(part("us", 7, problems=[problem("us", "bad")]), 50.0))
    assert [each.kind for each in gone.problems] == ["datacenter"], "what a dead one said last is no news"


def test_links_are_whose_word_hears_them_and_old_words_are_none() -> None:
    def link(source: str, target: str) -> Link:
        return Link(key=f"{source}>{target}", source=source, target=target, state="up")

    own = part("eu", 5, links=[link("us", "eu")], heard={"us": 1.0})
    us = part("us", 7, links=[link("eu", "us"), link("xx", "us"), link("us", "eu")])
    assert [(each.key, each.state) for each in status(own, us=(us, 0.5)).links] == [("eu>us", "up"), ("us>eu", "up")]
    assert [(each.key, each.state) for each in status(own, us=(us, 9.0)).links] == [("eu>us", "late"), ("us>eu", "up")]


def test_a_links_delay_is_half_of_there_and_back_whatever_the_clocks_say() -> None:
    def tells(dc: str, offsets: dict[str, float], *sources: str, who: str = "") -> Part:
        links = [Link(key=f"{source}>{dc}", source=source, target=dc, state="up") for source in sources]
        return part(dc, 5, who=who or f"d.{dc}", offsets=offsets, links=links)

    # us's clock is an hour behind ours, and ap's two hours before it; the ways take 0.1 and 0.05 s.
    own = tells("eu", {"d.us": 3600.1, "d.ap": -7199.95}, "us", "ap")
    us = tells("us", {"d.eu": -3599.9, "d.ap": -10799.95}, "eu", "ap")
    ap = tells("ap", {"d.eu": 7200.05, "d.us": 10800.05}, "eu", "us")
    found = {each.key: each.delay_s for each in status(own, us=(us, 0.5), ap=(ap, 0.5)).links}
    assert found == {"us>eu": 0.1, "eu>us": 0.1, "ap>eu": 0.05, "eu>ap": 0.05, "ap>us": 0.05, "us>ap": 0.05}
    silent = {each.key: each.delay_s for each in status(own, us=(us, 9.0), ap=(ap, 0.5)).links}
    assert (silent["us>eu"], silent["eu>us"], silent["us>ap"], silent["ap>eu"]) == (None, None, None, 0.05)
    twin = tells("us", {"d.eu": -3599.9}, "eu", who="d2.us")
    assert status(own, us=(twin, 0.5)).links[0].delay_s is None, "another dashboard has another clock"
    stepped = tells("us", {"d.eu": 3600.0}, "eu")
    assert status(own, us=(stepped, 0.5)).links[0].delay_s is None


def test_events_of_all_are_one_list_the_newest_first() -> None:
    own = part("eu", 5, events=[event("eu", 3.0), event("eu", 1.0)])
    found = status(own, us=(part("us", 7, events=[event("us", 2.0)]), 0.5))
    assert [each.at for each in found.events] == [3.0, 2.0, 1.0]


@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.floats(0, 100), st.integers(0, 100), st.booleans()), min_size=1, max_size=12
    )
)
def test_whatever_is_heard_no_count_is_below_what_was_said_and_known(looks: list[tuple[int, float, int, bool]]) -> None:
    """The last part of a datacenter and our copy of its rows grow; what is shown is never less than the older of them."""
    merged = merging()
    said = copied = 0
    for more, age_s, copy, is_heard in looks:
        said, copied = said + more, max(copied, min(copy, said + more))
        own = part("eu", 5, heard={"us": 1.0} if is_heard else {})
        around = Around(copies={"us": Hits(count=copied)})
        found = merged.status(own, {"us": Told(part("us", said), age_s)}, around, 100.0, WALL)
        assert found.total.hits == 5 + max(said, copied)
        assert found.dcs["us"].state == ("up" if age_s <= 3.0 else "silent" if is_heard else "dead")
