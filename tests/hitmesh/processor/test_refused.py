"""Parts that can't be added: refused with a reason, and nothing that is stored suffers."""

from __future__ import annotations

import pytest

from hitmesh.processor import staging
from hitmesh.processor.partition import Partition
from hitmesh.processor.steps import Counters, Offered
from hitmesh.protocol.bounds import LANES_BYTES, MAX_AHEAD, MAX_FIRST, MAX_PAGE_TOTAL, check_chunk
from hitmesh.protocol.messages import MAX_COUNT, MAX_TOTAL, Chunk, LaneState, Part, decode_head, encode, make
from hitmesh.protocol.messages import Head as HeadMessage
from hitmesh.protocol.pages import partition_of
from hitmesh.state.lanes import MAX_RANGES
from hitmesh.store import Row
from tests.hitmesh.processor.memory_store import MemoryStore
from tests.hitmesh.processor.test_partition import HERE, NOW_S, Owner, part


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def owner(store: MemoryStore) -> Owner:
    return Owner(store).take()


def refused(owner: Owner, one: Part, worker: str = "w") -> bool:
    """Whether the part was refused, with a reason that names its worker."""
    before = owner.counters.refused
    offered = owner.offer(one, worker)[0]
    return offered is Offered.REFUSED and owner.counters.refused == before + 1 and worker in owner.counters.refusal


# --- a lane that jumps --------------------------------------------------------------------------


def test_a_lane_doesn_t_jump_to_the_last_number_there_is(owner: Owner) -> None:
    owner.offer(part(1))
    assert refused(owner, part(MAX_TOTAL, {"s/x": 1}, low=MAX_TOTAL))
    assert owner.offer(part(2))[0] is Offered.STAGED
    owner.commit()
    assert owner.store.totals() == {"s/a": 2}


def test_a_lane_goes_further_ahead_than_any_collector_gets_and_no_further(owner: Owner) -> None:
    owner.offer(part(5))
    assert refused(owner, part(5 + MAX_AHEAD + 1))
    assert owner.offer(part(5 + MAX_AHEAD))[0] is Offered.STAGED


def test_a_lane_that_nobody_knows_begins_where_a_collector_can_be_and_no_higher(owner: Owner) -> None:
    assert refused(owner, part(MAX_FIRST + 1))
    assert owner.offer(part(MAX_FIRST))[0] is Offered.STAGED


@pytest.mark.parametrize("jump", [1, 1000, MAX_AHEAD])
def test_numbers_used_by_somebody_else_give_up_none_that_are_on_the_way(owner: Owner, jump: int) -> None:
    owner.offer(part(1))
    owner.offer(part(1 + jump + 3, {"s/x": 1}, low=1 + jump + 3))
    owner.commit()
    for seq in (2, 3, 4):
        assert owner.offer(part(seq))[0] is Offered.STAGED
    owner.commit()
    assert owner.store.totals()["s/a"] == 4


def test_many_forged_numbers_at_once_give_up_none_that_are_on_the_way(owner: Owner) -> None:
    owner.offer(part(1))
    for seq in range(100, 100 + 4 * MAX_RANGES, 2):
        owner.offer(part(seq, {"s/x": 1}, low=seq))
    owner.commit()
    assert [owner.offer(part(seq))[0] for seq in (2, 3, 4)] == [Offered.STAGED] * 3


def test_who_has_come_to_the_top_goes_on_however_many_holes_there_are(owner: Owner) -> None:
    for seq in range(100, 100 + 4 * MAX_RANGES, 2):
        owner.offer(part(seq, low=seq))
    applied = owner.commit()[HERE, "w"]
    top = applied.above[-1][1]
    assert [owner.offer(part(top + step, low=top))[0] for step in (1, 2, 3)] == [Offered.STAGED] * 3


def test_a_part_without_hits_uses_up_no_number(owner: Owner) -> None:
    assert refused(owner, Part(0, 1, 1, {}))
    assert owner.offer(part(1))[0] is Offered.STAGED


# --- sums ---------------------------------------------------------------------------------------


def fill(owner: Owner) -> int:
    """The largest parts that decode, until one is refused; how many were taken."""
    for seq in range(1, 2000):
        counts = {f"s/{seq % 40}-{page}": MAX_COUNT for page in range(500)}
        if owner.offer(part(1, counts), f"w{seq}")[0] is Offered.REFUSED:
            return seq - 1
        owner.commit()
    raise AssertionError("there is no end")


def test_a_head_s_sum_never_overflows_and_small_parts_go_on(owner: Owner) -> None:
    taken = fill(owner)
    assert taken * 500 * MAX_COUNT <= MAX_TOTAL
    assert owner.offer(part(1), "another")[0] is Offered.STAGED
    owner.commit()
    assert owner.store.head is not None
    assert decode_head(owner.store.head).hits == taken * 500 * MAX_COUNT + 1


def test_a_page_s_sum_is_bounded_with_its_starting_value(store: MemoryStore) -> None:
    Owner(store, "p0").take()
    store.rows["s/a", "x"] = Row("s/a", "x", MAX_PAGE_TOTAL, 0)
    owner = Owner(store).take()
    assert refused(owner, part(1))
    assert owner.offer(part(1, {"s/b": 1}))[0] is Offered.STAGED


def test_a_lane_s_sum_never_overflows(store: MemoryStore) -> None:
    lane = LaneState(1, (), MAX_TOTAL, NOW_S)
    store.head = encode(make(HeadMessage, "l", 1, "p0", 1, 0, {"w": lane}, (), {}, False, 0))
    store.index = 1
    owner = Owner(store).take()
    assert refused(owner, part(2))
    assert owner.offer(part(1), "v")[0] is Offered.STAGED


def test_a_part_whose_sum_overflows_while_it_waits_is_refused_when_its_turn_comes(owner: Owner) -> None:
    big = MAX_PAGE_TOTAL // MAX_COUNT + 1
    owner.offer(part(1, {f"s/{page}": 1 for page in range(500)}))
    owner.offer(part(2, {f"t/{page}": 1 for page in range(500)}))
    for seq in range(3, 3 + big):
        assert owner.offer(part(seq, {"u/a": MAX_COUNT}))[0] is Offered.STAGED
    owner.commit()
    assert owner.counters.refused > 0
    assert owner.store.totals()["u/a"] <= MAX_PAGE_TOTAL


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["/", "a\nb", "s/../t", "/s", "\x1b[31m", "s/\u2028", "é" * 1000])
def test_a_page_that_no_rule_allows_isn_t_counted(owner: Owner, page: str) -> None:
    assert refused(owner, part(1, {page: 1, "s/a": 1}))
    assert owner.counters.refusal.isprintable()
    assert owner.offer(part(1))[0] is Offered.STAGED


def test_a_page_of_another_partition_isn_t_counted() -> None:
    store, counters = MemoryStore(), Counters()
    store.max_rows = 100
    owner = Owner(store)
    owner.counters = counters
    owner.partition = Partition(
        3, dc="x", me="p", ledger="l", max_rows=100, max_write_bytes=10**7, counters=counters, partitions=8
    )
    owner.take()
    pages = {partition_of(f"s/{number}", 8): f"s/{number}" for number in range(100)}
    assert owner.partition.offer("w", HERE, 1, Part(3, 1, 1, {pages[2]: 1}))[0] is Offered.REFUSED
    assert owner.partition.offer("w", HERE, 1, Part(3, 1, 1, {pages[3]: 1}))[0] is Offered.STAGED


# --- lanes --------------------------------------------------------------------------------------


def test_a_sender_that_may_not_adds_nothing_uses_no_number_and_is_told_what_is_applied(owner: Owner) -> None:
    partition = owner.partition
    offered, _ = partition.offer("w", HERE, partition.epoch, part(1), why_not="collector-2 sends it")
    assert offered is Offered.REFUSED
    assert owner.counters.refusal == "'w': part 1 of partition 0: collector-2 sends it"
    assert owner.offer(part(1, {"s/a": 2}))[0] is Offered.STAGED
    owner.commit()
    assert owner.store.totals() == {"s/a": 2}
    offered, applied = partition.offer("w", HERE, partition.epoch, part(1), why_not="collector-2 sends it")
    assert offered is Offered.DUPLICATE
    assert applied is not None
    assert applied.mark == 1


def test_ghosts_can_t_fill_the_place_of_workers_that_live() -> None:
    store = MemoryStore()
    owner = Owner(store)
    owner.partition = Partition(
        0, dc="x", me="p", ledger="l", max_rows=100, max_write_bytes=10**7, counters=owner.counters,
        is_living=lambda worker: worker.startswith("living"),
    )  # fmt: skip
    owner.take()
    owner.offer(part(1), "known")
    for ghost in range(1500):
        owner.offer(part(1), f"ghost-{ghost}.0123456789ab")
    owner.commit()
    assert owner.counters.refused > 0
    assert refused(owner, part(1), "another ghost")
    assert owner.offer(part(2), "known")[0] is Offered.STAGED
    assert owner.offer(part(1), "living")[0] is Offered.STAGED
    owner.commit()
    assert owner.store.head is not None
    assert len(owner.store.head) < LANES_BYTES + 1000


def test_lanes_have_room_again_when_others_are_retired(owner: Owner) -> None:
    for ghost in range(1500):
        owner.offer(part(1), f"ghost-{ghost}.0123456789ab")
    owner.commit()
    assert refused(owner, part(1), "w")
    owner.pass_time(staging.LANE_RETENTION_S + 1)
    owner.offer(part(2), "ghost-0.0123456789ab")
    owner.commit()
    assert owner.offer(part(1), "w")[0] is Offered.STAGED


def test_old_lanes_make_room_for_a_new_one_though_nobody_else_brings_anything(store: MemoryStore, owner: Owner) -> None:
    for ghost in range(1500):
        owner.offer(part(1), f"ghost-{ghost}.0123456789ab")
    owner.commit()
    later = Owner(store, "p2").take()
    assert refused(later, part(1), "w")
    later.pass_time(staging.LANE_RETENTION_S)
    assert refused(later, part(1), "w")  # they are young enough to be needed
    later.pass_time(1)
    assert later.offer(part(1), "w")[0] is Offered.STAGED
    later.commit()
    assert set(later.head.lanes) == {"w"}


def test_a_lane_of_many_refused_puts_goes_on_though_nobody_else_brings_anything(owner: Owner) -> None:
    for seq in range(1, 4 * MAX_RANGES, 2):
        last = owner.offer(part(seq, low=seq))[0]
    assert last is Offered.DROPPED
    owner.commit()
    for _ in range(2):  # sent again
        assert owner.offer(part(seq, low=seq))[0] is Offered.DROPPED
        owner.partition.tidy(owner.now_s)
        owner.now_s += staging.LOW_WAIT_S
    assert owner.offer(part(seq, low=seq))[0] is Offered.STAGED


def test_what_a_head_holds_at_most_is_what_others_take_of_it(owner: Owner) -> None:
    for worker in range(20):
        for seq in range(2, 1000, 2):
            owner.offer(part(seq), f"w{worker}")
    owner.commit()
    state = owner.partition.own_origin(owner.partition.commit, NOW_S)
    assert check_chunk(Chunk(0, "x", 1, 0, 0, True, state, (), {}), 1) == ""


def test_the_ranges_of_all_lanes_are_bounded_too(owner: Owner) -> None:
    for worker in range(20):
        for seq in range(2, 1000, 2):
            owner.offer(part(seq), f"w{worker}")
    owner.commit()
    assert owner.store.head is not None
    assert len(owner.store.head) < LANES_BYTES + 1000
    assert owner.offer(part(1), "w0")[0] is Offered.STAGED


@pytest.mark.parametrize("count", ["many", None, 1.5, -1, 2**63])
def test_a_row_that_can_t_be_read_stops_its_partition_in_words(store: MemoryStore, count: object) -> None:
    Owner(store, "p0").take()
    store.rows["s/a", "x"] = Row("s/a", "x", count, 1)  # type: ignore[arg-type]
    owner = Owner(store)
    owner.take()
    assert owner.is_away
    assert "a row of partition 0 can't be read" in owner.counters.faults[0]
