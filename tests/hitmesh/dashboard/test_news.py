"""What dashboards tell each other: bounded, believed of their own datacenter only, and as old as our clock says."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import pytest

from hitmesh.dashboard import news
from hitmesh.dashboard.news import Board, news_of, part_of
from hitmesh.dashboard.status import EVENTS, Event, Hits, Instance, Part
from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import MAX_DCS, MAX_NEWS_BYTES, News, decode, encode, make

as_json = msgspec.json.encode


def instance(name: str = "collector-1", **more: Any) -> Instance:
    return Instance(**{"key": name, "name": name, "role": "collector", "node": "", "state": "up", "since": 1.0, **more})


def part(dc: str = "us", at: float = 100.0, **more: Any) -> Part:
    return Part(dc=dc, at=at, hits=Hits(count=3), **more)


def packed(data: bytes, dc: str = "us") -> News:
    return make(News, dc, "dashboard-1.0a", 1, 1, zlib.compress(data))


def test_a_part_comes_as_it_was_told() -> None:
    told = part(instances=[instance()], heard={"eu": 0.5})
    found = part_of(decode(encode(news_of(told, dashboard="d.0a", number=3)), News), "us")
    assert as_json(found) == as_json(told)


def test_fields_of_a_later_release_are_skipped() -> None:
    data = msgspec.to_builtins(part()) | {"weather": "fine"}
    assert as_json(part_of(packed(as_json(data)), "us")) == as_json(part())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (packed(as_json(part("eu")), "eu"), "a dashboard of us tells of eu"),
        (packed(as_json(part("eu"))), "a part of 'eu', told of us"),
        (make(News, "us", "d", 1, 2, b""), "format 2, and this release reads 1"),
        (make(News, "us", "d", 1, 1, b""), "cut off"),
        (make(News, "us", "d", 1, 1, b"\x00" * 100), "while decompressing"),
        (make(News, "us", "d", 1, 1, zlib.compress(b"{}")[:-5]), "cut off"),
        (packed(b" " * (news.MAX_PART_BYTES + 1)), "cut off, or more than"),
        (packed(b"{}"), "missing required field"),
        (packed(b"[" * 10_000), "recursion|Expected"),
        (packed(b'{"dc": "\xff"}'), "UTF-8|utf-8"),
        (packed(as_json(part(instances=[instance("<b>")]))), "an instance that can't be one: '<b>'"),
        (packed(as_json(part(instances=[instance(hour="u" * 61)]))), "an instance that can't be one"),
        (packed(as_json(part(heard=dict.fromkeys(map(str, range(65)), 1.0)))), "65 datacenters"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(bad: News, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        part_of(bad, "us")


def test_what_is_too_much_for_one_message_goes_without_what_is_least_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [instance(f"collector-{n}", hour="u" * 60, days="x" * 90) for n in range(500)]
    events = [Event(key=str(n), at=1.0, dc="us", kind="joined", says="x") for n in range(EVENTS)]
    told = part(instances=many, events=events)
    monkeypatch.setattr(news, "MAX_NEWS_BYTES", len(news_of(told, dashboard="d", number=1).packed) - 1)
    found = part_of(news_of(told, dashboard="d", number=1), "us")
    assert [(one.name, one.hour) for one in found.instances] == [(one.name, "") for one in many]
    assert len(found.events) < EVENTS


def test_a_datacenter_of_a_thousand_instances_fits_well() -> None:
    many = [instance(f"collector-{n}", hour="ux" * 30, days="u" * 90, version="0.3.0", beats=n) for n in range(1000)]
    assert len(news_of(part(instances=many), dashboard="d", number=1).packed) < MAX_NEWS_BYTES / 10


class Stage:
    """A board, told by `hear` what a dashboard says at a moment of ours."""

    def __init__(self) -> None:
        self.board = Board()
        self.numbers: dict[str, int] = {}

    def hear(self, dashboard: str, at: float, now: float, dc: str = "us") -> bool:
        number = self.numbers[dashboard] = self.numbers.get(dashboard, 0) + 1
        told = part(dc, at, virtual_ip=dashboard)
        return self.board.hear(news_of(told, dashboard=dashboard, number=number), told, now, now)

    def shown(self, now: float, dc: str = "us") -> tuple[str, float]:
        found = self.board.parts(now, 5000.0 + now)[dc]
        return found.virtual_ip, found.at


def test_how_old_a_part_is_our_clock_says() -> None:
    stage = Stage()
    stage.hear("a", 9e9, 10.0)  # by a clock that is far ahead
    assert stage.shown(now=13.0) == ("a", 5010.0)


def test_of_two_dashboards_of_a_datacenter_the_later_word_counts() -> None:
    stage = Stage()
    stage.hear("a", 100.0, 10.0)
    stage.hear("b", 99.5, 10.4)
    assert stage.shown(now=10.5)[0] == "a"
    stage.hear("b", 100.5, 11.4)
    assert stage.shown(now=11.5)[0] == "b"


def test_one_that_died_with_a_clock_far_ahead_is_not_believed_for_ever() -> None:
    stage = Stage()
    stage.hear("a", 9e9, 10.0)
    stage.hear("b", 100.0, 10.4)
    assert stage.shown(now=11.0)[0] == "a"
    stage.hear("b", 104.0, 14.4)
    assert stage.shown(now=15.5)[0] == "b"


def test_of_two_that_both_fell_silent_the_one_that_was_heard_last_is_shown() -> None:
    stage = Stage()
    stage.hear("a", 9e9, 10.0)
    stage.hear("b", 104.0, 14.4)
    assert stage.shown(now=60.0)[0] == "b"


def test_the_last_word_of_a_datacenter_that_fell_silent_stays_and_grows_old() -> None:
    stage = Stage()
    stage.hear("a", 100.0, 10.0)
    assert stage.shown(now=1000.0) == ("a", 5010.0)
    assert stage.board.parts(1000.0, 6000.0, {"us"}) == {}


def test_what_comes_late_changes_nothing() -> None:
    stage = Stage()
    stage.hear("a", 100.0, 10.0)
    late = part(at=99.0, virtual_ip="late")
    assert not stage.board.hear(news_of(late, dashboard="a", number=1), late, 10.5, 10.5)
    assert stage.shown(now=11.0)[0] == "a"


def test_no_more_datacenters_are_kept_than_there_may_be() -> None:
    stage = Stage()
    for n in range(MAX_DCS):
        told = part(f"dc-{n}")
        assert stage.board.hear(news_of(told, dashboard="a", number=1), told, 1.0, 1.0)
    told = part("one-more")
    assert not stage.board.hear(news_of(told, dashboard="a", number=1), told, 1.0, 1.0)
    assert len(stage.board.parts(2.0, 2.0)) == MAX_DCS


def test_dashboards_that_were_restarted_again_and_again_leave_nothing_behind() -> None:
    stage = Stage()
    for n in range(50):
        stage.hear(f"dashboard-1.{n}", 1.0 + n, 10.0 * n)
    assert len(stage.board._heard) <= 2


def test_how_far_another_clock_is_away_is_the_least_of_what_was_seen_lately() -> None:
    board = Board()
    for number, way_s in enumerate((0.3, 0.1, 0.2)):
        told = part(at=1000.0 + number)
        assert board.hear(news_of(told, dashboard="d", number=number + 1), told, 10.0 + number, 400.0 + number + way_s)
    assert board.offsets(12.0) == {"d": -599.9}
    for number in range(news.OFFSETS):  # its clock was set
        told = part(at=number)
        assert board.hear(news_of(told, dashboard="d", number=number + 9), told, 13.0, number + 0.25)
    assert board.offsets(13.0) == {"d": 0.25}
    assert board.offsets(13.0 + news.HEARD_S + 1) == {}, "who isn't heard has no clock"
