"""What every spool promises, whatever is behind it."""

from __future__ import annotations

import re
import time

import pytest

from hitmesh.errors import SpoolRefused
from hitmesh.spool import Claimed, JobId, Spool
from tests.hitmesh.spool.conftest import CLAIM_S, Place
from tests.services import PATIENCE_S, wait_for

LONG_S = 60.0


def claim_all(spool: Spool, count: int, *, within_s: float = PATIENCE_S) -> list[Claimed]:
    """`count` claims, waiting for those whose time hasn't come."""
    claimed: list[Claimed] = []

    def enough() -> bool:
        claimed.extend(spool.claim(count - len(claimed)))
        return len(claimed) == count

    wait_for(enough, within_s=within_s, what=f"{count} claims")
    return claimed


def fill(spool: Spool, *, match: str) -> list[JobId]:
    """Jobs of 7 KB until one is refused, which must come before the thousandth and match."""
    stored: list[JobId] = []

    def until_refused() -> None:
        while len(stored) < 1000:
            stored.append(spool.put(b"%07d" % len(stored) * 1000, LONG_S))

    with pytest.raises(SpoolRefused, match=match):
        until_refused()
    return stored


def count(spool: Spool, state: str) -> list[int]:
    return [getattr(copy, state) for copy in spool.stats()]


@pytest.mark.parametrize(
    "body", [b"", b"\r\n", b"a\r\nput 0 0 0 0\r\n\x00", bytes(range(256)) * 4096], ids=["empty", "crlf", "nul", "1MiB"]
)
def test_a_jobs_bytes_come_back_unchanged(place: Place, body: bytes) -> None:
    spool = place.open()
    spool.put(body, 0)
    assert [job.body for job in claim_all(spool, place.copies)] == [body] * place.copies


def test_a_job_is_named_as_hitmesh_spool_names_it(place: Place) -> None:
    spool = place.open()
    stored = str(spool.put(b"x", 0))
    claimed = sorted(str(job.id) for job in claim_all(spool, place.copies))
    assert [re.sub(r"\d+$", "N", name) for name in claimed] == (["N"] if place.copies == 1 else ["1/N", "2/N"])
    assert stored == " and ".join(claimed)


def test_a_job_is_claimable_only_after_its_delay(place: Place) -> None:
    spool = place.open()
    put_at = time.monotonic()
    spool.put(b"later", 1.0)
    spool.put(b"much later", LONG_S)
    assert [job.body for job in claim_all(spool, place.copies)] == [b"later"] * place.copies
    assert time.monotonic() - put_at >= 1.0
    assert spool.claim(10) == []


def test_a_job_that_is_done_before_its_delay_ends_was_certainly_unclaimed(place: Place) -> None:
    spool = place.open()
    job = spool.put(b"done", LONG_S)
    assert spool.done([job]) == [True]
    assert count(spool, "waiting") == [0] * place.copies


def test_many_jobs_are_done_in_one_call_and_answered_in_their_order(place: Place) -> None:
    spool = place.open()
    jobs = [spool.put(b"%d" % number, LONG_S) for number in range(20)]
    spool.done(jobs[3:5])
    assert spool.done(jobs) == [at not in (3, 4) for at in range(20)]


def test_a_job_that_is_gone_is_done_without_an_error_and_not_for_certain(place: Place) -> None:
    spool = place.open()
    job = spool.put(b"gone", LONG_S)
    spool.done([job])
    assert spool.done([job]) == [False]


def test_a_job_that_somebody_else_claimed_was_not_certainly_unclaimed(place: Place) -> None:
    putter, claimer = place.open(), place.open()
    job = putter.put(b"claimed", 0)
    claim_all(claimer, place.copies)
    assert putter.done([job]) == [False]


def test_a_job_that_somebody_had_claimed_and_lost_was_not_certainly_unclaimed(place: Place) -> None:
    putter, claimer = place.open(), place.open()
    job = putter.put(b"claimed", 0)
    claim_all(claimer, place.copies)
    claimer.close()
    assert putter.done([job]) == [False]


def test_a_claimed_job_that_is_done_is_gone(place: Place) -> None:
    spool = place.open()
    spool.put(b"claimed", 0)
    claimed = claim_all(spool, place.copies)
    assert spool.done([job.id for job in claimed]) == [False] * place.copies
    for state in ("waiting", "ready", "claimed", "buried"):
        assert count(spool, state) == [0] * place.copies


def test_a_claimed_job_that_is_not_done_comes_back_after_the_claims_time(place: Place) -> None:
    spool = place.open(claim_s=CLAIM_S)
    spool.put(b"again", 0)
    began = time.monotonic()
    claims: list[int] = []
    ages_s: list[float] = []  # of those that are given out for the second time

    def is_all_back() -> bool:
        for job in spool.claim(10):
            assert job.body == b"again"
            claims.append(job.claims)
            if job.claims == 2:
                ages_s.append(time.monotonic() - began)
        return len(ages_s) == place.copies

    wait_for(is_all_back, what="all copies to come back")
    assert claims.count(1) == place.copies
    assert min(ages_s) >= CLAIM_S


def test_two_claimers_never_hold_the_same_job_at_the_same_time(place: Place) -> None:
    claimers = [place.open(), place.open(), place.open()]
    for number in range(30):
        claimers[0].put(b"%d" % number, 0)
    held = [job.body for turn in range(12) for claimer in claimers for job in claimer.claim(3)]
    assert sorted(held) == sorted(b"%d" % number for number in range(30) for _ in range(place.copies))


def test_a_claim_takes_no_more_than_its_limit(place: Place) -> None:
    spool = place.open()
    for _ in range(5):
        spool.put(b"x", 0)
    assert len(spool.claim(2)) == 2


def test_a_buried_job_is_kept_counted_and_never_given_out_again(place: Place) -> None:
    spool, other = place.open(claim_s=CLAIM_S), place.open()
    spool.put(b"bad", 0)

    def is_buried() -> bool:
        for job in spool.claim(10):
            spool.bury(job.id)  # does nothing where the claim has ended before
        return count(spool, "buried") == [1] * place.copies

    wait_for(is_buried, what="all copies to be buried")
    time.sleep(CLAIM_S + 0.5)  # a claim's time, after which it would be given out again
    other.put(b"good", 0)
    assert [job.body for job in claim_all(other, place.copies)] == [b"good"] * place.copies
    assert other.claim(10) == []
    assert count(spool, "buried") == [1] * place.copies


def test_the_stats_tell_waiting_ready_and_claimed_jobs_apart(place: Place) -> None:
    spool = place.open()
    for _ in range(3):
        spool.put(b"now", 0)
    spool.put(b"later", LONG_S)
    claim_all(spool, place.copies)
    [first, *_] = spool.stats()
    assert first.usable
    assert first.reason == ""
    assert sum(count(spool, "waiting")) == place.copies
    assert sum(count(spool, "claimed")) == place.copies
    assert sum(count(spool, "ready")) == 2 * place.copies


def test_a_job_outlives_the_spool_that_put_it(place: Place) -> None:
    spool = place.open()
    spool.put(b"kept", 0)
    spool.close()
    assert [job.body for job in claim_all(place.open(), place.copies)] == [b"kept"] * place.copies


def test_a_healthy_spool_passes_its_check(place: Place) -> None:
    spool = place.open()
    spool.check()
    spool.put(b"x", LONG_S)
    spool.check()
    assert all(copy.usable for copy in spool.stats())
