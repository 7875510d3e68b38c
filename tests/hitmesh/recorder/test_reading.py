"""What is recorded as people read it: in order, once, with its gaps, and with nothing that a terminal would obey."""

from __future__ import annotations

import logging
import re

import pytest

from hitmesh.protocol.messages import Entry, Gap, Records
from hitmesh.recorder.reading import Gathered, Wanted, as_json, lost_words, shown
from hitmesh.recorder.rows import rows_of
from tests.hitmesh.recorder.samples import DC, gap, line, records

ALL = Wanted(0, 2**60)


def gathered(*messages: Records | Gap, wanted: Wanted = ALL, limit: int = 1000) -> Gathered:
    found = Gathered(DC, wanted, limit)
    for one in messages:
        found.add(one)
    return found


def texts(found: Gathered) -> list[str]:
    return [one.entry.text for one in found.take()]


def test_lines_of_all_are_in_the_order_of_their_time() -> None:
    found = gathered(
        records(line("b", 20), line("d", 40)), records(line("a", 10), line("c", 30), name="nexus-1", role="nexus")
    )
    assert texts(found) == ["a", "b", "c", "d"]
    assert found.take() == []


def test_a_line_is_there_once_whoever_kept_it() -> None:
    one = records(line("a", 10), line("b", 20))
    assert texts(gathered(one, one, records(line("b", 20), first=2))) == ["a", "b"]


def test_numbers_that_nobody_has_are_a_gap_with_the_times_around_it() -> None:
    found = gathered(
        records(line("d", 40), first=9), records(line("a", 10), line("b", 20)), records(line("c", 30), first=3)
    )
    [lost] = found.lost()
    assert (lost.entries, lost.since_ms, lost.until_ms) == (5, 30, 40)
    assert lost_words(lost).startswith(
        "5 lines are missing of collector-1 of eu-west between 1970-01-01T00:00:00.030Z and 1970-01-01T00:00:00.040Z"
    )
    found.add(records(*[line("e", 35)] * 5, first=4))
    assert found.lost() == []


def test_each_process_has_numbers_of_its_own() -> None:
    found = gathered(records(line("a", 10), first=50), records(line("b", 20), id="collector-1.0b"))
    assert found.lost() == []


def test_what_a_recorder_could_not_keep_is_said_with_its_reason() -> None:
    [lost] = gathered(gap(10, 20, 7)).lost()
    assert lost_words(lost).endswith("it couldn't keep them: the disk is full")
    assert gathered(gap(10, 20, 7), wanted=Wanted(21, 30)).lost() == []


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (Wanted(20, 40), ["b", "c"]),
        (Wanted(0, 99, role="nexus"), ["c"]),
        (Wanted(0, 99, instance="collector-1"), ["a", "b", "d"]),
        (Wanted(0, 99, level=logging.WARNING), ["b"]),
        (Wanted(0, 99, pattern=re.compile("^[ad]$")), ["a", "d"]),
        (Wanted(0, 99, pattern=re.compile("page=x")), ["b"]),
        (Wanted(0, 99, role="nexus", statistics=True), ["c", ""]),
    ],
)
def test_only_what_is_wanted_is_shown(wanted: Wanted, chosen: list[str]) -> None:
    found = gathered(
        records(line("a", 10), line("b", 20, level=30, page="x"), line("d", 40)),
        records(line("c", 30), line("", 50, level=0, hits=3.0), name="nexus-1", role="nexus"),
        wanted=wanted,
    )  # fmt: skip
    assert texts(found) == chosen
    assert found.lost() == [], "what isn't shown isn't missing"


def test_what_is_missing_of_others_is_not_said() -> None:
    mine = [records(line("a", 10)), records(line("b", 20), first=3)]
    others = [
        records(line("c", 10), name="nexus-1", role="nexus"),
        records(line("d", 20), first=9, name="nexus-1", role="nexus"),
    ]
    for wanted in (Wanted(0, 99, role="collector"), Wanted(0, 99, instance="collector-1")):
        found = gathered(*mine, *others, gap(5, 6), wanted=wanted)
        assert [(lost.who, lost.entries) for lost in found.lost()] == [("recorder-1", 1), ("collector-1", 1)]
    assert len(gathered(*mine, *others).lost()) == 2


def test_whose_lines_there_are_is_known_whatever_is_wanted() -> None:
    found = gathered(records(line("a", 10)), wanted=Wanted(0, 99, instance="collector-2"))
    assert found.instances == {"collector-1"}


def test_past_the_limit_the_oldest_are_left_out_and_counted() -> None:
    found = gathered(*(records(line(str(n), n), first=n) for n in range(1, 101)), limit=10)
    assert texts(found) == [str(n) for n in range(91, 101)]
    assert found.left_out == 90


def test_hostile_text_is_shown_as_text() -> None:
    text = "\x1b[2J\u202e\ud800\r2026-01-01 forged\nTraceback:\n  x\x07"
    one = records(Entry(1000, 20, "hitmesh", text, {"k\n": "\x1b v"}), name="a-1")
    [shown_line] = gathered(one).take()
    said = list(shown(shown_line))
    assert all(each.isprintable() for each in said)
    assert said[0].startswith("1970-01-01T00:00:01.000Z eu-west a-1 INFO hitmesh: \\x1b[2J\\u202e\\ud800\\r2026")
    assert all(each.startswith("    ") for each in said[1:])
    assert as_json(shown_line)["text"] == text


def test_no_value_ends_its_field_or_begins_another_one() -> None:
    fields: dict[str, str | int | float | bool] = {
        "page": 'a" role="nexus',
        "why": "x\n2026-01-01 forged",
        "a b": "",
        "hits": 3.0,
        "path": "\\",
    }
    [one] = gathered(records(Entry(1000, 20, "hitmesh", "said", fields))).take()
    [only] = shown(one)
    assert only.endswith(
        r'said page="a\" role=\"nexus" why="x\n2026-01-01 forged" a_b="" hits=3 path="\\"',
    )


def test_a_time_that_is_none_is_shown_as_its_number() -> None:
    [one] = gathered(records(line("x", 2**59))).take()
    assert next(shown(one)).startswith(f"{2**59} ms eu-west")


def test_rows_are_numbers_of_minutes_whatever_an_entry_says() -> None:
    entry = line("", 125_000, level=0, hits=3.0, word="x", yes=True, **{"a b": 1.0, "nul\0": 2.0})
    [row] = rows_of(records(line("no figures"), entry))
    assert (row.minute_s, row.datacenter, row.role, row.instance, row.figures) == (
        120,
        DC,
        "collector",
        "collector-1",
        '{"hits":3.0}',
    )
    assert list(rows_of(records(line("", 2**60, level=0)))) == []
    assert list(rows_of(gap())) == []
