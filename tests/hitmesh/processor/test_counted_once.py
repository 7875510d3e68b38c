"""The promise, model-tested: collectors, processors and a store, with everything that can go wrong.

The machine forms, spools, sends, duplicates, reorders, drops, claims, commits, loses answers,
crashes and fences in every order that hypothesis finds. The oracle is a dict of what was
accepted. All of the real pure code is in it: Batches, Known, Partition, and the wire's bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hitmesh.collector.batches import Batches, Flight
from hitmesh.collector.known import Known
from hitmesh.processor.partition import Acks, Counters, LoadRows, Offered, Partition, Phase, ReadHead, Step
from hitmesh.protocol.messages import Ack, Addressed, Batch, Close, Job, decode, encode, make
from hitmesh.store import Refused, Unknown, Write
from tests.hitmesh.processor.memory_store import MemoryStore

PAGES = ["s/a", "s/b", "s/c", "s/d", "s/e"]
BIG = 10**9
ANSWERS = st.sampled_from(["yes", "yes", "yes", "yes", "lost before", "lost after", "late"])


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
        self.accepted: Counter[str] = Counter()
        self.answered: dict[str, int] = {}


class CountedOnce(RuleBasedStateMachine):
    """Two collectors and two processors around one partition."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.spool = Spool()
        self.births = 0
        self.workers = [self.new_worker(), self.new_worker()]
        self.processors = [self.new_processor(), self.new_processor()]
        self.under_way: dict[int, Step] = {}  # by processor: a step that hasn't been answered yet
        self.accepted: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.batches_out: list[bytes] = []  # frames on the way to processors
        self.acks_out: list[tuple[str, bytes]] = []  # (worker that gets it, frame)

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

    # --- collectors ---

    counts = st.dictionaries(st.sampled_from(PAGES), st.integers(1, 3), min_size=1, max_size=4)

    @rule(who=st.integers(0, 1), counts=counts)
    def accept(self, who: int, counts: dict[str, int]) -> None:
        worker = self.workers[who]
        job = worker.batches.form(counts, 0)
        flight = worker.batches.spooled(job, self.spool.put(encode(job)), 0.0)
        for part in flight.open_parts():
            worker.known.added(part)
        self.accepted.update(counts)
        worker.accepted.update(counts)
        self.send(flight)

    @rule(who=st.integers(0, 1), counts=counts, written=st.booleans(), answered=st.booleans())
    def refuse(self, who: int, counts: dict[str, int], written: bool, answered: bool) -> None:
        """A put that failed: refused, or without an answer and perhaps written."""
        batches = self.workers[who].batches
        job = batches.form(counts, 0)
        if not answered:
            self.unknown.update(counts)
            if written:
                self.spool.put(encode(job), accepted=False)
        batches.refused(job, unknown=not answered)

    @rule(who=st.integers(0, 1))
    def resend(self, who: int) -> None:
        for flight in self.workers[who].batches.overdue(BIG):
            self.send(flight)

    @precondition(lambda self: self.spool.jobs)
    @rule(who=st.integers(0, 1), data=st.data())
    def claim(self, who: int, data: st.DataObject) -> None:
        self.claim_job(self.workers[who], data.draw(st.sampled_from(sorted(self.spool.jobs))))

    @rule(who=st.integers(0, 1))
    def let_claims_expire(self, who: int) -> None:
        self.workers[who].batches.expire_claims(BIG)

    @rule(who=st.integers(0, 1))
    def stop_worker(self, who: int) -> None:
        """A clean stop: lanes are closed if the books allow it."""
        batches = self.workers[who].batches
        for processor in self.processors:
            ends = batches.ends({0: processor.epoch}) if processor.epoch else []
            if ends:
                self.batches_out.append(encode(make(Close, batches.worker, tuple(ends))))
        self.workers[who] = self.new_worker()

    def claim_job(self, worker: Worker, id: int) -> None:
        stored = self.spool.jobs[id]
        stored.was_claimed = True
        self.send(worker.batches.claimed(decode(stored.body, Job), ("claim", id), 0.0), to=worker)

    def send(self, flight: Flight, to: Worker | None = None) -> None:
        reply_to = to.name if to else next((w.name for w in self.workers if flight in w.batches.overdue(BIG)), "gone")
        for epoch in {p.epoch for p in self.processors if p.epoch}:
            parts = tuple(Addressed(epoch, part) for part in flight.open_parts())
            if parts:
                self.batches_out.append(encode(make(Batch, flight.worker, reply_to, parts)))

    # --- the network ---

    @precondition(lambda self: self.batches_out)
    @rule(data=st.data(), who=st.integers(0, 1), keep=st.booleans())
    def deliver(self, data: st.DataObject, who: int, keep: bool) -> None:
        """Any frame, to any processor, in any order, perhaps again later."""
        at = data.draw(st.integers(0, len(self.batches_out) - 1))
        frame = self.batches_out[at] if keep else self.batches_out.pop(at)
        self.receive(self.processors[who], frame)

    @precondition(lambda self: self.batches_out)
    @rule(who=st.integers(0, 1))
    def deliver_all(self, who: int) -> None:
        frames, self.batches_out = self.batches_out, []
        for frame in frames:
            self.receive(self.processors[who], frame)

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

    @precondition(lambda self: self.acks_out)
    @rule(data=st.data(), keep=st.booleans())
    def deliver_ack(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.acks_out) - 1))
        self.acknowledge(*(self.acks_out[at] if keep else self.acks_out.pop(at)))

    @rule()
    def deliver_all_acks(self) -> None:
        acks, self.acks_out = self.acks_out, []
        for ack in acks:
            self.acknowledge(*ack)

    @rule()
    def drop_all(self) -> None:
        self.batches_out.clear()
        self.acks_out.clear()

    def acknowledge(self, to: str, frame: bytes) -> None:
        worker = next((worker for worker in self.workers if worker.name == to), None)
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
                worker.batches.deleted([self.spool.done(id[1] if isinstance(id, tuple) else id)])

    # --- processors ---

    @rule(who=st.integers(0, 1), what=st.sampled_from(["processor", "worker", "leave", "take"]))
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

    @initialize()
    def begin(self) -> None:
        self.own(0)

    @rule(who=st.integers(0, 1))
    def own(self, who: int) -> None:
        """Take over without a hitch, if nothing happens meanwhile."""
        processor = self.processors[who]
        processor.take()
        for _ in range(20):
            if processor.phase in (Phase.OWNED, Phase.AWAY):
                return
            self.carry_out(who, "yes")

    @rule(who=st.integers(0, 1), answer=ANSWERS, acks=st.booleans())
    def commit(self, who: int, answer: str, acks: bool) -> None:
        """What a good quarter of a second looks like, up to the store's answer."""
        for worker in self.workers:
            for flight in worker.batches.overdue(BIG):
                self.send(flight)
        self.deliver_all(who)
        self.carry_out(who, answer)
        if acks:
            self.deliver_all_acks()

    @rule(who=st.integers(0, 1), answer=ANSWERS)
    def step(self, who: int, answer: str) -> None:
        self.carry_out(who, answer)

    @rule(who=st.integers(0, 1))
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
                    assert total >= worker.answered.get(page, 0)
                    worker.answered[page] = total

    def teardown(self) -> None:
        """Everything heals: one owner, every job claimed until it is done. Then the totals are exact."""
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
            while owner.is_dirty or owner.phase is not Phase.OWNED:
                self.carry_out(0, "yes")
            self.deliver_all_acks()
        assert not self.spool.jobs
        totals = self.store.totals()
        for page in PAGES:
            assert self.accepted[page] <= totals.get(page, 0) <= self.accepted[page] + self.unknown[page], page
        self.books_balance()


TestCountedOnce = CountedOnce.TestCase
TestCountedOnce.settings = settings(
    max_examples=400, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
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
