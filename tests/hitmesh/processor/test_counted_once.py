"""The promise, model-tested: collectors, processors and a store, with everything that can go wrong.

The machine forms, spools, sends, duplicates, reorders, drops, claims, commits, loses answers,
crashes and fences in every order that hypothesis finds. The oracle is a dict of what was
accepted. All of the real pure code is in it: Batches, Known, Partition, and the wire's bytes.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from unittest.mock import patch
from zlib import crc32

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hitmesh.collector import batches as batches_module
from hitmesh.collector.batches import Batches, Flight
from hitmesh.collector.known import Known
from hitmesh.processor.partition import Partition
from hitmesh.processor.steps import Acks, Counters, LoadRows, Offered, Phase, ReadHead, Step
from hitmesh.protocol.messages import Ack, Addressed, Batch, Close, Job, decode, encode, make
from hitmesh.store import Refused, Unknown, Write
from tests.examples import examples
from tests.hitmesh.processor.memory_store import MemoryStore

PAGES = ["s/a", "s/b", "s/c"]  # one more than a write of the store in memory can carry
BIG = 10**9
OLD_FRAMES = 30
WHO = st.integers(0, 1)
COUNTS = st.dictionaries(st.sampled_from(PAGES), st.integers(1, 2), min_size=1)
ANSWERS = st.sampled_from(["yes", "yes", "yes", "yes", "lost before", "lost after", "late"])


def address(name: str) -> str:
    """Where a worker hears acks."""
    return f"tcp://{IPv4Address(crc32(name.encode()))}:1"


@dataclass
class Stored:
    """A job in the spool."""

    body: bytes
    was_claimed: bool = False
    accepted: bool = True


@dataclass
class Spool:
    """Jobs on disk."""

    jobs: dict[int, Stored] = field(default_factory=dict)
    last: int = 0

    def put(self, body: bytes, *, accepted: bool = True) -> int:
        self.last += 1
        self.jobs[self.last] = Stored(body, accepted=accepted)
        return self.last

    def done(self, id: int) -> bool:
        stored = self.jobs.pop(id, None)
        return stored is not None and not stored.was_claimed


class Worker:
    """A collector worker."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.batches = Batches(name, partitions=1, resend_s=1.0, unacked_bytes=1500)
        self.known = Known(dc="x", fresh_s=1.0, max_pages=100)
        self.accepted: Counter[str] = Counter()  # what its answers must include
        self.answered: dict[str, int] = {}


class CountedOnce(RuleBasedStateMachine):
    """Two collectors and two processors around one partition.

    Single events alone seldom meet in the order that hurts, so most rules are a little story: a
    commit, a hand-over, a clean stop, each with its chances to go wrong on the way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.small_parts = patch.object(batches_module, "MAX_PART_PAGES", 1)  # so that a job has several
        self.small_parts.start()
        self.store = MemoryStore()
        self.spool = Spool()
        self.births = 0
        self.workers = [self.new_worker(), self.new_worker()]
        self.processors = [self.new_processor(), self.new_processor()]
        self.under_way: dict[int, Step] = {}  # by processor: a step that hasn't been answered yet
        self.accepted: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.batches_out: list[bytes] = []  # frames on the way to processors
        self.acks_out: list[tuple[str, bytes]] = []  # (address of the worker that gets it, frame)
        self.old_batches: deque[bytes] = deque(maxlen=OLD_FRAMES)  # arrived, and may arrive again
        self.old_acks: deque[tuple[str, bytes]] = deque(maxlen=OLD_FRAMES)  # arrived or lost, and may arrive

    def new_worker(self) -> Worker:
        self.births += 1
        return Worker(f"w{self.births}")

    def new_processor(self) -> Partition:
        self.births += 1
        store = self.store
        return Partition(
            0, dc="x", me=f"p{self.births}", ledger="ledger", max_rows=store.max_rows,
            max_write_bytes=store.max_write_bytes, counters=Counters(),
        )  # fmt: skip

    @initialize()
    def begin(self) -> None:
        self.own(0)

    # --- collectors ---

    @rule(who=WHO, counts=COUNTS)
    def accept(self, who: int, counts: dict[str, int]) -> None:
        self.send(self.put(self.workers[who], counts))

    @rule(who=WHO, processor=WHO, first=COUNTS, second=COUNTS)
    def overtake(self, who: int, processor: int, first: dict[str, int], second: dict[str, int]) -> None:
        """A batch gets lost and the next one arrives."""
        self.put(self.workers[who], first)
        self.batches_out.clear()
        self.accept(who, second)
        self.deliver_all(processor)

    @rule(who=WHO, counts=COUNTS, written=st.booleans(), answered=st.booleans())
    def refuse(self, who: int, counts: dict[str, int], written: bool, answered: bool) -> None:
        """A put that failed: refused, or without an answer and perhaps written."""
        batches = self.workers[who].batches
        job = batches.form(counts, 0)
        if not answered:
            self.unknown.update(counts)
            if written:
                self.spool.put(encode(job), accepted=False)
        batches.refused(job, unknown=not answered)

    @precondition(lambda self: self.spool.jobs)
    @rule(who=WHO, data=st.data())
    def claim(self, who: int, data: st.DataObject) -> None:
        self.claim_job(self.workers[who], data.draw(st.sampled_from(sorted(self.spool.jobs))))

    @rule(who=WHO, processor=WHO, counts=COUNTS, claimed=st.booleans(), late=st.booleans())
    def stop_worker(self, who: int, processor: int, counts: dict[str, int], claimed: bool, late: bool) -> None:
        """A clean stop: what is open is committed, and lanes are closed if the books allow it.

        The other worker may have `claimed` its last job, and what it sent may come again `late`.
        """
        worker, other = self.workers[who], self.workers[1 - who]
        flight = self.put(worker, counts)
        if claimed:
            assert isinstance(flight.id, int)
            self.claim_job(other, flight.id)
        self.resend(worker)
        self.deliver_all(processor)
        self.commit_all(processor)
        self.deliver_acks(worker)
        for one in self.processors:
            ends = worker.batches.ends({0: one.epoch}) if one.epoch else []
            if ends:
                self.receive(one, encode(make(Close, worker.name, tuple(ends))))
        self.workers[who] = self.new_worker()
        self.accept(1 - who, counts)
        self.deliver_all(processor)
        self.commit_all(processor)
        if late:
            self.own(1 - processor)
            self.resend(other)
            self.batches_out.extend(self.old_batches)
            self.deliver_all(1 - processor)
            self.commit_all(1 - processor)

    def put(self, worker: Worker, counts: dict[str, int]) -> Flight:
        job = worker.batches.form(counts, 0)
        flight = worker.batches.spooled(job, self.spool.put(encode(job)), 0.0)
        for part in flight.open_parts():
            worker.known.added(part)
            worker.accepted.update(part.counts)
        self.accepted.update(counts)
        return flight

    def claim_job(self, worker: Worker, id: int) -> None:
        stored = self.spool.jobs[id]
        stored.was_claimed = True
        self.send(worker.batches.claimed(decode(stored.body, Job), ("claim", id), 0.0), to=worker)

    def resend(self, *workers: Worker) -> None:
        for worker in workers:
            for flight in worker.batches.overdue(BIG):
                self.send(flight, to=worker)

    def send(self, flight: Flight, to: Worker | None = None) -> None:
        reply_to = address(to.name if to else flight.worker)
        for epoch in {p.epoch for p in self.processors if p.epoch}:
            for part in flight.open_parts():  # in a frame each: any of them may get lost
                self.batches_out.append(encode(make(Batch, flight.worker, reply_to, (Addressed(epoch, part),))))

    # --- the network ---

    @precondition(lambda self: self.batches_out or self.old_batches)
    @rule(data=st.data(), who=WHO)
    def deliver(self, data: st.DataObject, who: int) -> None:
        """Any frame, to any processor, in any order, perhaps again."""
        self.receive(self.processors[who], data.draw(st.sampled_from([*self.batches_out, *self.old_batches])))

    def deliver_all(self, who: int) -> None:
        frames, self.batches_out = self.batches_out, []
        for frame in frames:
            self.receive(self.processors[who], frame)
        self.old_batches.extend(frames)

    def receive(self, processor: Partition, frame: bytes) -> None:
        message = decode(frame, Batch, Close)
        if isinstance(message, Close):
            for end in message.lanes:
                processor.close_lane(message.worker, end)
            return
        for addressed in message.parts:
            offered, applied = processor.offer(message.worker, message.reply_to, addressed.epoch, addressed.part)
            if applied is not None:
                assert offered is Offered.DUPLICATE
                self.acks_out.append((message.reply_to, encode(make(Ack, message.worker, (applied,)))))

    @precondition(lambda self: self.acks_out or self.old_acks)
    @rule(data=st.data())
    def deliver_ack(self, data: st.DataObject) -> None:
        """Any ack, in any order, perhaps again."""
        self.acknowledge(*data.draw(st.sampled_from([*self.acks_out, *self.old_acks])))

    @rule(batches=st.booleans(), acks=st.booleans())
    def lose(self, batches: bool, acks: bool) -> None:
        """What is under way arrives much later, if ever."""
        if batches:
            self.old_batches.extend(self.batches_out)
            self.batches_out.clear()
        if acks:
            self.old_acks.extend(self.acks_out)
            self.acks_out.clear()

    def deliver_acks(self, *workers: Worker) -> None:
        names = {address(worker.name) for worker in workers}
        acks = [ack for ack in self.acks_out if ack[0] in names]
        self.acks_out = [ack for ack in self.acks_out if ack[0] not in names]
        for ack in acks:
            self.acknowledge(*ack)
        self.old_acks.extend(acks)

    def acknowledge(self, to: str, frame: bytes) -> None:
        worker = next((worker for worker in self.workers if address(worker.name) == to), None)
        if worker is None:
            return
        message = decode(frame, Ack)
        for applied in message.applied:
            settled = worker.batches.settle(message.worker, applied)
            for part in settled.parts:
                worker.known.settled(part, applied)
            if message.worker == worker.name:
                worker.known.told(applied, 0.0)
            for id in settled.done:
                number = id[1] if isinstance(id, tuple) else id
                assert isinstance(number, int)
                worker.batches.deleted([self.spool.done(number)])

    # --- processors ---

    @rule(who=WHO, what=st.sampled_from(["processor", "worker", "leave", "take"]))
    def upset(self, who: int, what: str) -> None:
        if what == "processor":
            step = self.under_way.pop(who, None)
            if isinstance(step, Write):
                self.store.late.append(step)
            self.processors[who] = self.new_processor()
        elif what == "worker":
            self.workers[who] = self.new_worker()
        elif what == "leave":
            self.processors[who].leave()
        else:
            self.processors[who].take()

    @rule(who=WHO, busy=st.booleans(), counts=COUNTS, acks=st.booleans())
    def hand_over(self, who: int, busy: bool, counts: dict[str, int], acks: bool) -> None:
        """Another processor takes over, perhaps amid a write of the owner's, and everything comes again."""
        if busy:
            self.begin_step(who)
        self.own(1 - who)
        self.resend(*self.workers)
        self.accept(0, counts)
        self.deliver_all(1 - who)
        self.commit_all(1 - who)
        for _ in range(2):  # the answer, and the head that it makes the old owner read
            self.carry_out(who, "yes")
        if acks:
            self.deliver_acks(*self.workers)

    @rule(who=WHO, answer=ANSWERS, acks=st.booleans(), resend=st.booleans())
    def commit(self, who: int, answer: str, acks: bool, resend: bool) -> None:
        """What a good quarter of a second looks like, up to the store's answer."""
        if resend:
            self.resend(*self.workers)
        self.deliver_all(who)
        self.carry_out(who, answer)
        if acks:
            self.deliver_acks(*self.workers)

    @rule(who=WHO, worker=WHO, counts=COUNTS, answer=ANSWERS)
    def slow_commit(self, who: int, worker: int, counts: dict[str, int], answer: str) -> None:
        """Hits come in while a commit is on its way, and what is in it comes again."""
        self.accept(worker, counts)
        self.deliver_all(who)
        self.begin_step(who)
        self.accept(worker, counts)
        self.resend(self.workers[worker])
        self.deliver_all(who)
        self.carry_out(who, answer)
        self.deliver_acks(*self.workers)

    @rule(who=WHO, worker=WHO, first=COUNTS, second=COUNTS)
    def lose_an_ack(self, who: int, worker: int, first: dict[str, int], second: dict[str, int]) -> None:
        """Of two commits the second one's ack arrives: it covers what the first one would have."""
        self.accept(worker, first)
        self.deliver_all(who)
        self.commit_all(who)
        self.lose(batches=False, acks=True)
        self.accept(worker, second)
        self.deliver_all(who)
        self.commit_all(who)
        self.deliver_acks(*self.workers)

    @rule(who=WHO, answer=ANSWERS)
    def step(self, who: int, answer: str) -> None:
        self.carry_out(who, answer)

    @rule(who=WHO)
    def begin_step(self, who: int) -> None:
        """A step that takes its time: anything may happen before its answer."""
        if who not in self.under_way:
            step = self.processors[who].step(1000.0)
            if step is not None:
                self.under_way[who] = step

    @precondition(lambda self: self.store.late)
    @rule(data=st.data())
    def late_write_arrives(self, data: st.DataObject) -> None:
        self.store.write(self.store.late.pop(data.draw(st.integers(0, len(self.store.late) - 1))))

    def own(self, who: int) -> None:
        processor = self.processors[who]
        processor.take()
        for _ in range(20):
            if processor.phase in (Phase.OWNED, Phase.AWAY):
                return
            self.carry_out(who, "yes")

    def commit_all(self, who: int) -> None:
        for _ in range(20):
            if not self.processors[who].is_dirty and self.processors[who].phase in (Phase.OWNED, Phase.AWAY):
                return
            self.carry_out(who, "yes")

    def carry_out(self, who: int, answer: str) -> None:
        processor = self.processors[who]
        step = self.under_way.pop(who, None) or processor.step(1000.0)
        acks: Acks = {}
        if isinstance(step, ReadHead):
            if answer == "yes":
                acks = processor.head_read(self.store.read_head())
            else:
                processor.failed()
        elif isinstance(step, LoadRows):
            if answer == "yes":
                processor.rows_loaded(list(self.store.rows.values()))
            else:
                processor.failed()
        elif isinstance(step, Write):
            if answer == "late":
                self.store.late.append(step)
            elif answer != "lost before":
                outcome = self.store.write(step)
            acks = processor.wrote(outcome if answer == "yes" else Unknown(answer))
        for (reply_to, worker), applied in acks.items():
            self.acks_out.append((reply_to, encode(make(Ack, worker, (applied,)))))

    # --- what must hold ---

    @invariant()
    def never_too_much(self) -> None:
        totals = self.store.totals()
        for page, total in totals.items():
            assert total <= self.accepted[page] + self.unknown[page], (page, total)

    @invariant()
    def books_balance(self) -> None:
        assert sum(self.store.totals().values()) == self.store.hits()

    @invariant()
    def nothing_leaves_the_spool_before_its_commit(self) -> None:
        spooled: Counter[str] = Counter()
        for stored in self.spool.jobs.values():
            for part in decode(stored.body, Job).parts:
                spooled.update(part.counts)
        totals = self.store.totals()
        for page in PAGES:
            assert totals.get(page, 0) + spooled[page] >= self.accepted[page], page

    @invariant()
    def answers_include_own_hits_and_count_none_twice(self) -> None:
        for worker in self.workers:
            for page in PAGES:
                total = worker.known.answer(page, 0.0).total
                if total is not None:
                    assert total <= self.accepted[page] + self.unknown[page]
                    assert total >= worker.accepted[page]
                    assert total >= worker.answered.get(page, 0)
                    worker.answered[page] = total

    def teardown(self) -> None:
        """Everything heals: one owner, every job claimed until it is done. Then the totals are exact."""
        self.small_parts.stop()
        self.batches_out.clear()
        self.store.late.clear()
        owner = self.new_processor()
        self.processors = [owner, self.processors[0]]
        self.under_way.clear()
        self.workers = [self.new_worker(), self.new_worker()]
        owner.take()
        while owner.phase is not Phase.OWNED:
            self.carry_out(0, "yes")
            assert owner.phase is not Phase.AWAY
        for _ in range(3):
            for id in list(self.spool.jobs):
                self.claim_job(self.workers[0], id)
            self.deliver_all(0)
            self.commit_all(0)
            self.deliver_acks(*self.workers)
        assert not self.spool.jobs
        totals = self.store.totals()
        for page in PAGES:
            assert self.accepted[page] <= totals.get(page, 0) <= self.accepted[page] + self.unknown[page], page
        self.books_balance()


TestCountedOnce = CountedOnce.TestCase
TestCountedOnce.settings = settings(
    max_examples=examples(300), stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_stale_owner_is_refused_and_steps_down() -> None:
    store = MemoryStore()
    counters = Counters()
    old, new = (
        Partition(0, dc="x", me=me, ledger="l", max_rows=2, max_write_bytes=4096, counters=counters)
        for me in ("old", "new")
    )
    for partition in (old, new):
        partition.take()
        while partition.phase is not Phase.OWNED:
            step = partition.step(0)
            if isinstance(step, ReadHead):
                partition.head_read(store.read_head())
            elif isinstance(step, LoadRows):
                partition.rows_loaded([])
            elif isinstance(step, Write):
                partition.wrote(store.write(step))
    job = Batches("w", partitions=1, resend_s=1, unacked_bytes=9999).form({"s/a": 1}, 0)
    assert old.offer("w", "here", old.epoch, job.parts[0])[0] is Offered.STAGED
    step = old.step(0)
    assert isinstance(step, Write)
    outcome = store.write(step)
    assert outcome == Refused()
    assert old.wrote(outcome) == {}
    old.head_read(store.read_head())
    assert (old.phase, old.epoch, counters.step_downs) == (Phase.AWAY, 0, 1)
    assert store.totals() == {}
