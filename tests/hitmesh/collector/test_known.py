"""What a worker answers: its own hit at once, never twice, never backwards."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.collector.known import Known, Total
from hitmesh.protocol.messages import Applied, Part


def known(*, fresh_s: float = 1.0, max_pages: int = 100) -> Known:
    return Known(dc="x", fresh_s=fresh_s, max_pages=max_pages)


def part(counts: dict[str, int], seq: int = 1) -> Part:
    return Part(0, seq, 1, counts)


def told(totals: dict[str, dict[str, int]], commit: int = 1, epoch: int = 1) -> Applied:
    return Applied(0, epoch, commit, 0, (), totals)


def test_a_page_that_was_never_read_has_no_total() -> None:
    pages = known()
    assert pages.answer("s/a", 0.0) == Total(None, {}, 0.0)
    pages.added(part({"s/a": 1}))
    assert pages.answer("s/a", 0.0).total is None


def test_a_page_that_was_read_and_has_no_rows_has_the_total_0() -> None:
    pages = known()
    pages.told(told({"s/a": {}}), 0.0)
    assert pages.answer("s/a", 0.0) == Total(0, {}, 0.0)


def test_an_answer_includes_one_s_own_hit_before_it_is_committed() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 10, "y": 5}}), 0.0)
    pages.added(part({"s/a": 2}))
    assert pages.answer("s/a", 0.0) == Total(17, {"x": 12, "y": 5}, 0.0)


def test_the_first_hit_of_this_datacenter_is_in_the_answer() -> None:
    pages = known()
    pages.told(told({"s/a": {"y": 5}}), 0.0)
    pages.added(part({"s/a": 1}))
    assert pages.answer("s/a", 0.0).counts == {"x": 1, "y": 5}


def test_an_ack_counts_no_hit_twice() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 10}}), 0.0)
    pages.added(part({"s/a": 2}))
    pages.settled(part({"s/a": 2}), told({"s/a": {"x": 12}}, commit=2))
    pages.told(told({"s/a": {"x": 12}}, commit=2), 0.0)
    assert pages.answer("s/a", 0.0) == Total(12, {"x": 12}, 0.0)


def test_hits_of_a_part_that_is_settled_without_their_totals_stay_in_the_answer() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 10}}), 0.0)
    pages.added(part({"s/a": 2}))
    pages.settled(part({"s/a": 2}), told({}, commit=2))
    assert pages.answer("s/a", 0.0) == Total(12, {"x": 12}, 0.0)
    assert not pages.is_fresh("s/a", 0.0)


def test_an_older_ack_doesn_t_replace_newer_totals() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 12}}, commit=2), 0.0)
    pages.told(told({"s/a": {"x": 10}}, commit=1), 5.0)
    assert pages.answer("s/a", 5.0) == Total(12, {"x": 12}, 5.0)


def test_a_slow_read_from_before_one_s_own_hit_was_committed_is_not_believed() -> None:
    pages = known()
    pages.added(part({"s/a": 1}))
    pages.settled(part({"s/a": 1}), told({"s/b": {"x": 4}}, commit=2))  # the read of another page shows it committed
    pages.told(told({"s/a": {"x": 6}}, commit=1), 0.0)
    assert pages.answer("s/a", 0.0).total is None
    pages.told(told({"s/a": {"x": 7}}, commit=2), 0.0)
    assert pages.answer("s/a", 0.0).total == 7


def test_totals_of_a_later_epoch_are_newer_whatever_their_commit() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 12}}, commit=9, epoch=1), 0.0)
    pages.told(told({"s/a": {"x": 13}}, commit=3, epoch=2), 0.0)
    pages.told(told({"s/a": {"x": 12}}, commit=9, epoch=1), 0.0)
    assert pages.answer("s/a", 0.0).total == 13


def test_an_answered_total_never_goes_down() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 12}}), 0.0)
    assert pages.answer("s/a", 0.0).total == 12
    pages.told(told({"s/a": {"x": 3}}, commit=2), 0.0)  # somebody set it back in the store
    assert pages.answer("s/a", 0.0).total == 12


def test_a_total_ages_from_when_it_was_told() -> None:
    pages = known(fresh_s=1.0)
    pages.told(told({"s/a": {"x": 1}}), 10.0)
    assert pages.answer("s/a", 12.5).age_s == 2.5
    assert pages.is_fresh("s/a", 11.0)
    assert not pages.is_fresh("s/a", 11.1)
    pages.told(told({"s/a": {"x": 1}}), 20.0)
    assert pages.is_fresh("s/a", 20.5)


def test_a_page_never_told_isn_t_fresh() -> None:
    pages = known()
    pages.added(part({"s/a": 1}))
    assert not pages.is_fresh("s/a", 0.0)
    assert not pages.is_fresh("s/b", 0.0)


def test_the_pages_unused_for_longest_are_forgotten_first() -> None:
    pages = known(max_pages=2)
    for page in ("s/a", "s/b"):
        pages.told(told({page: {"x": 1}}), 0.0)
    pages.told(told({"s/a": {"x": 2}}), 0.0)
    pages.told(told({"s/c": {"x": 1}}), 0.0)
    assert [pages.answer(page, 0.0).total for page in ("s/a", "s/b", "s/c")] == [2, None, 1]


def test_a_page_with_hits_under_way_isn_t_forgotten() -> None:
    pages = known(max_pages=1)
    pages.told(told({"s/a": {"x": 1}}), 0.0)
    pages.added(part({"s/a": 1}))
    for number in range(5):
        pages.told(told({f"s/{number}": {}}), 0.0)
    assert pages.answer("s/a", 0.0).total == 2
    pages.settled(part({"s/a": 1}), told({"s/a": {"x": 2}}, commit=2))
    pages.told(told({"s/a": {"x": 2}}, commit=2), 0.0)
    assert pages.answer("s/a", 0.0).total == 2


def test_only_so_many_pages_are_remembered() -> None:
    pages = known(max_pages=10)
    for number in range(1000):
        page = {f"s/{number}": 1}
        pages.added(part(page))
        pages.settled(part(page), told({}))
    assert len(pages._pages) == 10


PAGES = ("s/a", "s/b")


@dataclass
class Oracle:
    """A partition with its one true history, and the parts of a worker that are on their way to it."""

    committed: list[tuple[dict[str, int], int]] = field(default_factory=lambda: [({}, 0)])  # counts, parts applied
    parts: list[Part] = field(default_factory=list)
    told_parts: int = 0  # of this worker's, covered by what it was told
    accepted: dict[str, int] = field(default_factory=dict)
    foreign: dict[str, int] = field(default_factory=dict)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("hit"), st.dictionaries(st.sampled_from(PAGES), st.integers(1, 3), min_size=1)),
            st.tuples(st.just("others"), st.dictionaries(st.sampled_from(PAGES), st.integers(1, 3), min_size=1)),
            st.tuples(st.just("commit"), st.integers(0, 3)),
            st.tuples(st.just("tell"), st.tuples(st.integers(0, 20), st.sets(st.sampled_from(PAGES)))),
        ),
        max_size=40,
    )
)
def test_answers_are_between_what_was_told_and_what_is_true(actions: list[tuple[str, object]]) -> None:
    """Acks of any commit come in any order, with the totals of any of the pages: the oracle knows the truth."""
    pages, oracle, last = known(), Oracle(), dict.fromkeys(PAGES, 0)
    told_counts, newest = dict.fromkeys(PAGES, 0), 0
    for action, value in actions:
        if action == "hit":
            assert isinstance(value, dict)
            oracle.parts.append(part(value, len(oracle.parts) + 1))
            pages.added(oracle.parts[-1])
        elif action == "others":
            assert isinstance(value, dict)
            for page, count in value.items():
                oracle.foreign[page] = oracle.foreign.get(page, 0) + count
        elif action == "commit":
            assert isinstance(value, int)
            applied = min(len(oracle.parts), oracle.committed[-1][1] + value)
            counts = dict(oracle.foreign)
            for one in oracle.parts[:applied]:
                for page, count in one.counts.items():
                    counts[page] = counts.get(page, 0) + count
            oracle.committed.append((counts, applied))
        else:
            assert isinstance(value, tuple)
            commit = min(value[0], len(oracle.committed) - 1)
            counts, applied = oracle.committed[commit]
            totals = {page: {"x": counts.get(page, 0)} for page in value[1]}
            ack = told(totals, commit)
            for one in oracle.parts[oracle.told_parts : applied]:
                pages.settled(one, ack)
            oracle.told_parts = max(oracle.told_parts, applied)
            pages.told(ack, 0.0)
            newest = max(newest, commit)
            for page in value[1] if commit == newest else ():
                told_counts[page] = counts.get(page, 0)
        for page in PAGES:
            total = pages.answer(page, 0.0).total
            own = sum(one.counts.get(page, 0) for one in oracle.parts)
            true = own + oracle.foreign.get(page, 0)
            if total is not None:
                assert max(own, told_counts[page], last[page]) <= total <= true, page
                last[page] = total


@pytest.mark.parametrize("page", ["s/a", "s/b"])
def test_an_answer_doesn_t_change_what_is_known(page: str) -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 1}, "s/b": {}}), 0.0)
    pages.added(part({page: 1}))
    first = pages.answer(page, 0.0)
    first.counts["x"] = 1000
    assert pages.answer(page, 0.0).total == first.total
