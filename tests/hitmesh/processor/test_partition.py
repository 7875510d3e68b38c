"""One partition, a behaviour at a time: by name, and as deep as the random machine can't go."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.processor import staging as module
from hitmesh.processor.partition import Partition
from hitmesh.processor.staging import FEW_RANGES, LANE_RETENTION_S, LOW_WAIT_S
from hitmesh.processor.steps import Acks, Counters, LoadRows, Offered, Phase, ReadHead, Step
from hitmesh.protocol.messages import (
    MAX_PART_BYTES,
    MAX_PART_PAGES,
    Applied,
    Head,
    LaneEnd,
    LaneState,
    Part,
    decode,
)
from hitmesh.protocol.pages import MAX_PAGE_BYTES
from hitmesh.store import Done, Outcome, Refused, Row, StoredHead, Unknown, Write
from tests.hitmesh.processor.memory_store import MemoryStore

NOW_S = 1_800_000_000
DAY_S = 24 * 3600
HERE = "tcp://192.0.2.1:1"


class Owner:
    """A partition in a processor of its own, carried out against a store in memory; keeps what it wrote."""

    def __init__(self, store: MemoryStore, me: str = "p1", *, max_rows: int = 100) -> None:
        self.store = store
        store.max_rows = max_rows
        self.counters = Counters()
        self.partition = Partition(
            0, dc="x", me=me, ledger=f"ledger.{me}", max_rows=max_rows, max_write_bytes=10_000_000,
            counters=self.counters,
        )  # fmt: skip
        self.writes: list[Write] = []
        self.now_s = NOW_S

    def begin(self) -> Step:
        """Ask for a step, which is then under way."""
        step = self.partition.step(self.now_s)
        assert step is not None
        if isinstance(step, Write):
            self.writes.append(step)
        return step

    def end(self, step: Step, answer: str = "yes") -> Acks:
        """Carry a step out; a write may be lost "before" or "after" it is applied, be "late", or be "refused"."""
        if isinstance(step, ReadHead):
            return self.partition.head_read(self.store.read_head())
        if isinstance(step, LoadRows):
            self.partition.rows_loaded(list(self.store.rows.values()))
            return {}
        outcome: Outcome = Unknown(answer)
        if answer == "late":
            self.store.late.append(step)
        elif answer == "refused":
            outcome = Refused()
        elif answer != "before":
            done = self.store.write(step)
            outcome = done if answer == "yes" else outcome
        return self.partition.wrote(outcome)

    def step(self, answer: str = "yes") -> Acks:
        return self.end(self.begin(), answer)

    def pass_time(self, seconds: int) -> None:
        """Let so much pass, with a look at the clock now and then as the shell has it."""
        while seconds > 0:
            self.now_s += min(seconds, DAY_S)
            seconds -= DAY_S
            self.partition.tidy(self.now_s)

    def take(self) -> Owner:
        """Take the partition over."""
        self.partition.take()
        while self.phase not in (Phase.OWNED, Phase.AWAY):
            self.step()
        return self

    def offer(self, part: Part, worker: str = "w", *, epoch: int | None = None) -> tuple[Offered, Applied | None]:
        """A part in a batch, for the epoch that it has unless told otherwise."""
        return self.partition.offer(worker, HERE, self.partition.epoch if epoch is None else epoch, part)

    def commit(self) -> Acks:
        """Write until nothing is left to write."""
        acks: Acks = {}
        while self.phase not in (Phase.OWNED, Phase.AWAY) or self.partition.is_dirty:
            acks.update(self.step())
        return acks

    def close(self, worker: str, last: int) -> bool:
        return self.partition.close_lane(worker, LaneEnd(0, self.partition.epoch, last))

    @property
    def phase(self) -> Phase:
        """Where the partition stands."""
        return self.partition.phase

    @property
    def is_away(self) -> bool:
        return self.partition.phase is Phase.AWAY

    @property
    def head(self) -> Head:
        """The head in the store."""
        assert self.store.head is not None
        return decode(self.store.head, Head)


def part(seq: int, counts: dict[str, int] | None = None, *, low: int = 1) -> Part:
    return Part(0, seq, low, counts or {"s/a": 1})


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def owner(store: MemoryStore) -> Owner:
    """An owner in office, with nothing counted yet."""
    return Owner(store).take()


# --- taking over --------------------------------------------------------------------------------


def test_a_partition_that_never_had_a_head_begins_with_epoch_1_and_a_ledger_of_its_own(owner: Owner) -> None:
    assert (owner.head.epoch, owner.head.owner, owner.head.commit, owner.head.hits) == (1, "p1", 0, 0)
    assert owner.head.ledger == "ledger.p1"
    assert owner.partition.epoch == 1


def test_a_take_over_keeps_ledger_lanes_and_hits_under_the_next_epoch(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1, {"s/a": 2}))
    owner.commit()
    before = owner.head
    other = Owner(store, "p2").take()
    assert (other.head.epoch, other.head.owner) == (before.epoch + 1, "p2")
    assert (other.head.ledger, other.head.commit, other.head.hits) == (before.ledger, before.commit, before.hits)
    assert other.head.lanes == before.lanes
    assert other.partition.pages == 1


def test_a_partition_is_not_owned_before_its_rows_are_loaded(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    other = Owner(store, "p2")
    other.partition.take()
    for _ in range(2):  # the head is read, and written
        other.step()
        assert other.partition.epoch == 0
        assert other.offer(part(2), epoch=2)[0] is Offered.MISDIRECTED
    other.step()
    assert other.partition.epoch == 2


def test_a_new_owner_counts_on_from_the_rows(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1, {"s/a": 2}))
    owner.commit()
    other = Owner(store, "p2").take()
    other.offer(part(2, {"s/a": 3}))
    acks = other.commit()
    assert store.totals() == {"s/a": 5}
    assert acks[HERE, "w"].totals == {"s/a": {"x": 5}}


def test_a_new_owner_knows_what_is_applied(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.offer(part(3))
    owner.commit()
    other = Owner(store, "p2").take()
    assert other.offer(part(1))[0] is Offered.DUPLICATE
    assert other.offer(part(3))[0] is Offered.DUPLICATE
    assert other.offer(part(2))[0] is Offered.STAGED


def test_a_new_owner_counts_on_from_a_redo_whose_rows_were_never_written(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=1).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 2}))
    owner.step()  # the head, with both rows in its redo; then its owner dies
    assert store.rows == {}
    other = Owner(store, "p2").take()
    other.offer(part(2, {"s/a": 10, "s/b": 10}))
    other.commit()
    assert store.totals() == {"s/a": 11, "s/b": 12}


def test_a_new_owner_writes_the_redo_s_rows_before_anything_else(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=2).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 2, "s/c": 3}))
    owner.step()
    owner.step()  # the first two rows; then its owner dies
    assert len(store.rows) == 2
    other = Owner(store, "p2", max_rows=2).take()
    assert {page: row.count for (page, _), row in store.rows.items()} == {"s/a": 1, "s/b": 2, "s/c": 3}
    other.offer(part(2, {"s/a": 1}))
    other.commit()
    assert other.head.redo == ()
    assert store.totals() == {"s/a": 2, "s/b": 2, "s/c": 3}


def test_a_partition_with_rows_but_no_head_is_a_fault_and_not_taken(store: MemoryStore) -> None:
    store.rows["s/a", "x"] = Row("s/a", "x", 7, 1)
    owner = Owner(store).take()
    assert owner.is_away
    assert store.head is None
    assert "rows but no head" in owner.counters.faults[0]


def test_a_partition_whose_head_can_t_be_read_is_a_fault_and_not_taken(store: MemoryStore) -> None:
    store.head, store.index = b"\x97\x01\x1enonsense", 5
    owner = Owner(store).take()
    assert owner.is_away
    assert store.head == b"\x97\x01\x1enonsense"
    assert "can't be read" in owner.counters.faults[0]


def test_the_same_fault_is_told_once(store: MemoryStore) -> None:
    store.rows["s/a", "x"] = Row("s/a", "x", 7, 1)
    owner = Owner(store).take().take()
    assert len(owner.counters.faults) == 1


def test_the_slower_of_two_who_take_over_goes_away(store: MemoryStore) -> None:
    slow, fast = Owner(store, "slow"), Owner(store, "fast")
    slow.partition.take()
    while not isinstance(step := slow.begin(), Write):
        slow.end(step)
    fast.take()
    slow.end(step)
    assert slow.is_away
    assert (fast.partition.epoch, fast.head.owner) == (1, "fast")


@pytest.mark.parametrize(("lost", "epoch"), [("before", 1), ("after", 2)])
def test_a_take_over_without_an_answer_is_tried_again(store: MemoryStore, lost: str, epoch: int) -> None:
    owner = Owner(store)
    owner.partition.take()
    while not isinstance(step := owner.begin(), Write):
        owner.end(step)
    owner.end(step, lost)
    owner.take()
    assert (owner.partition.epoch, owner.head.epoch) == (epoch, epoch)


def test_a_read_without_an_answer_is_asked_again(store: MemoryStore) -> None:
    owner = Owner(store)
    owner.partition.take()
    assert isinstance(owner.begin(), ReadHead)
    owner.partition.failed()
    owner.step()
    assert isinstance(owner.begin(), LoadRows)
    owner.partition.failed()
    assert isinstance(owner.begin(), LoadRows)


# --- counting -----------------------------------------------------------------------------------


def test_hits_are_added_and_acked_with_their_totals(owner: Owner) -> None:
    assert owner.offer(part(1, {"s/a": 2, "s/b": 1})) == (Offered.STAGED, None)
    acks = owner.commit()
    assert acks == {(HERE, "w"): Applied(0, 1, 1, 1, (), {"s/a": {"x": 2}, "s/b": {"x": 1}})}
    assert owner.store.totals() == {"s/a": 2, "s/b": 1}


def test_nothing_is_acked_before_the_store_has_answered(owner: Owner) -> None:
    assert owner.offer(part(1))[1] is None
    step = owner.begin()
    assert owner.offer(part(1)) == (Offered.DUPLICATE, None)
    assert owner.end(step)[HERE, "w"].mark == 1


def test_an_ack_says_of_each_worker_its_own_lane(owner: Owner) -> None:
    owner.offer(part(1), "w")
    owner.offer(part(1), "v")
    owner.offer(part(3), "v")
    acks = owner.commit()
    assert (acks[HERE, "w"].mark, acks[HERE, "w"].above) == (1, ())
    assert (acks[HERE, "v"].mark, acks[HERE, "v"].above) == (1, ((3, 3),))


def test_a_total_in_an_ack_has_the_other_datacenters_rows_too(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    store.rows["s/a", "y"] = Row("s/a", "y", 40, 9)
    other = Owner(store, "p2").take()
    other.offer(part(2))
    assert other.commit()[HERE, "w"].totals == {"s/a": {"x": 2, "y": 40}}


def test_a_commit_writes_only_the_rows_that_changed(owner: Owner) -> None:
    owner.offer(part(1, {"s/a": 1, "s/b": 1}))
    owner.commit()
    owner.offer(part(2, {"s/b": 1}))
    owner.commit()
    assert list(owner.writes[-1].rows) == [Row("s/b", "x", 2, 2)]


def test_nothing_is_written_when_nothing_came(owner: Owner) -> None:
    assert owner.partition.step(NOW_S) is None
    assert not owner.partition.is_dirty


def test_a_few_holes_are_kept_whatever_low_says(owner: Owner) -> None:
    owner.offer(part(1))
    owner.offer(part(5, low=5))
    applied = owner.commit()[HERE, "w"]
    assert (applied.mark, applied.above) == (1, ((5, 5),))
    assert owner.offer(part(3))[0] is Offered.STAGED


def test_many_holes_are_given_up_once_low_has_stood_for_a_while(owner: Owner) -> None:
    last = 2 * FEW_RANGES + 3
    for seq in range(1, last + 1, 2):
        owner.offer(part(seq, low=seq))
    owner.commit()
    for step in (1, 2):
        owner.offer(part(last + step, low=last - 1))
        assert owner.commit()[HERE, "w"].mark == 1
    owner.now_s += LOW_WAIT_S
    owner.offer(part(last + 3, low=last))
    assert owner.commit()[HERE, "w"].mark >= last - 2
    assert owner.offer(part(2))[0] is Offered.DUPLICATE


def test_numbers_that_may_still_come_are_not_given_up(owner: Owner) -> None:
    last = 2 * FEW_RANGES + 3
    for _ in range(3):
        for seq in range(3, last + 1, 2):
            owner.offer(part(seq, low=2))
        owner.commit()
        owner.now_s += LOW_WAIT_S
        last += 2
    assert owner.offer(part(2))[0] is Offered.STAGED


@given(
    st.lists(
        st.tuples(st.sampled_from("vw"), st.integers(1, 8), st.sampled_from(["s/a", "s/b", "s/c"]), st.booleans()),
        max_size=40,
    )
)
def test_hits_and_lanes_and_rows_sum_to_the_same(offers: list[tuple[str, int, str, bool]]) -> None:
    owner = Owner(MemoryStore(), max_rows=2).take()
    parts: dict[tuple[str, int], Part] = {}
    for worker, seq, page, commit in offers:
        owner.offer(parts.setdefault((worker, seq), part(seq, {page: seq, "s/d": 1})), worker)
        if commit:
            owner.commit()
    owner.commit()
    expected = sum(seq + 1 for _, seq in parts)
    assert owner.head.hits == expected
    assert sum(lane.hits for lane in owner.head.lanes.values()) == expected
    assert sum(row.count for row in owner.store.rows.values()) == expected
    assert owner.counters.applied_hits == expected


# --- duplicates ---------------------------------------------------------------------------------


def test_a_duplicate_is_acked_at_once_when_nothing_waits_to_be_committed(owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    offered, applied = owner.offer(part(1))
    assert offered is Offered.DUPLICATE
    assert applied == Applied(0, 1, 1, 1, (), {"s/a": {"x": 1}})
    assert not owner.partition.is_dirty


def test_a_duplicate_is_acked_with_the_next_commit_while_something_waits(owner: Owner) -> None:
    owner.offer(part(1, {"s/a": 1}))
    owner.commit()
    owner.offer(part(1, {"s/b": 5}), "v")
    assert owner.offer(part(1, {"s/a": 1})) == (Offered.DUPLICATE, None)
    assert owner.commit()[HERE, "w"].totals == {"s/a": {"x": 1}}
    assert owner.store.totals() == {"s/a": 1, "s/b": 5}


def test_a_part_that_comes_twice_before_its_commit_counts_once(owner: Owner) -> None:
    owner.offer(part(1))
    assert owner.offer(part(1)) == (Offered.DUPLICATE, None)
    owner.commit()
    assert owner.store.totals() == {"s/a": 1}


def test_a_duplicate_s_totals_are_those_of_its_commit_and_not_what_was_staged_since(owner: Owner) -> None:
    owner.offer(part(1, {"s/a": 1}))
    owner.commit()
    owner.offer(part(1, {"s/b": 1}), "v")
    owner.offer(part(1, {"s/a": 1}))  # owed with this commit, which doesn't change s/a
    step = owner.begin()
    owner.offer(part(2, {"s/a": 10}))  # of the commit after it
    assert owner.end(step)[HERE, "w"].totals == {"s/a": {"x": 1}}
    assert owner.commit()[HERE, "w"].totals == {"s/a": {"x": 11}}


def test_a_duplicate_that_comes_during_the_last_commit_is_acked_with_it(owner: Owner) -> None:
    owner.offer(part(1, {"s/a": 1}))
    owner.commit()
    owner.offer(part(2, {"s/b": 1}))
    step = owner.begin()
    owner.offer(part(1, {"s/a": 1}))
    assert owner.end(step)[HERE, "w"].totals == {"s/a": {"x": 1}, "s/b": {"x": 1}}


def test_a_duplicate_that_comes_while_more_is_staged_waits_for_that(owner: Owner) -> None:
    owner.offer(part(1, {"s/a": 1}))
    step = owner.begin()
    owner.offer(part(2, {"s/a": 1}))
    owner.offer(part(1, {"s/a": 1}), "v")
    first = owner.end(step)
    assert first == {(HERE, "w"): Applied(0, 1, 1, 1, (), {"s/a": {"x": 1}})}
    assert set(owner.commit()) == {(HERE, "w"), (HERE, "v")}


def test_a_duplicate_while_the_redo_is_written_has_the_commit_s_totals(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=1).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 2}))
    owner.step()
    assert owner.phase is Phase.REDOING
    assert owner.offer(part(1, {"s/a": 1, "s/b": 2}))[1] == Applied(0, 1, 1, 1, (), {"s/a": {"x": 1}, "s/b": {"x": 2}})


# --- no answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["before", "after", "late"])
def test_an_unknown_commit_is_counted_once_whatever_became_of_it(store: MemoryStore, owner: Owner, lost: str) -> None:
    owner.offer(part(1, {"s/a": 3}))
    assert owner.step(lost) == {}
    assert owner.phase is Phase.SETTLING
    for late in store.late:
        store.write(late)
    acks = owner.commit()
    assert store.totals() == {"s/a": 3}
    assert acks[HERE, "w"].totals == {"s/a": {"x": 3}}
    assert (owner.head.commit, owner.head.hits) == (1, 3)


def test_a_commit_that_was_not_applied_is_repeated_with_the_same_bytes(owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("before")
    owner.offer(part(2))  # must not get into the repetition
    owner.now_s += 5
    owner.step()
    owner.step("before")
    owner.step()
    owner.step()
    assert [(write.head, write.index, write.rows) for write in owner.writes[-3:]] == 3 * [
        (owner.writes[-1].head, owner.writes[-1].index, owner.writes[-1].rows)
    ]
    assert owner.store.totals() == {"s/a": 1}


def test_a_commit_that_was_applied_is_not_written_again(owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("after")
    written = len(owner.writes)
    assert owner.step()[HERE, "w"].mark == 1  # reads the head
    assert (owner.phase, len(owner.writes)) == (Phase.OWNED, written)


def test_a_commit_that_arrives_after_its_repetition_changes_nothing(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("late")
    owner.commit()
    owner.offer(part(2))
    owner.commit()
    assert store.write(store.late.pop()) == Refused()
    assert store.totals() == {"s/a": 2}


def test_a_commit_that_arrives_before_its_repetition_is_recognized(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("late")
    owner.step()  # the head doesn't have it: repeat
    step = owner.begin()
    store.write(store.late.pop())
    assert owner.end(step) == {}  # refused: by a write of its own
    assert owner.step()[HERE, "w"].mark == 1
    assert (owner.phase, store.totals()) == (Phase.OWNED, {"s/a": 1})


@pytest.mark.parametrize("lost", ["yes", "before", "late"])
def test_a_fenced_owner_steps_down_and_acks_nothing(store: MemoryStore, owner: Owner, lost: str) -> None:
    owner.offer(part(1))
    other = Owner(store, "p2").take()
    assert owner.step(lost) == {}
    assert owner.step() == {}
    assert (owner.phase, owner.partition.epoch, owner.counters.step_downs) == (Phase.AWAY, 0, 1)
    assert (store.totals(), other.partition.epoch) == ({}, 2)


def test_a_fenced_owner_doesn_t_take_the_next_owner_s_commit_for_its_own(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("before")
    other = Owner(store, "p2").take()
    other.offer(part(1))
    other.commit()
    owner.step()
    assert owner.is_away
    assert store.totals() == {"s/a": 1}


def test_what_was_staged_is_forgotten_by_an_owner_that_steps_down(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("before")
    Owner(store, "p2").take()
    owner.step()
    owner.take()
    assert not owner.partition.is_dirty
    assert owner.offer(part(1))[0] is Offered.STAGED
    owner.commit()
    assert store.totals() == {"s/a": 1}


def test_a_head_that_was_deleted_under_its_owner_is_a_fault(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    store.head, store.index = None, 0
    owner.step()
    owner.step()
    assert owner.is_away
    assert "deleted" in owner.counters.faults[0]


def test_a_head_that_can_t_be_read_while_settling_is_a_fault(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("before")
    store.head = b"nonsense"
    owner.step()
    assert owner.is_away
    assert "can't be read" in owner.counters.faults[0]


# --- epochs and closed lanes --------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_part_for_another_epoch_is_misdirected(store: MemoryStore, owner: Owner, epoch: int) -> None:
    other = Owner(store, "p2").take()
    assert other.partition.epoch == 2
    assert other.offer(part(1), epoch=epoch) == (Offered.MISDIRECTED, None)
    assert other.counters.misdirected == 1
    assert not other.partition.is_dirty


def test_who_doesn_t_own_the_partition_takes_no_part(store: MemoryStore) -> None:
    assert Owner(store).offer(part(1), epoch=0) == (Offered.MISDIRECTED, None)


def closed(owner: Owner, worker: str = "w") -> None:
    """One hit of a worker's, acked; then its lane is closed and dropped with another one's hit."""
    owner.offer(part(1), worker)
    owner.commit()
    assert owner.close(worker, 1)
    owner.offer(part(1, {"s/b": 1}), "another")
    owner.commit()
    assert worker not in owner.head.lanes


def test_a_closed_lane_is_dropped_with_the_next_commit(owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    assert owner.close("w", 1)
    assert "w" in owner.head.lanes
    owner.offer(part(1, {"s/b": 1}), "v")
    owner.commit()
    assert set(owner.head.lanes) == {"v"}


def test_a_closed_lane_s_hits_stay_counted(owner: Owner) -> None:
    closed(owner)
    assert owner.head.hits == 2
    assert owner.store.totals() == {"s/a": 1, "s/b": 1}


@pytest.mark.parametrize("last", [0, 1, 3])
def test_a_lane_that_ends_elsewhere_than_said_is_kept(owner: Owner, last: int) -> None:
    owner.offer(part(1))
    owner.offer(part(2))
    owner.commit()
    assert not owner.close("w", last)
    owner.offer(part(1), "v")
    owner.commit()
    assert set(owner.head.lanes) == {"v", "w"}


def test_a_lane_with_holes_is_closed_where_it_ends(owner: Owner) -> None:
    owner.offer(part(1))
    owner.offer(part(3))
    owner.commit()
    assert not owner.close("w", 1)
    assert owner.close("w", 3)  # 2 is the number of a put that the spool has refused


def test_a_lane_with_hits_that_aren_t_committed_is_not_closed(owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    owner.offer(part(2))
    assert not owner.close("w", 1)
    assert not owner.close("w", 2)


def test_a_lane_that_ended_under_another_epoch_is_not_closed(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    other = Owner(store, "p2").take()
    assert not other.partition.close_lane("w", LaneEnd(0, 1, 1))
    assert not other.partition.close_lane("w", LaneEnd(0, 3, 1))
    assert other.partition.close_lane("w", LaneEnd(0, 2, 1))


def test_a_lane_that_isn_t_there_is_not_closed(owner: Owner) -> None:
    assert not owner.close("w", 0)


def test_a_late_copy_of_a_closed_worker_s_part_is_dropped_under_the_same_epoch(owner: Owner) -> None:
    closed(owner)
    assert owner.offer(part(1)) == (Offered.DROPPED, None)
    assert owner.store.totals()["s/a"] == 1
    assert not owner.partition.is_dirty


def test_a_late_copy_of_a_closed_worker_s_part_is_misdirected_under_a_later_epoch(
    store: MemoryStore, owner: Owner
) -> None:
    closed(owner)
    other = Owner(store, "p2").take()
    assert other.offer(part(1), epoch=1) == (Offered.MISDIRECTED, None)
    owner.partition.leave()
    owner.take()  # the same process may be the next owner, and has forgotten who closed
    assert owner.partition.epoch == 3
    assert owner.offer(part(1), epoch=1) == (Offered.MISDIRECTED, None)


def test_a_closed_lane_whose_commit_was_lost_is_still_closed(store: MemoryStore, owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    owner.close("w", 1)
    owner.offer(part(1, {"s/b": 1}), "v")
    owner.step("before")
    assert owner.offer(part(1))[0] is Offered.DROPPED
    owner.commit()
    assert set(owner.head.lanes) == {"v"}
    assert owner.offer(part(1))[0] is Offered.DROPPED


def test_a_lane_closed_while_a_commit_is_under_way_is_dropped_with_the_one_after_it(owner: Owner) -> None:
    owner.offer(part(1))
    owner.commit()
    owner.offer(part(1, {"s/b": 1}), "v")
    step = owner.begin()
    assert owner.close("w", 1)
    owner.end(step)
    assert set(owner.head.lanes) == {"v", "w"}
    owner.offer(part(2, {"s/b": 1}), "v")
    owner.commit()
    assert set(owner.head.lanes) == {"v"}


def test_only_so_many_closed_workers_are_remembered(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLOSED", 2)
    for worker in ("a", "b", "c"):
        owner.offer(part(1), worker)
    owner.commit()
    for worker in ("a", "b", "c"):
        assert owner.close(worker, 1)
    assert list(owner.partition._staging._closed) == ["b", "c"]


# --- old lanes ----------------------------------------------------------------------------------


def test_a_lane_unused_for_7_days_is_dropped_with_the_next_commit(owner: Owner) -> None:
    owner.offer(part(1), "old")
    owner.commit()
    owner.now_s += 60
    owner.offer(part(1), "younger")
    owner.commit()
    owner.pass_time(LANE_RETENTION_S - 59)
    owner.offer(part(1), "new")
    owner.commit()
    assert set(owner.head.lanes) == {"younger", "new"}
    assert owner.head.hits == 3


def test_a_lane_s_7_days_begin_anew_with_each_use(owner: Owner) -> None:
    for seq in (1, 2, 3):
        owner.offer(part(seq))
        owner.commit()
        owner.pass_time(LANE_RETENTION_S - 1)
    assert owner.head.lanes["w"].mark == 3


def test_a_lane_that_was_dropped_goes_on_where_its_worker_is(owner: Owner) -> None:
    for seq in range(1, 101):
        owner.offer(part(seq))
    owner.commit()
    owner.pass_time(LANE_RETENTION_S + 1)
    owner.offer(part(1), "v")
    owner.commit()
    assert "w" not in owner.head.lanes
    for seq in (101, 102):
        owner.offer(part(seq, low=seq))
    owner.commit()
    assert owner.head.lanes["w"] == LaneState(0, ((101, 102),), 2, owner.now_s)


@pytest.mark.parametrize("days", [8, 5000, -8, -5000])
@pytest.mark.parametrize("is_same_owner", [True, False])
def test_a_clock_that_is_set_makes_no_lane_old(store: MemoryStore, days: int, is_same_owner: bool) -> None:
    owner = Owner(store).take()
    owner.offer(part(1), "w")
    owner.commit()
    after = owner if is_same_owner else Owner(store, "p2").take()
    after.now_s = owner.now_s + days * DAY_S
    for seq in (1, 2):  # as many looks at the clock as it takes to set it, and to set it back
        after.offer(part(seq), "v")
        after.commit()
        after.now_s = owner.now_s
    assert after.offer(part(1), "w")[0] is Offered.DUPLICATE


def test_a_lane_s_age_goes_on_from_where_it_was_when_the_clock_is_set(owner: Owner) -> None:
    owner.offer(part(1), "old")
    owner.commit()
    owner.pass_time(6 * DAY_S)
    for seq, days in ((1, 100), (2, -300)):
        owner.now_s += days * DAY_S
        owner.offer(part(seq), "v")
        owner.commit()
    assert set(owner.head.lanes) == {"old", "v"}
    owner.pass_time(DAY_S)
    owner.offer(part(3), "v")
    owner.commit()
    assert set(owner.head.lanes) == {"v"}


# --- commits of many rows -----------------------------------------------------------------------


def test_more_rows_than_a_write_carries_go_into_the_head_and_then_in_chunks(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=2).take()
    counts = {f"s/{i}": i for i in range(1, 6)}
    owner.offer(part(1, counts))
    owner.writes.clear()
    acks = owner.step()
    assert acks[HERE, "w"].mark == 1  # the head is the commit
    assert store.totals() == counts
    owner.commit()
    commit, *chunks = owner.writes
    assert commit.head is not None
    assert {redo.page: redo.count for redo in decode(commit.head, Head).redo} == counts
    assert list(commit.rows) == []
    assert [(chunk.head, len(chunk.rows)) for chunk in chunks] == [(None, 2), (None, 2), (None, 1)]
    assert {row.page: (row.count, row.commit) for row in store.rows.values()} == {p: (n, 1) for p, n in counts.items()}


def test_the_next_commit_clears_the_redo(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=2).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 1, "s/c": 1}))
    owner.commit()
    before = owner.head
    owner.offer(part(2, {"s/a": 1}))
    owner.commit()
    assert [len(head.redo) for head in (before, owner.head)] == [3, 0]
    assert store.totals() == {"s/a": 2, "s/b": 1, "s/c": 1}


def test_no_commit_is_made_before_the_redo_s_rows_are_written(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=1).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 1}))
    owner.step()
    assert owner.offer(part(2, {"s/a": 5}))[0] is Offered.STAGED
    owner.writes.clear()
    owner.commit()
    assert [write.head is None for write in owner.writes] == [True, True, False]
    assert store.totals() == {"s/a": 6, "s/b": 1}


def test_rows_too_large_for_a_write_are_a_redo_too(store: MemoryStore) -> None:
    owner = Owner(store)
    owner.partition._max_write_bytes = 3000
    owner.take()
    pages = {"s/" + "x" * 1000 + str(i): 1 for i in range(3)}
    owner.offer(part(1, pages))
    owner.step()
    assert len(owner.head.redo) == 3
    owner.commit()
    assert store.totals() == pages


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_redo_s_rows_without_an_answer_are_written_again(store: MemoryStore, lost: str) -> None:
    owner = Owner(store, max_rows=1).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 2}))
    owner.step()
    owner.step(lost)
    owner.commit()
    assert owner.writes[-3] == owner.writes[-2]
    assert {row.page: row.count for row in store.rows.values()} == {"s/a": 1, "s/b": 2}


def test_an_owner_fenced_while_it_writes_a_redo_steps_down(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=1).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 2}))
    owner.step()
    other = Owner(store, "p2", max_rows=1).take()
    owner.step()
    assert owner.is_away
    other.offer(part(2, {"s/b": 1}))
    other.commit()
    assert store.totals() == {"s/a": 1, "s/b": 3}


# --- bounds -------------------------------------------------------------------------------------


def test_what_is_beyond_one_commit_goes_into_the_next(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMMIT_ROWS", 3)
    for seq in range(1, 6):
        assert owner.offer(part(seq, {f"s/{seq}": 1, "s/a": 1}))[0] is Offered.STAGED
    owner.commit()
    commits = [write for write in owner.writes if write.rows]
    assert all(len(write.rows) <= 3 for write in commits)
    assert len(commits) > 1
    assert owner.store.totals() == {"s/a": 5, **{f"s/{seq}": 1 for seq in range(1, 6)}}
    assert owner.head.lanes["w"].mark == 5


def test_a_commit_s_page_names_are_bounded_too(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMMIT_BYTES", 2 * MAX_PAGE_BYTES)
    pages = ["s/" + str(i) * (MAX_PAGE_BYTES - 2) for i in range(5)]
    for seq, page in enumerate(pages, 1):
        assert owner.offer(part(seq, {page: 1}))[0] is Offered.STAGED
    owner.commit()
    assert [len(write.rows) for write in owner.writes if write.rows] == [2, 2, 1]
    assert owner.store.totals() == dict.fromkeys(pages, 1)


def test_parts_wait_in_their_order(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMMIT_ROWS", 1)
    for seq, page in enumerate("abca", 1):  # the last one would have room beside the first
        owner.offer(part(seq, {f"s/{page}": 1}))
    marks = []
    while owner.partition.is_dirty:
        marks.append(owner.step()[HERE, "w"].mark)
    assert all(before < after for before, after in pairwise(marks))
    assert owner.head.lanes["w"].mark == 4


def test_a_twin_of_a_waiting_part_counts_once_and_is_acked(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMMIT_ROWS", 1)
    owner.offer(part(1, {"s/a": 1}))
    for worker_s_copy in range(2):
        assert owner.offer(part(2, {"s/b": 1}))[0] is Offered.STAGED, worker_s_copy
    assert owner.commit()[HERE, "w"].mark == 2
    assert owner.store.totals() == {"s/a": 1, "s/b": 1}


def test_only_so_many_parts_wait(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMMIT_ROWS", 1)
    monkeypatch.setattr(module, "MAX_WAITING_PARTS", 2)
    offered = [owner.offer(part(seq, {f"s/{seq}": 1}))[0] for seq in range(1, 6)]
    assert offered == [Offered.STAGED] * 3 + [Offered.DROPPED] * 2
    assert owner.counters.dropped == 2
    owner.commit()
    assert sum(owner.store.totals().values()) == 3
    assert owner.offer(part(4, {"s/4": 1}))[0] is Offered.STAGED


def test_only_so_many_bytes_wait(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COMMIT_ROWS", 1)
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 5 * MAX_PAGE_BYTES)
    offered = [owner.offer(part(seq, {"s/" + str(seq) * 1000: 1}))[0] for seq in range(1, 6)]
    assert offered == [Offered.STAGED] * 3 + [Offered.DROPPED] * 2
    owner.commit()
    assert owner.partition._staging._waiting_bytes == 0


@pytest.mark.parametrize(
    "pages",
    [
        {f"s/{i:0{MAX_PAGE_BYTES - 2}d}": 1 for i in range(MAX_PART_BYTES // MAX_PAGE_BYTES)},
        {f"s/{i}": 1 for i in range(MAX_PART_PAGES)},
    ],
    ids=["bytes", "pages"],
)
def test_the_largest_part_that_a_collector_makes_is_counted(owner: Owner, pages: dict[str, int]) -> None:
    assert owner.offer(part(1, pages))[0] is Offered.STAGED
    owner.commit()
    assert owner.head.hits == len(pages)


def test_a_part_larger_than_any_commit_doesn_t_hold_up_those_behind_it(owner: Owner) -> None:
    pages = {"s/" + chr(0x10000 + i) * 1000: 1 for i in range(MAX_PART_PAGES)}  # 2 MB: no collector makes it
    assert owner.offer(part(1, pages))[0] is Offered.DROPPED
    assert owner.offer(part(2))[0] is Offered.STAGED
    assert owner.commit()[HERE, "w"].above == ((2, 2),)


def test_a_lane_has_only_so_many_holes(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RANGES", 2)
    monkeypatch.setattr(module, "FEW_RANGES", 1)
    offered = [owner.offer(part(seq))[0] for seq in (2, 4, 6, 1)]
    assert offered == [Offered.STAGED, Offered.STAGED, Offered.DROPPED, Offered.STAGED]
    owner.commit()
    assert owner.store.totals() == {"s/a": 3}
    assert owner.offer(part(6))[0] is Offered.STAGED


# --- leaving ------------------------------------------------------------------------------------


def test_an_owner_with_nothing_staged_leaves_at_once(owner: Owner) -> None:
    owner.partition.leave()
    assert (owner.phase, owner.partition.epoch) == (Phase.AWAY, 0)


def test_what_is_staged_is_committed_before_leaving(owner: Owner) -> None:
    owner.offer(part(1))
    owner.partition.leave()
    assert owner.phase is Phase.OWNED
    assert owner.step()[HERE, "w"].mark == 1
    assert owner.is_away
    assert owner.store.totals() == {"s/a": 1}


def test_an_owner_that_leaves_takes_no_more_parts(owner: Owner) -> None:
    owner.offer(part(1))
    owner.partition.leave()
    assert owner.offer(part(2)) == (Offered.DROPPED, None)
    owner.commit()
    assert owner.head.lanes["w"].mark == 1


def test_leaving_waits_for_the_step_that_is_under_way(owner: Owner) -> None:
    owner.offer(part(1))
    step = owner.begin()
    owner.partition.leave()
    assert owner.phase is Phase.COMMITTING
    assert owner.end(step)[HERE, "w"].mark == 1
    assert owner.is_away


def test_leaving_waits_for_what_was_staged_during_the_step_under_way(owner: Owner) -> None:
    owner.offer(part(1))
    step = owner.begin()
    owner.offer(part(2))
    owner.partition.leave()
    owner.end(step)
    assert owner.phase is Phase.OWNED
    owner.step()
    assert owner.is_away
    assert owner.store.totals() == {"s/a": 2}


def test_leaving_settles_an_unknown_commit_first(owner: Owner) -> None:
    owner.offer(part(1))
    owner.step("before")
    owner.partition.leave()
    owner.step()
    assert owner.step()[HERE, "w"].mark == 1
    assert owner.is_away


def test_leaving_writes_the_redo_s_rows_first(store: MemoryStore) -> None:
    owner = Owner(store, max_rows=1).take()
    owner.offer(part(1, {"s/a": 1, "s/b": 1}))
    owner.partition.leave()
    owner.commit()
    assert owner.is_away
    assert len(store.rows) == 2


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_who_leaves_while_taking_over_ends_away(store: MemoryStore, steps: int) -> None:
    owner = Owner(store)
    owner.partition.take()
    for _ in range(steps):
        owner.step()
    step = owner.begin()
    owner.partition.leave()
    owner.end(step)
    while not owner.is_away:
        owner.step()
    assert owner.partition.epoch == 0


def test_who_is_told_to_take_before_it_has_left_stays(owner: Owner) -> None:
    owner.offer(part(1))
    owner.partition.leave()
    owner.partition.take()
    owner.commit()
    assert (owner.phase, owner.partition.epoch) == (Phase.OWNED, 1)
    assert owner.offer(part(2))[0] is Offered.STAGED


def test_steps_come_one_at_a_time(owner: Owner) -> None:
    owner.offer(part(1))
    owner.begin()
    with pytest.raises(AssertionError, match="under way"):
        owner.partition.step(NOW_S)


def test_an_answer_of_the_store_that_names_the_next_index_is_used_for_the_next_write(owner: Owner) -> None:
    for seq in (1, 2):
        owner.offer(part(seq))
        owner.commit()
    first, second = owner.writes[-2:]
    assert second.index == first.index + 1
    assert owner.store.read_head() == StoredHead(owner.store.head or b"", second.index + 1)
    assert isinstance(owner.store.write(Write(0, second.index + 1, None, [])), Done)
