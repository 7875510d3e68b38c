"""What a recorder has taken and not yet kept: bounded, and what goes is named."""

from __future__ import annotations

from hitmesh.protocol.messages import MAX_ENTRY_CHARS, Gap, Records, decode
from hitmesh.recorder import pending
from hitmesh.recorder.blocks import MAX_RAW_BYTES, pack
from hitmesh.recorder.pending import MAX_BYTES, Pending
from tests.hitmesh.recorder.samples import gap, line, records

LONG = "x" * MAX_ENTRY_CHARS


def written(waiting: Pending) -> list[Records | Gap]:
    """What of it gets written, block by block."""
    found: list[Records | Gap] = []
    while len(waiting):
        items = waiting.batch()
        assert len(pack(items)) < 2 * MAX_RAW_BYTES
        found += [decode(data, Records, Gap) for data, _, _ in items]
        waiting.kept()
    return found


def test_what_is_taken_is_written_once() -> None:
    waiting = Pending("recorder-1")
    messages = [records(line(str(number)), first=number + 1) for number in range(50)]
    for one in messages:
        waiting.add(one)
    assert written(waiting) == messages
    assert (len(waiting), waiting.size_bytes, waiting.dropped) == (0, 0, 0)


def test_a_write_that_fails_loses_nothing() -> None:
    waiting = Pending("recorder-1")
    waiting.add(records(line()))
    waiting.batch()
    waiting.failed("the disk is full")
    waiting.add(records(line(), first=2))
    assert written(waiting) == [records(line()), records(line(), first=2)]


def fill(waiting: Pending, count: int, *, start: int = 0) -> None:
    for number in range(start, start + count):
        waiting.add(records(line(LONG, number), first=number + 1))


def test_past_the_bound_the_oldest_goes_and_a_gap_before_what_follows_says_so() -> None:
    waiting = Pending("recorder-1")
    waiting.failed("the disk is full")
    many = 2 * MAX_BYTES // MAX_ENTRY_CHARS
    fill(waiting, many)
    assert waiting.size_bytes <= MAX_BYTES
    first, *others = written(waiting)
    assert isinstance(first, Gap)
    assert first == gap(0, waiting.dropped - 1, waiting.dropped)
    assert waiting.dropped + len(others) == many
    assert isinstance(others[0], Records)
    assert others[0].first == waiting.dropped + 1
    assert len(waiting) == 0, "the gap is told once"


def test_what_is_being_written_does_not_go() -> None:
    waiting = Pending("recorder-1")
    fill(waiting, 10)
    items = waiting.batch()
    fill(waiting, 2 * MAX_BYTES // MAX_ENTRY_CHARS, start=10)
    waiting.kept()
    assert len(items) == 10
    first = written(waiting)[0]
    assert isinstance(first, Gap)
    assert first.since_ms == 10


def test_what_goes_while_a_gap_is_being_written_is_another_gap() -> None:
    waiting = Pending("recorder-1")
    fill(waiting, 2 * MAX_BYTES // MAX_ENTRY_CHARS)
    before = waiting.dropped
    waiting.batch()
    fill(waiting, MAX_BYTES // MAX_ENTRY_CHARS, start=5000)
    waiting.kept()
    first = written(waiting)[0]
    assert isinstance(first, Gap)
    assert first.entries == waiting.dropped - before > 0


def test_a_gap_has_room_in_any_block() -> None:
    waiting = Pending("recorder-1" * 12)
    waiting.failed("\u202e" * 5000)
    fill(waiting, 2 * MAX_BYTES // MAX_ENTRY_CHARS)
    assert len(waiting.batch()[0][0]) < pending.GAP_BYTES
