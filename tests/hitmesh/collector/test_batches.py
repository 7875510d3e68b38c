"""A worker's numbers, its memory of what isn't acked, and what it sends again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.collector.batches import RESEND_MAX_S, Batches, Flight
from hitmesh.protocol.messages import MAX_PART_BYTES, MAX_PART_PAGES, Applied, Job, LaneEnd, Part, Range, make
from hitmesh.protocol.pages import partition_of

PARTITIONS = 8


def batches(*, partitions: int = 1, resend_s: float = 1.0, unacked_bytes: int = 10**9) -> Batches:
    return Batches("w", partitions=partitions, resend_s=resend_s, unacked_bytes=unacked_bytes)


def put(worker: Batches, id: object, counts: dict[str, int] | None = None, now_s: float = 0.0) -> Flight:
    """A batch that the spool took under `id`."""
    return worker.spooled(worker.form(counts or {"s/a": 1}, 0), id, now_s)


def applied(mark: int, above: tuple[Range, ...] = (), *, partition: int = 0) -> Applied:
    return Applied(partition, 1, 1, mark, above, {})


def job_of(worker: str, *seqs: int, partition: int = 0) -> Job:
    return make(Job, worker, 0, tuple(Part(partition, seq, 1, {"s/a": 1}) for seq in seqs))


# --- forming ------------------------------------------------------------------------------------


@given(st.dictionaries(st.text("abc/", min_size=1, max_size=6), st.integers(1, 100), min_size=1, max_size=60))
def test_a_batch_is_split_by_partition_without_losing_a_hit(counts: dict[str, int]) -> None:
    job = batches(partitions=PARTITIONS).form(counts, 5)
    found: dict[str, int] = {}
    for part in job.parts:
        assert {partition_of(page, PARTITIONS) for page in part.counts} == {part.partition}
        assert not found.keys() & part.counts.keys()
        found |= part.counts
    assert found == counts
    assert len({part.partition for part in job.parts}) == len(job.parts)
    assert (job.worker, job.created_ms) == ("w", 5)


def test_a_partition_with_many_pages_gets_several_parts() -> None:
    counts = {f"s/{i}": 1 for i in range(2 * MAX_PART_PAGES + 1)}
    job = batches().form(counts, 0)
    assert [len(part.counts) for part in job.parts] == [MAX_PART_PAGES, MAX_PART_PAGES, 1]
    assert [part.seq for part in job.parts] == [1, 2, 3]


def test_a_partition_with_long_pages_gets_several_parts() -> None:
    counts = {f"s/{i:0>10}".ljust(1024, "x"): 1 for i in range(MAX_PART_BYTES // 1024 + 1)}
    job = batches().form(counts, 0)
    assert [sum(len(page) for page in part.counts) for part in job.parts] == [MAX_PART_BYTES, 1024]


def test_a_part_s_bytes_are_those_of_its_pages_in_utf_8() -> None:
    counts = {f"s/{i:0>3}".ljust(300, "é"): 1 for i in range(300)}
    job = batches().form(counts, 0)
    sizes = [sum(len(page.encode()) for page in part.counts) for part in job.parts]
    assert len(sizes) == 2
    assert all(size <= MAX_PART_BYTES for size in sizes)


def test_a_lane_s_numbers_are_contiguous_from_1_over_all_batches() -> None:
    worker = batches(partitions=PARTITIONS)
    numbers: dict[int, list[int]] = {}
    for batch in range(20):
        for part in worker.form({f"s/{batch}-{i}": 1 for i in range(10)}, 0).parts:
            numbers.setdefault(part.partition, []).append(part.seq)
    assert len(numbers) == PARTITIONS
    for seqs in numbers.values():
        assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.parametrize("unknown", [False, True])
def test_the_number_of_a_failed_put_is_never_used_again(unknown: bool) -> None:
    worker = batches()
    failed = worker.form({"s/a": 1}, 0)
    worker.refused(failed, unknown=unknown)
    assert (failed.parts[0].seq, worker.form({"s/a": 1}, 0).parts[0].seq) == (1, 2)


# --- low ----------------------------------------------------------------------------------------


def test_low_is_the_lowest_number_that_may_still_come() -> None:
    worker = batches()
    lows = [put(worker, id).parts for id in range(3)]
    assert [part.low for parts in lows for part in parts.values() if part] == [1, 1, 1]
    worker.settle("w", applied(1))
    assert worker.form({"s/a": 1}, 0).parts[0].low == 2


def test_low_stays_below_a_hole_that_an_ack_left() -> None:
    worker = batches()
    for id in range(3):
        put(worker, id)
    worker.settle("w", applied(0, ((2, 3),)))
    assert worker.form({"s/a": 1}, 0).parts[0].low == 1


@pytest.mark.parametrize("unknown", [False, True])
def test_low_rises_over_the_number_of_a_failed_put(unknown: bool) -> None:
    worker = batches()
    worker.refused(worker.form({"s/a": 1}, 0), unknown=unknown)
    part = worker.form({"s/a": 1}, 0).parts[0]
    assert (part.seq, part.low) == (2, 2)


def test_low_stays_below_a_job_that_was_left_to_the_spool() -> None:
    worker = batches(unacked_bytes=0)
    put(worker, 1)
    assert worker.form({"s/a": 1}, 0).parts[0].low == 1


def test_low_stays_below_a_put_that_hasn_t_returned() -> None:
    worker = batches()
    worker.form({"s/a": 1}, 0)
    assert worker.form({"s/a": 1}, 0).parts[0].low == 1


def test_a_lane_without_anything_open_says_so_with_its_next_part() -> None:
    worker = batches()
    put(worker, 1)
    worker.settle("w", applied(1))
    assert worker.form({"s/a": 1}, 0).parts[0].low == 2


# --- the books ----------------------------------------------------------------------------------


def test_a_refused_put_leaves_no_job() -> None:
    worker = batches()
    worker.refused(worker.form({"s/a": 4}, 0), unknown=False)
    assert (worker.unacked, worker.accepted, worker.unknown, worker.size_bytes) == (0, 0, 0, 0)
    assert worker.overdue(1e9) == []


def test_a_put_without_an_answer_is_unknown_in_the_books_and_never_sent() -> None:
    worker = batches()
    worker.refused(worker.form({"s/a": 4}, 0), unknown=True)
    assert (worker.unacked, worker.accepted, worker.unknown) == (0, 0, 4)
    assert worker.overdue(1e9) == []


def test_accepted_hits_are_acked_when_their_job_is() -> None:
    worker = batches()
    put(worker, 1, {"s/a": 2, "s/b": 3})
    assert (worker.accepted, worker.acked) == (5, 0)
    worker.settle("w", applied(1))
    assert (worker.accepted, worker.acked, worker.size_bytes) == (5, 5, 0)


# --- acks ---------------------------------------------------------------------------------------


def test_the_oldest_job_without_its_acks_says_how_long_it_has_waited() -> None:
    worker = batches()
    assert worker.oldest_s(9.0) == 0.0
    put(worker, "first", now_s=1.0)
    put(worker, "second", now_s=3.0)
    assert worker.oldest_s(9.0) == 8.0
    worker.settle("w", applied(1))
    assert worker.oldest_s(9.0) == 6.0


def test_a_job_is_done_when_every_part_is_covered_and_not_before() -> None:
    worker = batches(partitions=PARTITIONS)
    flight = put(worker, "job", {f"s/{i}": 1 for i in range(40)})
    partitions = [partition for partition, _ in flight.parts]
    assert len(partitions) > 2
    for partition in partitions[:-1]:
        settled = worker.settle("w", applied(1, partition=partition))
        assert [part.partition for part in settled.parts] == [partition]
        assert settled.done == []
    assert worker.unacked == 1
    assert worker.settle("w", applied(1, partition=partitions[-1])).done == ["job"]
    assert worker.unacked == 0


def test_an_ack_covers_what_its_ranges_say() -> None:
    worker = batches()
    for id in range(1, 8):
        put(worker, id)
    assert worker.settle("w", applied(1, ((3, 4), (6, 6)))).done == [1, 3, 4, 6]
    assert worker.settle("w", applied(7)).done == [2, 5, 7]


def test_the_same_ack_again_settles_nothing() -> None:
    worker = batches()
    put(worker, 1)
    worker.settle("w", applied(1))
    again = worker.settle("w", applied(1))
    assert (again.parts, again.done) == ([], [])
    assert worker.acked == 1


def test_an_older_ack_after_a_newer_one_settles_nothing() -> None:
    worker = batches()
    put(worker, 1)
    put(worker, 2)
    worker.settle("w", applied(2))
    assert worker.settle("w", applied(1)).done == []


def test_an_ack_of_another_partition_settles_nothing() -> None:
    worker = batches()
    put(worker, 1)
    assert worker.settle("w", applied(1, partition=1)).done == []


def test_an_ack_of_another_worker_s_lane_settles_only_its_claims() -> None:
    worker = batches()
    put(worker, 1)
    worker.claimed(job_of("dead", 1), "claimed", 0.0)
    settled = worker.settle("dead", applied(1))
    assert (settled.done, settled.parts, settled.claims) == (["claimed"], [], 1)
    assert (worker.unacked, worker.claims, worker.acked) == (1, 0, 0)


def test_a_job_applied_before_its_put_returned_is_settled_by_the_next_ack() -> None:
    worker = batches()
    job = worker.form({"s/a": 1}, 0)
    assert worker.settle("w", applied(1)).done == []  # the store says so: somebody had claimed it
    worker.spooled(job, "slow", 0.0)
    assert worker.settle("w", applied(1)).done == ["slow"]


# --- sending again ------------------------------------------------------------------------------


def test_a_flight_is_sent_again_after_1_2_4_8_and_then_every_15_seconds() -> None:
    worker = batches(resend_s=1.0)
    flight = put(worker, 1, now_s=100.0)
    worker.sent(flight, 100.0)
    now_s, waits = 100.0, []
    for _ in range(6):
        while not worker.overdue(now_s):
            now_s += 0.5
        waits.append(now_s - flight.sent_s)
        worker.sent(flight, now_s)
    assert waits == [1, 2, 4, 8, RESEND_MAX_S, RESEND_MAX_S]


def test_what_is_acked_is_not_sent_again() -> None:
    worker = batches()
    worker.sent(put(worker, 1), 0.0)
    worker.settle("w", applied(1))
    assert worker.overdue(1e9) == []


def test_only_the_parts_without_an_ack_are_sent_again() -> None:
    worker = batches(partitions=PARTITIONS)
    flight = put(worker, 1, {f"s/{i}": 1 for i in range(40)})
    (first, seq), *others = list(flight.parts)
    worker.settle("w", applied(seq, partition=first))
    assert {(part.partition, part.seq) for part in flight.open_parts()} == set(others)


def test_a_new_owner_is_sent_what_is_open_for_its_partitions() -> None:
    worker = batches(partitions=PARTITIONS)
    page = {partition_of(f"s/{i}", PARTITIONS): f"s/{i}" for i in range(100)}
    flights = {partition: put(worker, partition, {page[partition]: 1}) for partition in (0, 1, 2)}
    claimed = worker.claimed(job_of("dead", 9, partition=1), "claimed", 0.0)
    assert worker.touching({1}) == [flights[1], claimed]
    assert worker.touching({3}) == []
    worker.settle("w", applied(1, partition=1))
    assert worker.touching({1}) == [claimed]


# --- memory -------------------------------------------------------------------------------------


def test_past_its_memory_a_job_is_left_to_the_spool() -> None:
    worker = batches(unacked_bytes=1000)
    flights = [put(worker, id) for id in range(10)]
    left = [flight.id for flight in flights if not list(flight.open_parts())]
    assert 0 < len(left) < 10
    assert worker.size_bytes <= 1000
    assert worker.accepted == 10


def test_memory_is_free_again_when_acks_come() -> None:
    worker = batches(unacked_bytes=1000)
    for id in range(10):
        put(worker, id)
    worker.settle("w", applied(10))
    assert (worker.size_bytes, worker.unacked) == (0, 0)
    assert list(put(worker, 11).open_parts())


def test_a_job_left_to_the_spool_is_done_when_an_ack_covers_it_all_the_same() -> None:
    worker = batches(unacked_bytes=0)
    put(worker, "left")
    settled = worker.settle("w", applied(1))
    assert (settled.done, settled.parts) == (["left"], [])  # its hits were never in the answers
    assert worker.acked == 1


@given(st.lists(st.tuples(st.sampled_from(["put", "ack", "claim", "expire"]), st.integers(1, 12)), max_size=60))
def test_memory_s_size_is_what_is_open(actions: list[tuple[str, int]]) -> None:
    worker = batches(unacked_bytes=1500)
    for number, (action, value) in enumerate(actions):
        if action == "put":
            put(worker, number)
        elif action == "ack":
            worker.settle("w", applied(value))
            worker.settle("dead", applied(value))
        elif action == "claim":
            worker.claimed(job_of("dead", value), ("claim", value), float(number))
        else:
            worker.expire_claims(number - value)
    assert worker.size_bytes == sum(flight.size_bytes for flight in worker.overdue(1e9))
    worker.settle("w", applied(100))
    worker.expire_claims(1e9)
    assert worker.size_bytes == 0


# --- claims -------------------------------------------------------------------------------------


def test_a_claimed_job_is_sent_under_its_own_worker_s_numbers() -> None:
    worker = batches()
    flight = worker.claimed(job_of("dead", 7), "id", 3.0)
    assert (flight.worker, [part.seq for part in flight.open_parts()]) == ("dead", [7])
    assert worker.form({"s/a": 1}, 0).parts[0].seq == 1


def test_a_claim_expires_with_its_time() -> None:
    worker = batches()
    worker.claimed(job_of("dead", 1), "old", 10.0)
    worker.claimed(job_of("dead", 2), "young", 20.0)
    worker.expire_claims(15.0)
    assert (worker.claims, [flight.id for flight in worker.overdue(1e9)]) == (1, ["young"])
    assert worker.settle("dead", applied(2)).done == ["young"]
    assert worker.size_bytes == 0


def test_a_job_given_out_again_before_its_claim_expired_here_is_held_once() -> None:
    worker = batches()
    size = worker.claimed(job_of("dead", 1), "job", 0.0).size_bytes
    worker.claimed(job_of("dead", 1), "job", 10.0)
    assert (worker.claims, worker.size_bytes) == (1, size)


def test_a_claimed_job_of_one_s_own_settles_with_the_put_one() -> None:
    worker = batches()
    job = worker.form({"s/a": 2}, 0)
    worker.spooled(job, "put", 0.0)
    worker.claimed(job, "claim", 5.0)
    settled = worker.settle("w", applied(1))
    assert (settled.done, settled.claims, len(settled.parts)) == (["put", "claim"], 1, 1)
    assert (worker.acked, worker.unacked, worker.claims) == (2, 0, 0)


# --- the end ------------------------------------------------------------------------------------


def settled_worker() -> Batches:
    """Two hits in one lane, acked and deleted unclaimed."""
    worker = batches()
    put(worker, 1)
    put(worker, 2)
    worker.deleted([True for _ in worker.settle("w", applied(2)).done])
    return worker


def test_a_worker_with_clean_books_closes_its_lanes() -> None:
    assert settled_worker().ends({0: 5}) == [LaneEnd(0, 5, 2)]


def test_a_lane_whose_owner_isn_t_known_is_not_closed() -> None:
    assert settled_worker().ends({1: 5}) == []


def test_a_lane_that_was_never_used_is_not_closed() -> None:
    assert batches().ends({0: 5}) == []


def test_a_refused_put_keeps_the_books_clean() -> None:
    worker = settled_worker()
    worker.refused(worker.form({"s/a": 1}, 0), unknown=False)
    assert worker.ends({0: 5}) == [LaneEnd(0, 5, 3)]  # the owner sees that it ended elsewhere, and keeps the lane


def test_a_worker_with_an_unacked_job_closes_nothing() -> None:
    worker = settled_worker()
    put(worker, 3)
    assert worker.ends({0: 5}) == []


def test_a_job_of_one_s_own_that_was_given_up_and_is_claimed_expects_its_ack() -> None:
    worker = batches()
    job = worker.form({"s/a": 1}, 0)
    worker.refused(job, unknown=True)  # it was on the disk all the same
    worker.claimed(job, "copy", 5.0)
    assert worker.expects("w", 0)
    assert worker.settle("w", applied(1)).done == ["copy"]
    assert not worker.expects("w", 0)


def test_a_worker_with_a_job_that_somebody_may_have_claimed_closes_nothing() -> None:
    worker = settled_worker()
    put(worker, 3)
    worker.settle("w", applied(3))
    worker.deleted([True, False])
    assert worker.ends({0: 5}) == []


def test_a_worker_with_a_put_without_an_answer_closes_nothing() -> None:
    worker = settled_worker()
    worker.refused(worker.form({"s/a": 1}, 0), unknown=True)
    assert worker.ends({0: 5}) == []


def test_a_worker_that_has_claimed_its_own_job_closes_nothing() -> None:
    worker = settled_worker()
    worker.claimed(job_of("w", 2), "claim", 0.0)
    worker.deleted([True for _ in worker.settle("w", applied(2)).done])
    assert worker.ends({0: 5}) == []


def test_a_worker_that_left_a_job_to_the_spool_closes_nothing() -> None:
    worker = batches(unacked_bytes=0)
    put(worker, 1)
    worker.deleted([True for _ in worker.settle("w", applied(1)).done])
    assert worker.ends({0: 5}) == []


def test_claims_of_others_jobs_don_t_hold_up_the_end() -> None:
    worker = settled_worker()
    worker.claimed(job_of("dead", 2), "claim", 0.0)
    assert worker.ends({0: 5}) == [LaneEnd(0, 5, 2)]


# --- what a lane's acks can't say ----------------------------------------------------------------


def test_an_ack_of_a_number_that_was_never_used_goes_too_far() -> None:
    worker = batches()
    assert worker.goes_too_far("w", applied(1))
    put(worker, 1)
    put(worker, 2)
    assert not worker.goes_too_far("w", applied(2))
    assert worker.goes_too_far("w", applied(3))
    assert worker.goes_too_far("w", applied(1, ((2**63 - 1, 2**63 - 1),)))
    assert not worker.goes_too_far("another", applied(3))


def test_a_lane_whose_numbers_somebody_else_has_used_goes_on_above_them() -> None:
    worker = batches()
    put(worker, 1)
    put(worker, 2)
    settled = worker.settle("w", applied(1, ((100, 100), (200, 205))))
    assert (settled.done, settled.jumped_to, settled.in_doubt) == ([1], 206, 0)
    assert [part.seq for part in worker.form({"s/a": 1}, 0).parts] == [206]
    assert worker.settle("w", applied(2, ((100, 100), (200, 205)))).done == [2]
    assert worker.in_doubt == 0


def test_hits_that_somebody_else_may_have_given_up_are_in_doubt_and_not_in_silence() -> None:
    worker = batches()
    put(worker, 1, {"s/a": 3})
    forming = worker.form({"s/a": 4}, 0)
    settled = worker.settle("w", applied(500))
    assert (settled.jumped_to, worker.in_doubt) == (501, 3)
    worker.spooled(forming, 2, 0.0)  # it was being put, and comes too late as well
    worker.settle("w", applied(500))
    assert worker.in_doubt == 7
    put(worker, 3, {"s/a": 5})
    assert worker.settle("w", applied(501)).done == [3]
    assert worker.in_doubt == 7


def test_a_worker_with_a_lane_that_jumped_closes_none() -> None:
    worker = batches()
    put(worker, 1)
    worker.settle("w", applied(1, ((7, 7),)))
    assert worker.ends({0: 1}) == []


def test_an_ack_is_expected_while_something_is_on_the_way() -> None:
    worker = batches()
    assert not worker.expects("w", 0)
    put(worker, 1)
    assert worker.expects("w", 0)
    assert not worker.expects("w", 1)
    assert not worker.expects("v", 0)
    worker.claimed(job_of("v", 5), 9, 0.0)
    assert worker.expects("v", 0)
    worker.settle("w", applied(1))
    assert not worker.expects("w", 0)


def test_an_ack_of_numbers_that_a_lane_has_passed_over_goes_too_far() -> None:
    worker = batches()
    put(worker, 1)
    worker.settle("w", applied(0, ((1000, 1000),)))
    put(worker, 2)
    put(worker, 3)
    assert [worker.goes_too_far("w", applied(mark)) for mark in (0, 1, 2, 500, 999, 1000, 1001, 1002, 1003)] == [
        False, False, True, True, True, True, False, False, True,
    ]  # fmt: skip
