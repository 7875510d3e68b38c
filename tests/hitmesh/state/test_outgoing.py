"""What waits for a recorder: numbered, bounded, cut into batches, and handed to the right one."""

from __future__ import annotations

import math
import threading

import pytest

from hitmesh.protocol.messages import (
    MAX_ENTRY_CHARS,
    MAX_FIELD_CHARS,
    MAX_FIELD_TEXT_CHARS,
    MAX_FIELDS,
    MAX_RECORD_ENTRIES,
    Entry,
    Instance,
    Records,
    decode,
    encode,
)
from hitmesh.state.keylist import Peer
from hitmesh.state.outgoing import (
    BATCH_BYTES,
    MAX_BYTES,
    MAX_ENTRIES,
    STATISTICS,
    Outgoing,
    entry_of,
    figures_of,
    in_order,
    size_of,
)

WHO = Peer("eu-west", "collector", "collector-1")


def entry(text: str = "x") -> Entry:
    return Entry(1, 20, "hitmesh", text, {})


def outgoing() -> Outgoing:
    return Outgoing(WHO, "collector-1.0a")


def drain(waiting: Outgoing) -> list[Records]:
    found = []
    while (batch := waiting.batch()) is not None:
        assert decode(encode(batch), Records) == batch
        found.append(batch)
        waiting.taken(batch)
    return found


def test_entries_leave_in_their_order_each_with_the_next_number() -> None:
    waiting = outgoing()
    for number in range(3):
        waiting.put(entry(str(number)))
    [batch] = drain(waiting)
    assert (batch.dc, batch.role, batch.name, batch.id) == (*WHO, "collector-1.0a")
    assert (batch.first, [each.text for each in batch.entries]) == (1, ["0", "1", "2"])
    waiting.put(entry("3"))
    assert [one.first for one in drain(waiting)] == [4]


def test_what_nobody_took_is_offered_again() -> None:
    waiting = outgoing()
    waiting.put(entry())
    assert waiting.batch() == waiting.batch()
    assert waiting.dropped == 0


def test_past_the_bound_the_oldest_go_and_are_counted() -> None:
    waiting = outgoing()
    for number in range(MAX_ENTRIES + 7):
        waiting.put(entry(str(number)))
    assert waiting.dropped == 7
    batches = drain(waiting)
    assert (batches[0].first, batches[0].dropped, batches[0].entries[0].text) == (8, 7, "7")
    assert sum(len(one.entries) for one in batches) == MAX_ENTRIES
    assert {one.dropped for one in batches} == {7}
    waiting.put(entry())
    assert [one.dropped for one in drain(waiting)] == [7]
    assert waiting.dropped == 7


def test_the_bound_is_one_of_bytes_too() -> None:
    waiting = outgoing()
    one = entry("x" * MAX_ENTRY_CHARS)
    fit = MAX_BYTES // size_of(one)
    for _ in range(fit + 3):
        waiting.put(one)
    assert waiting.dropped == 3


def test_a_batch_ends_at_its_entries_and_at_its_bytes() -> None:
    waiting = outgoing()
    for _ in range(MAX_RECORD_ENTRIES + 1):
        waiting.put(entry(""))
    assert [len(one.entries) for one in drain(waiting)] == [MAX_RECORD_ENTRIES, 1]
    for _ in range(20):
        waiting.put(entry("x" * MAX_ENTRY_CHARS))
    assert all(len(encode(one)) <= BATCH_BYTES + 2 * MAX_ENTRY_CHARS for one in drain(waiting))


def test_what_went_while_a_batch_was_on_its_way_was_in_it() -> None:
    waiting = outgoing()
    for number in range(MAX_ENTRIES):
        waiting.put(entry(str(number)))
    batch = waiting.batch()
    assert batch is not None
    for number in range(len(batch.entries)):
        waiting.put(entry(f"more {number}"))
    waiting.taken(batch)
    assert waiting.dropped == 0
    assert sum(len(one.entries) for one in drain(waiting)) == MAX_ENTRIES


def test_threads_may_put_at_once_and_every_entry_is_there_or_counted() -> None:
    waiting = Outgoing(WHO, "collector-1.0a", threading.RLock())

    def put() -> None:
        for _ in range(3000):
            waiting.put(entry())

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batches = drain(waiting)
    assert [one.first for one in batches[1:]] == [one.first + len(one.entries) for one in batches[:-1]]
    assert sum(len(one.entries) for one in batches) + waiting.dropped == 12_000


def test_a_line_is_cut_to_what_every_recorder_takes() -> None:
    fields: dict[object, object] = {f"f{number}": number for number in range(2 * MAX_FIELDS)}
    one = entry_of(1.5, 30, "l" * 200, "t" * 20_000, fields)
    assert (one.at_ms, len(one.logger), len(one.text), len(one.fields)) == (
        1500,
        MAX_FIELD_CHARS,
        MAX_ENTRY_CHARS,
        MAX_FIELDS,
    )
    one = entry_of(-5, 1000, "", "", {"": 1, "f" * 200: "v" * 9000, "g": None, "h": 2**80})
    assert (one.at_ms, one.level, one.logger) == (0, 100, "-")
    assert one.fields == {"f" * MAX_FIELD_CHARS: "v" * MAX_FIELD_TEXT_CHARS, "g": "None", "h": str(2**80)}
    assert entry_of(0, 0, "l", "t", None).level > STATISTICS, "a line is never taken for figures"


@pytest.mark.parametrize("text", ["\ud800", "a\x00\x1b[2Jb", "\u202eevil", "\udcff\n2026-01-01 forged"])
def test_hostile_text_and_numbers_can_be_sent(text: str) -> None:
    waiting = outgoing()
    waiting.put(entry_of(0, 20, text, text, {text: text, "nan": math.nan, "inf": -math.inf, "big": 1e300}))
    [batch] = drain(waiting)
    assert batch.entries[0].fields["nan"] == "nan"


def test_figures_are_numbers_that_can_be_sent() -> None:
    figures = {"hits": 3, "nan": math.nan, "inf": math.inf, "": 1.0, "huge": 1e300, "k" * 100: 2}
    one = figures_of(figures, 60_000)
    assert (one.at_ms, one.level, one.fields) == (60_000, STATISTICS, {"hits": 3.0, "k" * MAX_FIELD_CHARS: 2.0})
    assert len(figures_of({f"f{number}": 1.0 for number in range(1000)}, 0).fields) == MAX_FIELDS


def recorder(name: str, state: str = "up") -> Instance:
    return Instance("eu-west", "recorder", name, f"{name}.0a", state, 1, 0, {}, {}, {})


def test_each_process_has_its_own_first_recorder_and_those_that_fail_or_stop_come_last() -> None:
    pair = [recorder("recorder-1"), recorder("recorder-2")]
    firsts = [in_order(pair, f"collector-{number}.0a")[0].name for number in range(200)]
    assert 50 < firsts.count("recorder-1") < 150
    assert firsts == [in_order(reversed(pair), f"collector-{number}.0a")[0].name for number in range(200)]
    for state in ("failing: the disk is full", "draining"):
        pair = [recorder("recorder-1", state), recorder("recorder-2")]
        assert {in_order(pair, f"collector-{number}.0a")[0].name for number in range(50)} == {"recorder-2"}
