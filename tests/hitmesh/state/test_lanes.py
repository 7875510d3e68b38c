"""A lane's marks against the simplest thing that does the same: a set of numbers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.protocol.messages import MAX_TOTAL, Ack, Applied, decode, encode, make
from hitmesh.state.lanes import Marks

GREATEST = 40
steps = st.lists(st.tuples(st.sampled_from(["add", "add", "add", "raise_to"]), st.integers(1, GREATEST)), max_size=60)


def plainly(applied: set[int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The mark and the ranges that say the same as `applied`."""
    mark = 0
    while mark + 1 in applied:
        mark += 1
    ranges: list[tuple[int, int]] = []
    for seq in sorted(applied):
        if seq <= mark:
            continue
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], seq)
        else:
            ranges.append((seq, seq))
    return mark, tuple(ranges)


@given(steps)
def test_marks_say_the_same_as_a_set(actions: list[tuple[str, int]]) -> None:
    marks, applied = Marks(), set[int]()
    for action, seq in actions:
        if action == "raise_to":
            marks.raise_to(seq)
            applied |= set(range(1, seq))
        elif not marks.covers(seq):
            marks.add(seq)
            applied.add(seq)
        assert (marks.mark, marks.above) == plainly(applied)
        assert {seq for seq in range(1, GREATEST + 2) if marks.covers(seq)} == applied


@given(steps)
def test_marks_are_always_what_a_message_may_carry(actions: list[tuple[str, int]]) -> None:
    marks = Marks()
    for action, seq in actions:
        if action == "raise_to":
            marks.raise_to(seq)
        elif not marks.covers(seq):
            marks.add(seq)
    ack = make(Ack, "w", (Applied(0, 1, 1, marks.mark, marks.above, {}),))
    found = decode(encode(ack), Ack).applied[0]
    assert Marks(found.mark, found.above).above == marks.above


@given(st.permutations(range(1, 13)))
def test_every_order_ends_in_one_mark(order: list[int]) -> None:
    marks = Marks()
    for seq in order:
        marks.add(seq)
    assert (marks.mark, marks.above) == (12, ())


def test_a_thousand_in_any_order_end_in_one_mark() -> None:
    order = list(range(1, 1_001))
    random.Random(7).shuffle(order)
    marks = Marks()
    for seq in order:
        assert not marks.covers(seq)
        marks.add(seq)
        assert marks.covers(seq)
    assert (marks.mark, marks.above) == (1_000, ())


def test_a_new_lane_covers_no_number() -> None:
    assert not Marks().covers(1)


def test_a_hole_is_not_covered() -> None:
    marks = Marks(4, ((6, 7), (9, 9)))
    assert [seq for seq in range(1, 12) if not marks.covers(seq)] == [5, 8, 10, 11]


def test_filling_the_first_hole_moves_the_mark_over_the_range_behind_it() -> None:
    marks = Marks(4, ((6, 7), (9, 9)))
    marks.add(5)
    assert (marks.mark, marks.above) == (7, ((9, 9),))


def test_a_number_between_two_ranges_joins_them() -> None:
    marks = Marks(0, ((3, 4), (6, 7)))
    marks.add(5)
    assert marks.above == ((3, 7),)


def test_giving_up_what_is_below_a_number_forgets_its_holes_but_not_that_number() -> None:
    marks = Marks(1, ((3, 3), (5, 5), (9, 9)))
    marks.raise_to(7)
    assert (marks.mark, marks.above) == (6, ((9, 9),))
    assert not marks.covers(7)


def test_giving_up_into_a_range_takes_all_of_it() -> None:
    marks = Marks(1, ((3, 8),))
    marks.raise_to(5)
    assert (marks.mark, marks.above) == (8, ())


def test_giving_up_less_than_is_applied_changes_nothing() -> None:
    marks = Marks(9, ((12, 12),))
    marks.raise_to(3)
    assert (marks.mark, marks.above) == (9, ((12, 12),))


def test_the_greatest_number_is_a_number_like_any_other() -> None:
    marks = Marks(MAX_TOTAL - 3)
    marks.add(MAX_TOTAL)
    assert marks.covers(MAX_TOTAL)
    assert not marks.covers(MAX_TOTAL - 1)
    marks.add(MAX_TOTAL - 1)
    marks.add(MAX_TOTAL - 2)
    assert (marks.mark, marks.above) == (MAX_TOTAL, ())


@pytest.mark.parametrize(
    ("seq", "extends"), [(2, True), (3, False), (4, True), (7, True), (8, False), (9, True), (11, True), (12, False)]
)
def test_a_number_next_to_what_is_there_makes_no_new_range(seq: int, extends: bool) -> None:
    marks = Marks(1, ((5, 6), (10, 10)))
    assert marks.extends(seq) is extends
    before = marks.ranges
    marks.add(seq)
    assert (marks.ranges <= before) is extends


def test_the_top_is_the_highest_number_of_all() -> None:
    assert [Marks().top, Marks(3).top, Marks(3, ((5, 6), (9, 9))).top] == [0, 3, 9]


def test_a_copy_is_independent() -> None:
    marks = Marks(1, ((3, 3),))
    other = marks.copy()
    other.add(2)
    assert (marks.mark, marks.above) == (1, ((3, 3),))
    assert (other.mark, other.above) == (3, ())
