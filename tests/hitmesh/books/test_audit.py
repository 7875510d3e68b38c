"""The arithmetic of the books: each way in which they can fail to balance, and that they do otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.books.audit import Book, Observed, Spooled, Verdict, Worker, book, check, with_copies
from hitmesh.books.copies import Copy, Replicated
from hitmesh.books.reading import refused
from hitmesh.cli.auditing import text
from hitmesh.protocol.messages import Head, Instance, Job, LaneState, Part, Seen, make
from hitmesh.state.lanes import Marks

NOTHING = Spooled((), 0)


def worker(accepted: int = 0, acked: int = 0, unknown: int = 0, jobs: int = 0) -> Worker:
    return Worker("collector-1", accepted, acked, unknown, jobs)


def lane(hits: int, mark: int = 9) -> LaneState:
    return LaneState(mark, (), hits, 0)


def books(lanes: dict[str, int], *, ended: int = 0) -> dict[int, Book]:
    """One partition, in order; `ended` are hits of lanes that are gone."""
    hits = sum(lanes.values()) + ended
    return {0: Book(hits, hits, {name: lane(count) for name, count in lanes.items()})}


def job(name: str, seq: int, hits: int, partition: int = 0) -> Job:
    return make(Job, name, 0, (Part(partition, seq, 1, {"a.example/x": hits}),))


def spooled(*jobs: Job) -> Spooled:
    return Spooled(jobs, len(jobs))


def audited(
    before: dict[str, Worker], found: dict[int, Book], after: dict[str, Worker], spool: Spooled = NOTHING
) -> Verdict:
    return check(Observed(before=before, spool=spool, books=found, after=after))


def test_a_quiet_mesh_balances_to_the_hit() -> None:
    live = {"w1": worker(10, 10), "w2": worker(5, 5)}
    verdict = audited(live, books({"w1": 10, "w2": 5}, ended=7), live)
    assert verdict == Verdict(22, 22, 0, 0, 0, 0, 0, 0, 0, [])
    assert verdict.balanced


def test_an_empty_mesh_balances() -> None:
    assert audited({}, {}, {}) == Verdict(0, 0, 0, 0, 0, 0, 0, 0, 0, [])


def test_hits_accepted_meanwhile_are_in_flight() -> None:
    verdict = audited({"w": worker(10, 8)}, books({"w": 12}), {"w": worker(20, 15)})
    assert (verdict.accepted, verdict.committed, verdict.in_flight, verdict.balanced) == (20, 12, 8, True)


def test_a_job_of_a_dead_worker_is_spooled() -> None:
    verdict = audited({}, books({"dead": 4}), {}, spooled(job("dead", 10, 6)))
    assert (verdict.accepted, verdict.committed, verdict.spooled) == (10, 4, 6)


def test_a_job_of_a_live_worker_is_in_flight_and_not_spooled() -> None:
    live = {"w": worker(10, 4)}
    verdict = audited(live, books({"w": 4}), live, spooled(job("w", 10, 6)))
    assert (verdict.accepted, verdict.spooled, verdict.in_flight, verdict.balanced) == (10, 0, 6, True)


def test_a_job_that_is_applied_already_is_committed_and_not_spooled() -> None:
    verdict = audited({}, books({"dead": 6}), {}, spooled(job("dead", 9, 6)))
    assert (verdict.accepted, verdict.committed, verdict.spooled) == (6, 6, 0)


def test_two_copies_of_a_job_are_spooled_once() -> None:
    twice = spooled(job("dead", 10, 6), job("dead", 10, 6))
    assert audited({}, {}, {}, twice).spooled == 6


def test_a_job_of_a_partition_without_a_head_is_spooled() -> None:
    assert audited({}, books({"dead": 1}), {}, spooled(job("dead", 1, 6, partition=3))).spooled == 6


def test_hits_of_unknown_outcome_may_be_counted() -> None:
    live = {"w": worker(10, 10, unknown=3)}
    verdict = audited(live, books({"w": 12}), live)
    assert (verdict.accepted, verdict.unknown, verdict.unknown_committed, verdict.balanced) == (12, 3, 2, True)


def test_a_spool_that_cannot_list_its_jobs_tells_how_many_belong_to_nobody() -> None:
    live = {"w": worker(10, 4, jobs=2)}
    verdict = audited(live, books({"w": 4}), live, Spooled(None, 5))
    assert (verdict.orphan_jobs, verdict.spooled, verdict.balanced) == (3, 0, True)


@pytest.mark.parametrize(
    ("before", "found", "after", "spool", "problem"),
    [
        (
            {"w": worker(10, 10)},
            books({"w": 9}),
            {"w": worker(10, 10)},
            NOTHING,
            "collector-1: 10 of its hits were acknowledged, 9 are in the store: 1 are lost",
        ),
        (
            {"w": worker(10, 10)},
            books({}),
            {"w": worker(10, 10)},
            NOTHING,
            "collector-1: 10 of its hits were acknowledged, 0 are in the store: 10 are lost",
        ),
        (
            {"w": worker(10, 10)},
            books({"w": 12}),
            {"w": worker(10, 10, unknown=1)},
            NOTHING,
            "collector-1: 12 of its hits are committed, it accepted 10 and 1 are unknown: 1 are counted twice",
        ),
        (
            {},
            books({"w": 3}),
            {"w": worker(2)},
            NOTHING,
            "collector-1: 3 of its hits are committed, it accepted 2 and 0 are unknown: 1 are counted twice",
        ),
        (
            {"w": worker(10, 4)},
            books({"w": 4}),
            {"w": worker(10, 4)},
            spooled(job("w", 10, 5)),
            "collector-1: it accepted 10 hits, 4 are in the store and 5 in the spool: 1 are lost",
        ),
        (
            {},
            {3: Book(7, 8, {})},
            {},
            NOTHING,
            "partition 3: its rows sum to 8, its head says 7 hits",
        ),
        (
            {},
            {3: Book(7, 7, {"dead": lane(8)})},
            {},
            NOTHING,
            "partition 3: its lanes brought 8 hits, its head says 7",
        ),
        (
            {},
            {3: book(None, 5)},
            {},
            NOTHING,
            "partition 3: its rows sum to 5, its head says 0 hits",
        ),
    ],
)
def test_each_imbalance_is_named(
    before: dict[str, Worker], found: dict[int, Book], after: dict[str, Worker], spool: Spooled, problem: str
) -> None:
    verdict = audited(before, found, after, spool)
    assert verdict.problems == [problem]
    assert not verdict.balanced


def test_hits_that_wait_in_a_spool_without_a_list_are_not_called_lost() -> None:
    live = {"w": worker(10, 4, jobs=1)}
    assert audited(live, books({"w": 4}), live, Spooled(None, 1)).balanced


def test_a_worker_that_started_meanwhile_is_in_flight() -> None:
    verdict = audited({}, books({"w": 3}), {"w": worker(5)})
    assert (verdict.accepted, verdict.in_flight, verdict.balanced) == (5, 2, True)


def test_a_worker_that_died_meanwhile_is_judged_by_what_it_left() -> None:
    verdict = audited({"w": worker(10, 4)}, books({"w": 4}), {}, spooled(job("w", 10, 6)))
    assert (verdict.accepted, verdict.spooled, verdict.balanced) == (10, 6, True)


def test_a_head_makes_a_book() -> None:
    head = make(Head, "ledger", 1, "owner", 1, 5, {"w": lane(5)}, (), {}, True, 2)
    assert book(head, 3) == Book(5, 3, {"w": lane(5)}, lost=2, restoring=True)


def test_hits_whose_rows_a_wiped_store_lost_are_told_and_balance() -> None:
    verdict = audited({}, {0: Book(9, 7, {}, lost=2), 1: Book(3, 2, {}, lost=1)}, {})
    assert (verdict.lost, verdict.committed, verdict.accepted, verdict.balanced) == (3, 12, 12, True)


@pytest.mark.parametrize("rows_sum", [6, 8])
def test_what_is_lost_makes_up_for_no_other_hit(rows_sum: int) -> None:
    verdict = audited({}, {0: Book(9, rows_sum, {}, lost=2)}, {})
    assert verdict.problems == [f"partition 0: its rows sum to {rows_sum}, its head says 9 hits and that 2 are lost"]


def test_rows_that_are_being_brought_back_needn_t_sum_to_anything_yet() -> None:
    verdict = audited({}, {0: Book(9, 4, {}, restoring=True), 1: Book(2, 2, {})}, {})
    assert (verdict.restoring, verdict.balanced) == (1, True)


def test_a_copy_s_problem_is_one_of_the_books() -> None:
    copies = {"us": Copy(5, 0, 0.5)}
    good = with_copies(audited({}, {}, {}), Replicated(copies, []))
    bad = with_copies(audited({}, {3: Book(7, 8, {})}, {}), Replicated(copies, ["a copy has more"]))
    assert (good.balanced, good.replicated) == (True, copies)
    assert bad.problems == ["partition 3: its rows sum to 8, its head says 7 hits", "a copy has more"]


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans(), st.booleans()), max_size=20))
def test_whatever_is_applied_deleted_or_waiting_the_books_balance(steps: Sequence[tuple[int, bool, bool]]) -> None:
    # One live worker's jobs: (hits, applied, deleted from the spool when applied).
    applied = [(seq, hits) for seq, (hits, done, _) in enumerate(steps, 1) if done]
    marks = Marks()
    for seq, _ in applied:
        marks.add(seq)
    hits = sum(count for _, count in applied)
    found = {0: Book(hits, hits, {"w": LaneState(marks.mark, marks.above, hits, 0)})}
    jobs = [job("w", seq, count) for seq, (count, done, gone) in enumerate(steps, 1) if not (done and gone)]
    accepted = sum(count for count, _, _ in steps)
    live = {"w": worker(accepted, hits)}
    verdict = audited(live, found, live, spooled(*jobs))
    assert verdict.balanced
    assert (verdict.accepted, verdict.in_flight) == (accepted, accepted - hits)


# --- what others have sent ----------------------------------------------------------------------


def jumped(hits: int, mark: int = 2**63 - 1) -> dict[int, Book]:
    return {0: Book(hits, hits, {"w": lane(hits, mark)})}


def test_a_lane_that_jumped_is_loss_and_nothing_is_called_counted_twice() -> None:
    live = {"w": worker(150, 150)}
    verdict = audited(live, jumped(1000), live)
    assert not any("counted twice" in problem for problem in verdict.problems)
    assert any("somebody else has used its numbers" in problem and "lost" in problem for problem in verdict.problems)
    assert any("850 are from somebody else" in problem for problem in verdict.problems)


def test_a_lane_that_jumped_with_fewer_hits_than_were_acked_is_lost_by_the_hit() -> None:
    live = {"w": worker(150, 150)}
    assert any("50 are lost" in problem for problem in audited(live, jumped(100), live).problems)


def test_a_lane_with_a_day_of_refused_puts_hasn_t_jumped() -> None:
    live = {"w": worker(100, 100)}
    assert audited(live, jumped(100, mark=86_400 * 5_000), live).balanced


def test_hits_in_doubt_are_named() -> None:
    live = {"w": Worker("collector-1", 10, 10, 0, 0, jumps=1, in_doubt=3)}
    (problem,) = audited(live, books({"w": 10}), live).problems
    assert "3 of its hits were answered and may be lost" in problem


def test_a_partition_that_can_t_be_read_is_named_and_makes_nobody_s_hits_lost() -> None:
    live = {"w": worker(10, 10)}
    verdict = check(
        Observed(before=live, spool=NOTHING, books=books({"w": 4}), after=live, unreadable={3: "it can't be read"})
    )
    assert verdict.problems == ["partition 3: it can't be read"]


def test_what_was_refused_is_named_by_who_refused_it() -> None:
    def seen(name: str, **load: float) -> Seen:
        return Seen(Instance("eu", "processor", name, name, "up", 1, 0, {}, load, {}), 1, 0, True)

    found = refused([seen("p-2", refused=3.0, bad_frames=1.0, settings_refused=9.0), seen("p-1", refused=0.0)])
    assert found == {"p-2": 4}
    verdict = check(Observed(before={}, spool=NOTHING, books={}, after={}, refused=found))
    assert verdict.balanced
    assert "refused, of what arrived: p-2 4" in text({"eu": verdict})
