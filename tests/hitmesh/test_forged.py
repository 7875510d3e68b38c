"""Frames that decode and can't be true, beside honest hits: nothing ends, nothing falls, every hit counts once.

The processes' sockets add nothing to what is tried here but bytes; `bench/run frames` has the processes.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.frames import Forger, Living
from hitmesh.collector.batches import Batches, Flight
from hitmesh.processor.following import Following
from hitmesh.processor.steps import Acks
from hitmesh.protocol.bounds import check_applied
from hitmesh.protocol.messages import (
    Ack,
    Addressed,
    Applied,
    Batch,
    Rows,
    decode,
    decode_head,
    encode,
    make,
)
from hitmesh.store.totals import Reading, reading_of
from tests.hitmesh.processor.memory_store import MemoryStore
from tests.hitmesh.processor.test_partition import HERE, Owner

HONEST = ("honest/a", "honest/b", "honest/c")
WARM = 5  # hits, so that the lane is past the small numbers that a forger tries
FAR_S = 10.0


class Mesh:
    """One collector's worker and one partition's owner, a store between them, and somebody who forges."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.store = MemoryStore()
        self.owner = Owner(self.store, max_rows=3).take()
        self.batches = Batches("w", partitions=1, resend_s=1.0, unacked_bytes=10**9)
        self.following = Following(dc="x", held_s=0.5, first=1)
        self.flights: list[Flight] = []
        self.hits: dict[str, int] = {}
        self.highest: dict[str, int] = {}
        self.refused = 0
        self.now_s = 0.0
        living = Living(workers=("w", "v"), instances=("p1",), dcs=("x", "us"), ledgers=("ledger of p1",))
        self.forger = Forger(random, living)

    # --- what is honest -----------------------------------------------------------------------

    def hit(self) -> None:
        page = self.random.choice(HONEST)
        self.hits[page] = self.hits.get(page, 0) + 1
        self.flights.append(self.batches.spooled(self.batches.form({page: 1}, 0), len(self.flights), 0.0))
        if self.random.random() < 0.7:  # else it is sent later, perhaps behind younger ones
            self.send(self.flights[-1])

    def send(self, flight: Flight) -> None:
        parts = tuple(Addressed(self.owner.partition.epoch, part) for part in flight.open_parts())
        self.receive(encode(make(Batch, "w", HERE, parts)))

    def commit(self) -> None:
        acks = self.owner.commit()
        self.following.committed(self.owner.partition)
        self.look()
        self.acknowledge(acks)

    def acknowledge(self, acks: Acks) -> None:
        for (_, worker), applied in acks.items():
            self.take_ack(encode(make(Ack, worker, (applied,))))

    def look(self) -> None:
        """The head can be read, and no count has fallen."""
        assert self.store.head is not None
        head = decode_head(self.store.head)
        totals = self.store.totals()
        for page, count in self.highest.items():
            assert totals.get(page, 0) >= count, page
        self.highest = totals
        assert head.hits >= sum(lane.hits for lane in head.lanes.values())

    # --- what arrives, as the shells take it ----------------------------------------------------

    def receive(self, data: bytes) -> None:
        batch = decode(data, Batch)
        for addressed in batch.parts:
            if addressed.part.partition == 0:
                _, applied = self.owner.partition.offer(batch.worker, HERE, addressed.epoch, addressed.part)
                if applied is not None:
                    self.acknowledge({(HERE, batch.worker): applied})

    def take_ack(self, data: bytes) -> None:
        message = decode(data, Ack)
        for applied in message.applied:
            self.settle(message.worker, applied)

    def settle(self, worker: str, applied: Applied) -> None:
        if not self.batches.expects(worker, applied.partition):
            return
        if check_applied(applied, 1, self.owner.partition.epoch, self.owner.head.commit):
            self.refused += 1
        elif self.batches.goes_too_far(worker, applied):
            self.refused += 1
            said = self.read().applied
            assert said is not None
            self.batches.settle("w", said)
        else:
            self.batches.settle(worker, applied)

    def read(self) -> Reading:
        return reading_of(0, "w", ["honest/a"], self.store.read_head(), list(self.store.rows.values()), has_peers=False)

    def forge(self) -> None:
        self.now_s += 1
        what = self.random.random()
        if what < 0.6:
            self.receive(self.forger.frame([Batch]))
        elif what < 0.8:
            self.take_ack(self.forger.frame([Ack]))
        else:
            list(self.following.ask(self.owner.partition, {"us"}, {"us": "tcp://us"}, self.now_s * FAR_S))
            for chunk in decode(self.forger.frame([Rows]), Rows).chunks:
                if chunk.partition == 0:
                    self.following.answered(self.owner.partition, "us", chunk, self.now_s * FAR_S + 1)

    # --- all of it ----------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        for _ in range(WARM):
            self.hit()
        self.settle_all()
        for _ in range(steps):
            self.random.choice((self.hit, self.forge, self.forge, self.commit))()
        self.settle_all()

    def settle_all(self) -> None:
        for _ in range(50):
            for flight in self.flights:
                if flight.parts:
                    self.send(flight)
            self.owner.now_s += 61
            self.commit()
            if not self.batches.unacked:
                return
        raise AssertionError(f"{self.batches.unacked} jobs are never acked: {self.owner.counters.refusal}")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
@example(13466)  # an ack up to the number that somebody else had brought the lane to
def test_honest_hits_are_counted_once_whatever_else_arrives(seed: int) -> None:
    mesh = Mesh(Random(seed))
    mesh.run(60)
    counted = {page: count for page, count in mesh.store.totals().items() if page in HONEST}
    assert counted == mesh.hits, seed
    assert mesh.batches.in_doubt == 0, seed


def test_what_is_refused_is_counted() -> None:
    mesh = Mesh(Random(1))
    mesh.run(400)
    assert mesh.owner.counters.refused > 0
    assert mesh.refused > 0
    assert mesh.batches.jumps > 0


@pytest.mark.parametrize("mark", [50, 2**32])
def test_a_head_that_was_spoiled_before_costs_what_was_on_the_way_and_nothing_in_silence(mark: int) -> None:
    mesh = spoiled(mark)
    mesh.hit()
    mesh.settle_all()
    for _ in range(3):
        mesh.hit()
    mesh.settle_all()
    assert mesh.batches.in_doubt == 1
    assert sum(mesh.store.totals().values()) == WARM + 3


def test_a_worker_whose_numbers_are_used_up_says_so() -> None:
    mesh = spoiled(2**63 - 1)
    assert not mesh.batches.is_used_up
    mesh.hit()
    mesh.settle_all()
    assert mesh.batches.is_used_up
    assert mesh.batches.in_doubt == 1


def spoiled(mark: int) -> Mesh:
    """A mesh in whose store somebody has raised the worker's lane."""
    mesh = Mesh(Random(0))
    for _ in range(WARM):
        mesh.hit()
    mesh.settle_all()
    lanes = {"w": replace(mesh.owner.head.lanes["w"], mark=mark)}
    mesh.store.head = encode(replace(mesh.owner.head, lanes=lanes))
    mesh.owner = Owner(mesh.store, "p2", max_rows=3).take()
    return mesh
