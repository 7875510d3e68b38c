"""Events: what has happened, and why."""

from __future__ import annotations

import msgspec

from hitmesh.dashboard.events import MAX_SET, SETTLED_S, Events
from hitmesh.dashboard.instances import Turn
from hitmesh.dashboard.status import EVENTS
from hitmesh.settings import Edition
from hitmesh.settings.trail import Entry
from hitmesh.settings.wanted import Change, Wanted, encode

WALL = 1_700_000.0


def edition(key: str, value: bytes | None, version: int, author: str = "ann") -> Edition:
    return Edition(key, value, version, author, 0.0)


def told(events: Events) -> list[tuple[str, str, str, str]]:
    return [(each.kind, each.who, each.says, each.cause) for each in events.newest()]


def test_turns_are_told_with_their_cause() -> None:
    events = Events("eu")
    events.turned([Turn("died", "collector-1", "collector", "no heartbeat for 3.1 s")], 0.0, WALL)
    events.turned([Turn("recovered", "processor-1", "processor", "")], 1.0, WALL + 1)
    assert told(events) == [
        ("recovered", "processor-1", "processor-1 is well again", ""),
        ("died", "collector-1", "collector-1 died", "no heartbeat for 3.1 s"),
    ]
    assert [each.at for each in events.newest()] == [WALL + 1, WALL]


def test_a_take_over_is_one_event_with_its_cause() -> None:
    events = Events("eu")
    events.owned({0: "processor-1", 1: "processor-2", 2: "processor-2", 3: "processor-2"}, 0.0, WALL)
    events.turned([Turn("died", "processor-2", "processor", "")], 3.0, WALL)
    events.owned({0: "processor-1"}, 3.0, WALL)
    events.owned({0: "processor-1", 1: "processor-1", 2: "processor-3"}, 3.5, WALL)
    events.owned({0: "processor-1", 1: "processor-1", 2: "processor-3", 3: "processor-1"}, 4.0, WALL)
    events.owned({0: "processor-1", 1: "processor-1", 2: "processor-3", 3: "processor-1"}, 4.1 + SETTLED_S, WALL)
    assert sorted(told(events)[:2]) == [
        ("took over", "processor-1", "processor-1 took over 2 partitions of processor-2", "processor-2 died"),
        ("took over", "processor-3", "processor-3 took over partition 2 of processor-2", "processor-2 died"),
    ]


def test_what_is_handed_over_by_the_living_is_so_called() -> None:
    events = Events("eu")
    events.owned({0: "processor-1", 1: "processor-1"}, 0.0, WALL)
    events.owned({0: "processor-1", 1: "processor-2"}, 10.0, WALL)
    events.owned({0: "processor-1", 1: "processor-2"}, 12.0, WALL)
    assert told(events) == [
        ("took over", "processor-2", "processor-2 took over partition 1 of processor-1", "processor-1 handed it over")
    ]


def test_what_a_scaler_changes_is_told_once_with_why() -> None:
    def stands(version: int, *changes: Change) -> dict[str, Edition]:
        value = encode(Wanted("scaler-1.0a", {"a": {"collector": 3}}, changes))
        return {"deploys/scaler/eu": edition("deploys/scaler/eu", value, version, "scaler")}

    up = Change(at=WALL + 5, role="collector", node="a", was=2, now=3, why="2 use 90% of a CPU each")
    hook = Change(at=WALL + 9, role="collector", node="", was=3, now=5, why="a has 3 of 3")
    events = Events("eu")
    events.changed(stands(1), WALL)
    events.changed(stands(2, up), WALL)
    events.changed(stands(3, up, hook), WALL)
    events.changed({"deploys/scaler/eu": edition("deploys/scaler/eu", b"nonsense", 4)}, WALL)
    events.changed({"deploys/scaler/us": edition("deploys/scaler/us", encode(Wanted("", {}, (up,))), 5)}, WALL)
    assert told(events) == [
        ("scaled", "scaler-1", "collector: 5 are needed, and there is room for 3: the hook is told", "a has 3 of 3"),
        ("scaled", "scaler-1", "collector 2 -> 3, on a", "2 use 90% of a CPU each"),
    ]
    assert events.newest()[1].at == WALL + 5


def test_settings_are_told_with_who_set_them() -> None:
    events = Events("eu")
    first = {"timing.commit_s": edition("timing.commit_s", b"0.5", 1)}
    events.changed(first, WALL)
    assert told(events) == []
    events.changed(
        {
            "timing.commit_s": edition("timing.commit_s", None, 4),
            "routes/a.example": edition("routes/a.example", b"{}", 2, "bob"),
            "datacenters/us": edition("datacenters/us", b"retired", 3),
        },
        WALL,
    )
    assert sorted(told(events)) == [
        ("set", "ann", "datacenter us was retired", ""),
        ("set", "ann", "timing.commit_s was unset", ""),
        ("set", "bob", "the route of a.example was set", ""),
    ]


def test_many_settings_at_once_are_few_events() -> None:
    events = Events("eu")
    events.changed({}, WALL)
    events.changed({f"k{number}": edition(f"k{number}", b"1", number) for number in range(500)}, WALL)
    assert len(told(events)) == MAX_SET + 1
    assert told(events)[0][2] == "480 more settings were changed"


def test_deploys_of_this_datacenter_are_told_from_the_trail() -> None:
    events = Events("eu")
    old = Entry(at=5.0, who="ann", what="deploy", result="done", release="0.3.0", seconds=41.0)
    new = Entry(at=9.0, who="bob", what="deploy", result="rolled back: no", release="0.4.0", seconds=17.0)
    key = "deploys/eu/trail"
    events.changed({key: edition(key, msgspec.json.encode([old]), 1)}, WALL)
    events.changed(
        {
            key: edition(key, msgspec.json.encode([old, new]), 2),
            "deploys/us/trail": edition("deploys/us/trail", msgspec.json.encode([new]), 3),
            "deploys/eu/lock": edition("deploys/eu/lock", b"what", 4),
        },
        WALL,
    )
    assert told(events) == [("deployed", "bob", "deploy of 0.4.0: rolled back: no", "in 17 s")]
    assert events.newest()[0].at == 9.0


def test_a_silence_is_told_with_who_and_why_and_what_dashboards_remember_is_not() -> None:
    events = Events("eu")
    key = "deploys/alerts/silences/*/disk"
    events.changed({}, WALL)
    memory = {"deploys/alerts/eu/memory": edition("deploys/alerts/eu/memory", b"{}", 1)}
    events.changed({**memory, key: edition(key, b'{"until": 1.9e9, "why": "room\\u202e"}', 2)}, WALL)
    events.changed({**memory, key: edition(key, None, 3)}, WALL)
    assert told(events) == [
        ("alert", "ann", "*/disk isn't silenced any more", ""),
        ("alert", "ann", "*/disk is silenced", "room\\u202e"),
    ]


def test_a_trail_that_is_none_is_no_event() -> None:
    events = Events("eu")
    key = "deploys/eu/trail"
    events.changed({}, WALL)
    events.changed({key: edition(key, b"{[", 2)}, WALL)
    assert told(events) == []


def test_numbers_rise_over_restarts_and_the_list_is_bounded() -> None:
    events = Events("eu")
    for number in range(EVENTS + 7):
        events.add("joined", f"c-{number}", "joined", "", WALL)
    saved = events.unsaved()
    assert len(events.newest()) == len(saved) == EVENTS
    assert events.unsaved() == []
    again = Events("eu")
    assert again.unpack({**dict(saved), 1: b"\xff"}) == 1
    assert list(again.newest()) == list(events.newest())
    newer = again.add("left", "c-1", "left", "", WALL - 500)
    assert newer.key not in {each.key for each in events.newest()}
    assert len({each.key for each in again.newest()}) == EVENTS


def test_what_others_wrote_is_cut() -> None:
    events = Events("eu")
    made = events.add("set", "a" * 5000, "b" * 5000, "c" * 5000, WALL)
    assert max(len(made.who), len(made.says), len(made.cause)) <= 300


def test_a_partition_that_nobody_had_is_not_taken_from_anybody() -> None:
    events = Events("eu")
    events.owned({0: "processor-1"}, 0.0, WALL)
    events.owned({0: "processor-1", 1: "processor-1"}, 1.0, WALL)
    events.owned({0: "processor-1", 1: "processor-1"}, 1.1 + SETTLED_S, WALL)
    assert told(events) == []
