"""Claims from a real spool: what is sent again, what is set aside, and how much at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import gevent
import pytest

from hitmesh.collector import claims
from hitmesh.collector.batches import Batches, Flight
from hitmesh.collector.claims import Claimer
from hitmesh.errors import StoreUnknown
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.protocol.messages import Applied, Head, Job, LaneState, Part, encode, make
from hitmesh.spool.sqlite import SqliteSpool
from hitmesh.store import StoredHead
from tests.services import wait_for

DAY_S = 24 * 3600
NOW_S = 1_800_000_000
NO_LIMIT = 10**9


class Totals:
    """A totals store's head of one partition."""

    def __init__(self) -> None:
        self.lanes: dict[str, LaneState] = {}
        self.restoring = False
        self.answers = True

    def read_head(self, partition: int) -> StoredHead | None:
        if not self.answers:
            raise StoreUnknown("it is away", op="read", endpoint="consul:")
        return StoredHead(encode(make(Head, "l", 1, "p", 1, 9, self.lanes, (), {}, self.restoring, 0)), 1)


class Claims:
    """A claimer on a spool of its own, and what it sent."""

    def __init__(self, folder: Path) -> None:
        self.spool = SqliteSpool(folder / "spool.db", claim_s=60, longest_delay_s=60)
        self.batches = Batches("me", partitions=1, resend_s=60, unacked_bytes=NO_LIMIT)
        self.sent: list[Flight] = []
        self.limit_bytes = NO_LIMIT
        self.totals = Totals()

    def put(self, seq: int, *, age_s: float = 0.0, worker: str = "dead") -> None:
        job = make(Job, worker, int((time.time() - age_s) * 1000), (Part(0, seq, 1, {"s/a": 1}),))
        self.spool.put(encode(job), 0)

    def run(self) -> Claimer:
        claimer = Claimer(
            self.spool,
            self.batches,
            unacked_bytes=self.limit_bytes,
            send=self._send,
            read_head=self.totals.read_head,
            watchdog=Watchdog(),
        )
        gevent.spawn(claimer.run)
        return claimer

    def _send(self, flights: Iterable[Flight], now_s: float) -> None:
        self.sent += flights

    def buried(self) -> int:
        return self.spool.stats()[0].buried


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claims]:
    monkeypatch.setattr(claims, "POLL_S", 0.02)
    world = Claims(tmp_path)
    yield world
    world.spool.close()


def until(world: Claims, count: int) -> None:
    def enough() -> bool:
        gevent.sleep(0.01)
        return len(world.sent) >= count

    wait_for(enough, what=f"{count} jobs sent")


def test_a_job_that_nobody_acked_is_sent_again_unchanged(world: Claims) -> None:
    world.put(7)
    world.run()
    until(world, 1)
    assert (world.sent[0].worker, list(world.sent[0].parts.values())) == ("dead", [Part(0, 7, 1, {"s/a": 1})])


@pytest.mark.parametrize("days", [7, 4000, -7])
def test_a_job_that_may_be_older_than_its_lane_is_set_aside_loudly_and_never_sent(
    world: Claims, caplog: pytest.LogCaptureFixture, days: int
) -> None:
    world.put(1, age_s=days * DAY_S)
    world.put(2, age_s=6.9 * DAY_S)
    world.run()
    until(world, 1)
    assert [list(flight.parts) for flight in world.sent] == [[(0, 2)]]
    assert world.buried() == 1
    assert "whether its 1 hits were counted can't be told" in caplog.text


@pytest.mark.parametrize("days", [8, 4000, -8, -4000])
def test_a_job_whose_lane_is_remembered_is_sent_whatever_the_clock_says(world: Claims, days: int) -> None:
    world.totals.lanes = {"dead": LaneState(1, (), 1, NOW_S - 5 * DAY_S), "other": LaneState(1, (), 1, NOW_S)}
    world.put(2, age_s=days * DAY_S)
    world.run()
    until(world, 1)
    assert world.buried() == 0


def test_a_lane_that_is_about_to_be_forgotten_tells_nothing(world: Claims) -> None:
    world.totals.lanes = {"dead": LaneState(1, (), 1, NOW_S - 6 * DAY_S), "other": LaneState(1, (), 1, NOW_S)}
    world.put(2, age_s=8 * DAY_S)
    world.put(1, worker="other")
    world.run()
    until(world, 1)
    assert ([flight.worker for flight in world.sent], world.buried()) == (["other"], 1)


@pytest.mark.parametrize("how", ["away", "restoring"])
def test_a_job_waits_while_nobody_can_say_whether_its_lane_is_remembered(world: Claims, how: str) -> None:
    world.totals.answers = how != "away"
    world.totals.restoring = how == "restoring"
    world.put(1, age_s=8 * DAY_S)
    world.put(2)
    world.run()
    until(world, 1)
    assert ([list(flight.parts) for flight in world.sent], world.buried()) == ([[(0, 2)]], 0)


def test_what_is_no_job_is_set_aside(world: Claims) -> None:
    world.spool.put(b"\x00" * 20, 0)
    world.put(1)
    world.run()
    until(world, 1)
    assert world.buried() == 1


def test_while_acks_aren_t_coming_claims_are_few(world: Claims) -> None:
    for seq in range(1, 31):
        world.put(seq)
    world.run()
    until(world, claims.WINDOW_START)
    gevent.sleep(0.2)  # ten more looks
    assert len(world.sent) == claims.WINDOW_START


def test_claims_grow_while_they_come_to_their_end(world: Claims) -> None:
    for seq in range(1, 31):
        world.put(seq)
    claimer = world.run()
    until(world, claims.WINDOW_START)
    settled = world.batches.settle("dead", Applied(0, 1, 1, 30, (), {}))
    world.spool.done(settled.done)
    claimer.progress()
    until(world, 3 * claims.WINDOW_START)
    assert world.batches.claims == 2 * claims.WINDOW_START


def test_progress_that_comes_together_with_the_next_look_counts(world: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "POLL_S", 0.2)
    for seq in range(1, 31):
        world.put(seq)
    claimer = world.run()
    until(world, claims.WINDOW_START)
    world.spool.done(world.batches.settle("dead", Applied(0, 1, 1, 30, (), {})).done)
    gevent.spawn(time.sleep, 2 * claims.POLL_S)  # the hub is late: this test and the claimer are both due after it
    gevent.sleep(0.001)
    claimer.progress()
    until(world, 3 * claims.WINDOW_START)
    assert world.batches.claims == 2 * claims.WINDOW_START


def test_a_full_memory_claims_nothing(world: Claims) -> None:
    world.put(1)
    world.limit_bytes = -1
    world.run()
    gevent.sleep(0.2)
    assert (world.sent, world.spool.stats()[0].ready) == ([], 1)


def test_a_stopped_claimer_claims_nothing(world: Claims) -> None:
    claimer = world.run()
    claimer.stop()
    gevent.sleep(0.05)
    world.put(1)
    gevent.sleep(0.1)
    assert world.sent == []


@pytest.mark.parametrize(
    "job",
    [
        make(Job, "dead", 0, (Part(9, 1, 1, {"s/a": 1}),)),
        make(Job, "dead", 0, (Part(0, 1, 1, {"a\nb": 1}),)),
        make(Job, "dead", 0, (Part(0, 1, 1, {"s/a": 1}), Part(0, 1, 1, {"s/b": 1}))),
    ],
)
def test_a_job_that_no_collector_makes_is_set_aside_in_words(
    world: Claims, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    world.spool.put(encode(job), 0)
    world.put(2)
    world.run()
    until(world, 1)
    assert [list(flight.parts) for flight in world.sent] == [[(0, 2)]]
    assert world.buried() == 1
    assert "no collector makes such a job" in caplog.text
    assert "\x1b" not in caplog.text
