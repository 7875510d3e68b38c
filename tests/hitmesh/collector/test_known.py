"""What a worker answers: its own hit at once, never twice, never backwards."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.collector.known import LOOKS, Known, Total
from hitmesh.protocol.messages import Applied, Part
from hitmesh.state.ages import AsOf


def known(*, fresh_s: float = 1.0, max_pages: int = 100) -> Known:
    return Known(dc="x", fresh_s=fresh_s, max_pages=max_pages)


def part(counts: dict[str, int], seq: int = 1) -> Part:
    return Part(0, seq, 1, counts)


def answered(total: int, counts: dict[str, int], **ages: float | None) -> Total:
    """An answer whose counts are 0 s old, unless an age is given."""
    return Total(total, counts, {**dict.fromkeys(counts, 0.0), **ages})


def told(totals: dict[str, dict[str, int]], commit: int = 1, epoch: int = 1) -> Applied:
    return Applied(0, epoch, commit, 0, (), totals)


def test_a_page_that_was_never_read_has_no_total() -> None:
    pages = known()
    assert pages.answer("s/a", 0.0) == Total(None, {}, {})
    pages.added(part({"s/a": 1}))
    assert pages.answer("s/a", 0.0).total is None


def test_a_page_that_was_read_and_has_no_rows_has_the_total_0() -> None:
    pages = known()
    pages.told(told({"s/a": {}}), 0.0)
    assert pages.answer("s/a", 0.0) == answered(0, {"x": 0})


def test_an_answer_includes_one_s_own_hit_before_it_is_committed() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 10, "y": 5}}), 0.0)
    pages.added(part({"s/a": 2}))
    assert pages.answer("s/a", 0.0) == answered(17, {"x": 12, "y": 5}, y=None)


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
    assert pages.answer("s/a", 0.0) == answered(12, {"x": 12})


def test_hits_of_a_part_that_is_settled_without_their_totals_stay_in_the_answer() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 10}}), 0.0)
    pages.added(part({"s/a": 2}))
    pages.settled(part({"s/a": 2}), told({}, commit=2))
    assert pages.answer("s/a", 0.0) == answered(12, {"x": 12})
    assert not pages.is_fresh("s/a", 0.0)


def test_an_older_ack_doesn_t_replace_newer_totals() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 12}}, commit=2), 0.0)
    pages.told(told({"s/a": {"x": 10}}, commit=1), 5.0)
    assert pages.answer("s/a", 5.0) == answered(12, {"x": 12}, x=5.0)


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
    assert pages.answer("s/a", 12.5).ages == {"x": 2.5}
    assert pages.is_fresh("s/a", 11.0)
    assert not pages.is_fresh("s/a", 11.1)
    pages.told(told({"s/a": {"x": 1}}), 20.0)
    assert pages.is_fresh("s/a", 20.5)


def test_a_page_never_told_isn_t_fresh() -> None:
    pages = known()
    pages.added(part({"s/a": 1}))
    assert not pages.is_fresh("s/a", 0.0)
    assert not pages.is_fresh("s/b", 0.0)


# --- other datacenters --------------------------------------------------------------------------


def known_as_of(as_of: AsOf, counts: dict[str, int], at_s: float = 10.0) -> Known:
    pages = known()
    pages.told(told({"s/a": counts}), at_s, as_of)
    return pages


def test_each_datacenter_s_count_has_its_own_age() -> None:
    pages = known_as_of({"y": 9.5, "z": 4.0}, {"x": 1, "y": 2, "z": 3})
    assert pages.answer("s/a", 11.0) == answered(6, {"x": 1, "y": 2, "z": 3}, x=1.0, y=1.5, z=7.0)


def test_a_datacenter_without_hits_on_the_page_is_in_the_number_with_0() -> None:
    pages = known_as_of({"y": 9.0}, {"x": 1})
    assert pages.answer("s/a", 10.0) == answered(1, {"x": 1, "y": 0}, y=1.0)


def test_a_count_of_which_nobody_says_how_old_it_is_has_no_age() -> None:
    assert known_as_of({}, {"x": 1, "y": 2}).answer("s/a", 10.0) == answered(3, {"x": 1, "y": 2}, y=None)


def test_a_clock_that_is_ahead_makes_no_count_younger_than_its_telling() -> None:
    assert known_as_of({"y": 99.0}, {"y": 2}).answer("s/a", 12.0).ages["y"] == 2.0


def test_an_age_is_that_of_the_count_that_was_told_until_the_next_one_is() -> None:
    pages = known_as_of({"y": 9.0}, {"y": 2})
    assert pages.answer("s/a", 60.0).ages["y"] == 51.0
    pages.told(told({"s/a": {"y": 2}}, commit=2), 60.0, {"y": 59.5})
    assert pages.answer("s/a", 60.0).ages["y"] == 0.5


def test_an_older_telling_doesn_t_make_a_count_younger() -> None:
    pages = known_as_of({"y": 9.0}, {"y": 2})
    pages.told(told({"s/a": {"y": 1}}, commit=0), 20.0, {"y": 19.0})
    assert pages.answer("s/a", 20.0) == answered(2, {"x": 0, "y": 2}, x=10.0, y=11.0)


def test_while_the_rows_are_brought_back_a_total_is_unknown_and_read_again() -> None:
    pages = known_as_of({"y": 9.0}, {"x": 5, "y": 2})
    pages.lost(["s/a", "s/never-heard-of"])
    assert pages.answer("s/a", 10.0) == Total(None, {}, {})
    assert not pages.is_fresh("s/a", 10.0)
    pages.told(told({"s/a": {"x": 5, "y": 3}}, commit=1), 11.0, {"y": 11.0})
    assert pages.answer("s/a", 11.0) == answered(8, {"x": 5, "y": 3})


def test_a_total_that_comes_back_smaller_isn_t_answered_smaller() -> None:
    pages = known_as_of({}, {"x": 5})
    assert pages.answer("s/a", 10.0).total == 5
    pages.lost(["s/a"])
    pages.told(told({"s/a": {"x": 3}}), 11.0)
    assert pages.answer("s/a", 11.0).total == 5


def test_hits_under_way_are_in_the_answer_after_the_rows_came_back() -> None:
    pages = known_as_of({}, {"x": 5})
    pages.added(part({"s/a": 2}))
    pages.lost(["s/a"])
    pages.told(told({"s/a": {"x": 5}}), 11.0)
    assert pages.answer("s/a", 11.0).total == 7


def test_rows_that_came_back_needn_t_have_what_was_settled_before() -> None:
    pages = known_as_of({}, {"x": 5})
    pages.added(part({"s/a": 2}))
    pages.settled(part({"s/a": 2}), told({}, commit=9))
    pages.lost(["s/a"])
    pages.told(told({"s/a": {"x": 6}}, commit=3), 11.0)
    assert pages.answer("s/a", 11.0).total == 6


def test_another_history_s_commits_aren_t_compared_with_the_last_one_s() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 5}}, commit=9, epoch=4), 10.0, ledger="first")
    pages.told(told({"s/a": {"x": 6}}, commit=1, epoch=1), 11.0, ledger="second")
    assert pages.answer("s/a", 11.0).total == 6
    pages.told(told({"s/a": {"x": 7}}, commit=2, epoch=1), 12.0)  # an ack, which doesn't say of which history
    assert pages.answer("s/a", 12.0).total == 7


def test_the_first_reading_is_no_other_history_than_the_acks_before() -> None:
    pages = known()
    pages.told(told({"s/a": {"x": 5}}, commit=9), 10.0)
    pages.told(told({"s/a": {"x": 4}}, commit=8), 11.0, ledger="first")
    assert pages.answer("s/a", 11.0) == answered(5, {"x": 5}, x=1.0)


def test_limits_may_change_meanwhile() -> None:
    pages = known(fresh_s=1.0, max_pages=10)
    for number in range(10):
        pages.told(told({f"s/{number}": {"x": 1}}), 0.0)
    pages.fresh_s, pages.max_pages = 5.0, 2
    assert pages.is_fresh("s/9", 4.0)
    pages.told(told({"s/new": {"x": 1}}), 0.0)
    assert len(pages._pages) == 2


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


class Counted(OrderedDict[str, object]):
    """A dictionary that counts how often its oldest entry was looked at."""

    looks = 0

    def popitem(self, last: bool = True) -> tuple[str, object]:
        self.looks += 1
        return super().popitem(last)


def test_many_pages_with_hits_under_way_don_t_make_each_new_one_slow() -> None:
    pages = known(max_pages=10)
    pages._pages = looked_at = Counted()  # type: ignore[assignment]
    under_way = [part({f"s/{number}": 1}) for number in range(1000)]
    for one in under_way:
        pages.added(one)
    assert looked_at.looks <= LOOKS * len(under_way)
    for one in under_way:
        pages.settled(one, told({}))
    for number in range(1000):
        pages.told(told({f"new/{number}": {"x": 1}}), 0.0)
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
