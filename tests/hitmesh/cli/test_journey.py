"""A batch's way put together of what several processes tell: in order, whatever their clocks say, and as text."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hitmesh.cli.journey import Journey, as_json, batches, journey, lines
from hitmesh.protocol.stations import Known, PartOf, Station, Told

WORKER = "collector-1.0a0b0c0d0e0f"
OWNER = "processor-1.1a1b1c1d1e1f"
NEXT = "processor-2.2a2b2c2d2e2f"
T0 = 1_796_040_437_830.0
ONE: tuple[PartOf, ...] = ((7, 5),)
TWO: tuple[PartOf, ...] = ((7, 5), (8, 1))


def known(*, worker: str = WORKER, parts: tuple[PartOf, ...] = ONE, at_ms: float = T0, seq: int = 5) -> Known:
    return Known(name=f"{worker}:7:{seq}", worker=worker, at_ms=at_ms, parts=parts, matches=parts, hits=2)


def at(after_ms: float, what: str, parts: tuple[PartOf, ...] = ONE, *, worker: str = WORKER, **more: object) -> Station:
    return Station(at_ms=T0 + after_ms, what=what, worker=worker, parts=parts, **more)  # type: ignore[arg-type]


def own(after_ms: float, what: str, epoch: int, partition: int = 7) -> Station:
    return Station(at_ms=T0 + after_ms, what=what, partition=partition, epoch=epoch)


def collector(*stations: Station, name: str = "collector-1", some: Sequence[Known] = (), more: int = 0) -> Told:
    return Told(dc="eu-west", role="collector", name=name, stations=stations, known=tuple(some), more=more)


def processor(*stations: Station, name: str = "processor-1", some: Sequence[Known] = (), dc: str = "eu-west") -> Told:
    return Told(dc=dc, role="processor", name=name, stations=stations, known=tuple(some))


def words(of: Journey) -> list[tuple[str, str, bool]]:
    return [(stop.name, stop.station.what, stop.is_behind) for stop in of.stops]


FIRST = (at(0, "accepted"), at(1, "formed"), at(2, "in the spool, answered"), at(2, "sent", peer=OWNER, epoch=3))
AGAIN = at(4000, "sent", peer=NEXT, epoch=4, why="a new owner, or epoch")
ACKED = at(4300, "acked", epoch=4, commit=42)
TAKEN = (
    own(-9000, "took the partition over", 3),
    own(3900, "took the partition over", 4),
    at(4010, "staged"),
    at(4250, "committed", epoch=4, commit=42),
    at(4270, "committed there", dc="us-west", peer=OWNER, epoch=4, commit=43),
)


def test_a_way_through_a_take_over_is_a_table_with_every_station() -> None:
    told = [collector(*FIRST, AGAIN, ACKED, at(4320, "deleted from the spool")), processor(*TAKEN, name="processor-2")]
    assert lines(journey(known(), ONE, told)) == [
        "batch collector-1.0a0b0c0d0e0f:7:5: 2 hits in 1 part",
        "TIME          AFTER MS  WHO                  WHAT",
        "12:07:17.830  0.0       eu-west collector-1  accepted",
        "12:07:17.831  1.0       eu-west collector-1  formed",
        "12:07:17.832  2.0       eu-west collector-1  in the spool, answered",
        "12:07:17.832  2.0       eu-west collector-1  sent to processor-1: epoch 3",
        "12:07:21.730  3900.0    eu-west processor-2  took partition 7 over: epoch 4",
        "12:07:21.830  4000.0    eu-west collector-1  sent to processor-2: epoch 4, a new owner, or epoch",
        "12:07:21.840  4010.0    eu-west processor-2  staged",
        "12:07:22.080  4250.0    eu-west processor-2  committed: epoch 4, commit 42",
        "12:07:22.100  4270.0    eu-west processor-2  committed in us-west, by processor-1: epoch 4, commit 43",
        "12:07:22.130  4300.0    eu-west collector-1  acked: epoch 4, commit 42",
        "12:07:22.150  4320.0    eu-west collector-1  deleted from the spool",
        "2026-11-30, times in UTC, each of its own host's clock",
    ]


def set_by(shift_ms: float, *stations: Station) -> list[Station]:
    """As a host says it whose clock is set by that."""
    return [msgspec.structs.replace(each, at_ms=each.at_ms + shift_ms) for each in stations]


def test_what_a_clock_that_is_behind_says_stands_behind_its_cause_and_is_marked() -> None:
    told = [collector(*FIRST, AGAIN, ACKED), processor(*set_by(-3_600_000, *TAKEN), name="processor-2")]
    assert words(journey(known(), ONE, told))[-5:] == [
        ("collector-1", "sent", False),
        ("processor-2", "staged", True),
        ("processor-2", "committed", True),
        ("processor-2", "committed there", True),
        ("collector-1", "acked", False),
    ]
    shown = lines(journey(known(), ONE, told))
    assert shown[-1].startswith("* by that clock it was before its cause")
    assert sum("*  " in line for line in shown) == 3


def test_what_is_heard_of_one_whose_clock_is_ahead_stands_behind_it() -> None:
    deleted = at(4320, "deleted from the spool")
    told = [collector(*FIRST, AGAIN, ACKED, deleted), processor(*set_by(3_600_000, *TAKEN[:4]), name="processor-2")]
    assert words(journey(known(), ONE, told))[-5:] == [
        ("processor-2", "took the partition over", False),
        ("processor-2", "staged", False),
        ("processor-2", "committed", False),
        ("collector-1", "acked", True),
        ("collector-1", "deleted from the spool", True),
    ]


def test_an_owner_that_comes_back_and_finds_out_that_it_is_none_any_more_is_shown() -> None:
    back = processor(
        at(6000, "had it already", epoch=3), own(6012, "lost the partition", 0), own(90_000, "lost the partition", 0)
    )
    told = [collector(*FIRST, AGAIN, ACKED), processor(*TAKEN, name="processor-2"), back]
    assert words(journey(known(), ONE, told))[-2:] == [
        ("processor-1", "had it already", False),
        ("processor-1", "lost the partition", False),
    ]


def test_what_others_did_and_what_was_told_twice_isnt_in_it() -> None:
    others = (at(5, "staged", ((9, 5),)), at(5, "staged", worker="other"), own(5, "took the partition over", 4, 8))
    told = [collector(*FIRST), collector(*FIRST), processor(*others)]
    assert [what for _, what, _ in words(journey(known(), ONE, told))] == [
        "accepted", "formed", "in the spool, answered", "sent",
    ]  # fmt: skip


def test_stations_of_several_parts_at_once_are_one_line() -> None:
    told = [
        collector(at(0, "accepted", TWO)),
        processor(
            at(10, "staged", ((7, 5),)),
            at(10.2, "staged", ((8, 1),)),
            at(20, "committed", ((7, 5),), epoch=1, commit=4),
            at(20, "committed", ((8, 1),), epoch=1, commit=9),
            at(30, "committed there", ((8, 1),), dc="us-west", peer=NEXT, epoch=1, commit=9),
        ),
    ]
    said = [line.split("processor-1  ")[-1] for line in lines(journey(known(parts=TWO), TWO, told))[3:-1]]
    assert said == [
        "staged",
        "committed: epoch 1",
        "committed in us-west, by processor-2: epoch 1, commit 9, partition 8, number 1",
    ]


def test_a_batch_that_a_collector_knows_whole_isnt_shown_by_its_parts_too() -> None:
    whole, part = (
        known(parts=TWO),
        Known(name=f"{WORKER}:8:1", worker=WORKER, at_ms=T0, parts=((8, 1),), matches=((8, 1),)),
    )
    assert batches([processor(some=[part]), collector(some=[whole])], 9) == ([whole], 0)
    assert batches([processor(some=[part])], 9) == ([part], 0)


def test_the_newest_are_taken_and_who_else_there_is_is_counted() -> None:
    three = [known(at_ms=T0 + number, seq=5 + number) for number in range(3)]
    assert batches([collector(some=three[:2], more=4), collector(some=three[1:], name="collector-2")], 2) == (
        three[1:],
        5,
    )


def test_hostile_words_are_shown_as_text() -> None:
    evil = "a\x1b[2K\u202e\nb"
    told = [Told(dc=evil, role="collector", name=evil, stations=(at(0, "refused", peer=evil, why=evil),))]
    of = journey(known(), ONE, told)
    assert all(line.isprintable() for line in lines(of))
    assert any("a\\x1b[2K\\u202e\\nb" in line for line in lines(of))
    assert as_json(of)["stations"][0]["why"] == evil


def test_json_has_every_station_by_itself() -> None:
    told = [collector(*FIRST), processor(*TAKEN[2:], name="processor-2")]
    found = as_json(journey(known(), ONE, told))
    assert found["batch"] == f"{WORKER}:7:5"
    [there] = [each for each in found["stations"] if each["what"] == "committed there"]
    assert there == {
        "at_ms": T0 + 4270, "is_behind": False, "dc": "eu-west", "role": "processor", "name": "processor-2",
        "what": "committed there", "parts": [f"{WORKER}:7:5"], "peer": OWNER, "to_dc": "us-west", "epoch": 4, "commit": 43,
    }  # fmt: skip
