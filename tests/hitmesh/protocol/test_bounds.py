"""What arrives, within its types, and can't be true."""

from __future__ import annotations

import pytest

from hitmesh.protocol.bounds import (
    LANES_BYTES,
    MAX_PAGE_TOTAL,
    MAX_POSITION,
    check_applied,
    check_chunk,
    check_job,
    lanes_bytes,
)
from hitmesh.protocol.messages import (
    MAX_DCS,
    MAX_PART_BYTES,
    MAX_TOTAL,
    Applied,
    Chunk,
    Head,
    Job,
    LaneState,
    Origin,
    OriginRow,
    Part,
    Position,
    encode,
    make,
)
from hitmesh.protocol.pages import partition_of

PARTITIONS = 8
PAGE = "s/a"
AT = partition_of(PAGE, PARTITIONS)
OTHER = next(page for page in map("s/{}".format, range(99)) if partition_of(page, PARTITIONS) != AT)


def test_counts_of_all_datacenters_never_overflow() -> None:
    assert MAX_DCS * MAX_PAGE_TOTAL < 2**63


# --- acks ---------------------------------------------------------------------------------------


def applied(page: str = PAGE, counts: dict[str, int] | None = None, *, partition: int = AT, epoch: int = 3) -> Applied:
    return Applied(partition, epoch, 1, 1, (), {page: counts or {"eu": 1}})


def test_an_ack_of_an_owner_that_was_sent_to_is_taken() -> None:
    assert [check_applied(applied(epoch=epoch), PARTITIONS, 3) for epoch in (1, 2, 3)] == ["", "", ""]


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (applied(partition=PARTITIONS), "of 8"),
        (applied(epoch=4), "epoch 4"),
        (applied(epoch=MAX_TOTAL), "epoch"),
        (applied(epoch=0), "epoch 0"),
        (applied(OTHER), "isn't one of partition"),
        (applied(counts={"eu": MAX_PAGE_TOTAL + 1}), "can't be"),
        (applied(counts={"eu": MAX_TOTAL, "us": MAX_TOTAL, "ap": MAX_TOTAL}), "can't be"),
        (applied(counts={f"dc-{number}": 1 for number in range(MAX_DCS + 1)}), "datacenters"),
    ],
)
def test_an_ack_that_can_t_be_is_refused(one: Applied, reason: str) -> None:
    assert reason in check_applied(one, PARTITIONS, 3)


# --- jobs ---------------------------------------------------------------------------------------


def job(*parts: Part) -> Job:
    return make(Job, "w", 0, parts)


def test_a_job_as_collectors_make_them_is_sent() -> None:
    assert check_job(job(Part(AT, 1, 1, {PAGE: 1}), Part(AT, 2, 1, {PAGE: 1})), PARTITIONS) == ""


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (job(Part(PARTITIONS, 1, 1, {PAGE: 1})), "partition 8"),
        (job(Part(AT, 1, 1, {PAGE: 1}), Part(AT, 1, 1, {PAGE: 1})), "two parts"),
        (job(Part(AT, 1, 1, {})), "without hits"),
        (job(Part(AT, 1, 1, {OTHER: 1})), "isn't one of partition"),
        (job(Part(AT, 1, 1, {"a\nb": 1})), "control character"),
        (job(Part(AT, 1, 1, {"/": 1})), "site/path"),
        (job(Part(AT, 1, 1, {f"s/{n:0>1000}": 1 for n in range(MAX_PART_BYTES // 1000 + 1)})), "bytes of page"),
    ],
)
def test_a_job_that_no_collector_makes_isn_t_sent(one: Job, reason: str) -> None:
    assert reason in check_job(one, PARTITIONS)


# --- rows ---------------------------------------------------------------------------------------


def chunk(
    *rows: OriginRow, epoch: int = 1, commit: int = 9, hits: int = 5, lanes: dict[str, LaneState] | None = None
) -> Chunk:
    state = Origin(Position("l", epoch, commit), hits, lanes or {}, 0)
    return Chunk(AT, "us", 1, 0, 0, True, state, rows, {})


def test_rows_as_owners_tell_them_are_taken() -> None:
    assert check_chunk(chunk(OriginRow(PAGE, 5, 9), lanes={"w": LaneState(1, (), 5, 0)}), PARTITIONS) == ""
    assert check_chunk(Chunk(AT, "us", 1, 0, 0, True, None, (), {}), PARTITIONS) == ""


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (chunk(commit=MAX_TOTAL), "commit"),
        (chunk(commit=MAX_POSITION + 1), "commit"),
        (chunk(epoch=MAX_TOTAL), "epoch"),
        (chunk(epoch=0), "epoch 0"),
        (chunk(OriginRow(OTHER, 1, 1)), "isn't one of partition"),
        (chunk(OriginRow("a\x1bb", 1, 1)), "control character"),
        (chunk(OriginRow("é" * 600, 1, 1)), "1200 bytes"),
        (chunk(OriginRow("/s", 1, 1)), "slash"),
        (chunk(OriginRow(PAGE, MAX_PAGE_TOTAL + 1, 1)), "a row with"),
        (chunk(OriginRow(PAGE, 1, 10)), "commit 10"),
        (chunk(lanes={"v": LaneState(1, (), MAX_TOTAL, 0), "w": LaneState(1, (), MAX_TOTAL, 0)}), "more than its"),
        (chunk(lanes={f"w{number}": LaneState(1, (), 0, 0) for number in range(3000)}), "3000 lanes"),
        (Chunk(AT, "us", 1, 0, 0, True, None, (OriginRow(PAGE, 1, 1),), {}), "without a position"),
    ],
)
def test_rows_that_can_t_be_are_refused(one: Chunk, reason: str) -> None:
    assert reason in check_chunk(one, PARTITIONS)


def test_lanes_take_no_more_of_a_head_than_is_reckoned() -> None:
    big = LaneState(
        MAX_TOTAL - 10**6, tuple((n, n) for n in range(MAX_TOTAL - 7999, MAX_TOTAL, 2)), MAX_TOTAL, MAX_TOTAL
    )
    lanes = {f"worker-{number}": LaneState(MAX_TOTAL, (), MAX_TOTAL, MAX_TOTAL) for number in range(900)} | {"b": big}
    head = make(Head, "l", 1, "p", 1, 1, lanes, (), {}, False, 0)
    assert len(encode(head)) < lanes_bytes(lanes) + 100
    assert lanes_bytes({"w": LaneState(1, (), 1, 1)}) < LANES_BYTES
