"""Rows between datacenters: they arrive, survive gaps and losses, come back, and count nothing twice."""

from __future__ import annotations

import pytest

from hitmesh.processor import feed as feed_module
from hitmesh.processor import staging as staging_module
from hitmesh.processor.following import PATIENCE_S
from hitmesh.processor.steps import Phase
from hitmesh.protocol.bounds import MAX_POSITION
from hitmesh.protocol.messages import Chunk, Origin, OriginRow, Position
from hitmesh.store import Write
from tests.hitmesh.processor.datacenters import HELD_S, TICK_S, WALL_S, World


@pytest.fixture
def two() -> World:
    world = World("eu", "us")
    world.run(3)
    return world


@pytest.fixture
def three() -> World:
    world = World("ap", "eu", "us")
    world.run(3)
    return world


def agree(world: World) -> None:
    """Every store has the same rows of every datacenter."""
    for origin in world.names:
        rows = {name: world[name].rows(origin) for name in world.names if name not in world.down}
        assert len({tuple(sorted(found.items())) for found in rows.values()}) == 1, (origin, rows)


def test_datacenters_that_begin_together_wait_for_each_others_word_and_then_count(two: World) -> None:
    assert [two[name].phase for name in two.names] == [Phase.OWNED, Phase.OWNED]
    assert two["eu"].hit("s/a")


def test_rows_are_committed_in_the_other_datacenter(two: World) -> None:
    for number in range(5):
        two["eu"].hit(f"s/{number}", number + 1)
    two["us"].hit("s/0", 7)
    two.run(2)
    agree(two)
    assert two["us"].rows("eu") == {f"s/{number}": number + 1 for number in range(5)}
    assert two["us"].head.origins["eu"].hits == 15


def test_a_datacenter_that_is_hit_while_the_other_is_not_does_not_make_it_commit_for_ever(two: World) -> None:
    two["eu"].hit("s/a")
    two.run(3)
    before = [two[name].head.commit for name in two.names]
    two.run(10)
    assert [two[name].head.commit for name in two.names] == before


def test_a_lost_question_or_answer_is_made_good(two: World) -> None:
    two["eu"].hit("s/a")
    for _ in range(4):
        two["eu"].tick()
        two["us"].tick()
        two.mail.clear()
        two.now_s += TICK_S
    two.run(5)
    agree(two)


def test_after_a_gap_the_rows_above_the_receivers_commit_are_sent(two: World) -> None:
    two["eu"].hit("s/before")
    two.run(2)
    two.cut.add(frozenset(("eu", "us")))
    for number in range(20):
        two["eu"].hit(f"s/{number % 7}")
        two["us"].hit("s/us")
        two.run(1)
    two.cut.clear()
    two.mail.clear()
    two.run(4)
    agree(two)


@pytest.mark.parametrize("recent", [3, 50])
def test_who_is_far_behind_gets_the_rows_in_pieces_from_memory_or_from_the_store(
    two: World, monkeypatch: pytest.MonkeyPatch, recent: int
) -> None:
    monkeypatch.setattr(feed_module, "MAX_RECENT", recent)
    monkeypatch.setattr(feed_module, "MAX_CHUNK_ROWS", 4)
    two.cut.add(frozenset(("eu", "us")))
    for number in range(40):
        two["eu"].hit(f"s/{number}")
        two["eu"].steps()
    two.cut.clear()
    two.run(20)
    agree(two)
    assert len(two["us"].rows("eu")) == 40


def test_a_new_owner_goes_on_where_the_one_before_it_was(two: World) -> None:
    for number in range(5):
        two["eu"].hit(f"s/{number}")
        two["eu"].steps()
    two["eu"].start()
    two["us"].start()
    two["eu"].hit("s/new")
    two.run(6)
    agree(two)
    assert two["us"].rows("eu")["s/new"] == 1


def test_a_commit_without_an_answer_is_told_once_it_is_settled(two: World) -> None:
    two["eu"].hit("s/a")
    two["eu"].steps(unknown=True)
    two["us"].hit("s/b")
    two["us"].steps(unknown=True)
    two.run(4)
    agree(two)
    assert two["us"].rows("eu") == {"s/a": 1}


def test_staged_rows_of_another_datacenter_are_not_told_before_they_are_committed(three: World) -> None:
    three["eu"].hit("s/a")
    three["eu"].steps()
    assert three["eu"].partition.origins == {}
    three.run(3)
    assert three["us"].partition.origins["eu"].hits == 1


# --- ages -----------------------------------------------------------------------------------


def test_ages_stay_small_while_the_link_is_up_and_grow_while_it_is_cut(two: World) -> None:
    two["eu"].hit("s/a")
    two.run(5)
    assert two["us"].age_s("eu") <= HELD_S + 3 * TICK_S
    two.cut.add(frozenset(("eu", "us")))
    two.run(30)
    assert two["us"].age_s("eu") >= 30
    two.cut.clear()
    two.run(4)
    assert two["us"].age_s("eu") <= HELD_S + 3 * TICK_S


def test_a_new_owner_does_not_take_the_others_rows_for_new(two: World) -> None:
    two["eu"].hit("s/a")
    two.run(3)
    two.cut.add(frozenset(("eu", "us")))
    two.run(20)
    two["us"].start()
    assert two["us"].age_s("eu") >= 20


def test_rows_that_have_not_been_committed_yet_make_nothing_younger(two: World) -> None:
    two.run(2)
    two["us"].tick()
    while two.mail:
        two.deliver()
    two.now_s += TICK_S
    two["eu"].hit("s/a")
    two["eu"].steps()
    before = two["us"].age_s("eu")
    us = two["us"]
    us.steps = lambda **_: None  # type: ignore[method-assign]
    two.deliver()
    assert us.partition.has_arrived("eu")
    assert us.age_s("eu") == before
    del us.steps
    us.steps()
    assert us.age_s("eu") < before


# --- recovery -------------------------------------------------------------------------------


def test_a_wiped_datacenter_gets_its_own_rows_and_the_others_back_before_it_counts(three: World) -> None:
    for name in three.names:
        for number in range(5):
            three[name].hit(f"s/{number}", 10)
    three.run(3)
    epoch = three["eu"].head.epoch
    three["eu"].wipe()
    assert three["eu"].phase is Phase.RESTORING
    assert not three["eu"].hit("s/0"), "counted before it had its rows"
    assert three["eu"].head.restoring
    three.run(4)
    agree(three)
    assert three["eu"].rows("eu") == {f"s/{number}": 10 for number in range(5)}
    assert three["eu"].head.hits == 50
    assert three["eu"].head.lost == 0
    assert three["eu"].head.epoch // 1000 == epoch // 1000 + 1


def test_parts_that_were_counted_before_the_wipe_are_not_counted_again(three: World) -> None:
    for number in range(8):
        three["eu"].hit(f"s/{number % 3}")
    three.run(3)
    three["eu"].wipe()
    three.run(4)
    three["eu"].offer_all()
    three.run(3)
    agree(three)
    assert sum(three["us"].rows("eu").values()) == 8


def test_nothing_is_counted_while_a_peer_cannot_be_asked_unless_it_is_retired(three: World) -> None:
    three["eu"].hit("s/a")
    three.run(3)
    three.down.add("ap")
    three["eu"].wipe()
    three.run(30)
    assert three["eu"].head.restoring
    three.retired = frozenset({"ap"})
    three.run(3)
    assert three["eu"].phase is Phase.OWNED
    assert three["eu"].rows("eu") == {"s/a": 1}


def test_of_two_peers_the_one_that_knows_more_is_believed(three: World) -> None:
    three["eu"].hit("s/a")
    three.run(3)
    three.cut.add(frozenset(("eu", "ap")))
    three["eu"].hit("s/a", 5)
    three["eu"].hit("s/b", 2)
    three["eu"].steps()
    three.dcs["ap"].following.forget(0)
    for _ in range(8):  # nobody tells ap of it: us and ap don't speak either
        three["us"].tick()
        three["eu"].tick()
        three.mail = [mail for mail in three.mail if "ap" not in mail[:2]]
        while three.mail:
            three.deliver()
            three.mail = [mail for mail in three.mail if "ap" not in mail[:2]]
        three.now_s += TICK_S
    assert three["us"].rows("eu") == {"s/a": 6, "s/b": 2}
    assert three["ap"].rows("eu") == {"s/a": 1}
    three.cut.clear()
    three["eu"].wipe()
    three.run(6)
    agree(three)
    assert three["eu"].rows("eu") == {"s/a": 6, "s/b": 2}


def test_a_wiped_datacenter_gets_more_than_it_was_told_when_it_caught_up_before(two: World) -> None:
    two["eu"].hit("s/old")
    two.run(2)
    two.cut.add(frozenset(("eu", "us")))
    two["eu"].hit("s/new")
    two["eu"].steps()
    two["eu"].start()  # with nothing in memory: what us lacks, the new row, is read from the store
    two.mail.clear()
    two.cut.clear()
    two.run(5)
    agree(two)
    two["us"].wipe()
    two.run(4)
    assert two["us"].rows("eu") == {"s/old": 1, "s/new": 1}


def test_a_datacenter_that_is_wiped_twice_gets_all_its_rows_of_whom_it_asked_for_some_before(three: World) -> None:
    three["us"].hit("s/old")
    three.run(2)
    three.cut = {frozenset(("ap", "us")), frozenset(("ap", "eu"))}
    three["us"].hit("s/new")
    three.run(2)
    three.cut.clear()
    three["us"].wipe()
    for _ in range(3):
        three["us"].tick()
        while three.mail:
            three.deliver()
        three.now_s += TICK_S
    assert three["us"].rows("us") == {"s/old": 1, "s/new": 1}  # the old one of ap, and of eu only what is above
    assert three["ap"].rows("us") == {"s/old": 1}
    three["us"].wipe()
    three["ap"].wipe()
    three.run(8)
    assert three["us"].rows("us") == {"s/old": 1, "s/new": 1}
    assert three["us"].head.lost == 0
    agree(three)


def test_a_restoration_that_is_broken_off_begins_anew(three: World) -> None:
    for number in range(6):
        three["eu"].hit(f"s/{number}")
    three.run(3)
    three["eu"].wipe()
    three["eu"].tick()
    three.deliver()
    three["eu"].start()
    assert three["eu"].phase is Phase.RESTORING
    three.run(5)
    agree(three)
    assert len(three["eu"].rows("eu")) == 6


def test_all_stores_wiped_at_once_begin_anew(three: World) -> None:
    three["eu"].hit("s/a")
    three.run(3)
    for name in three.names:
        three[name].store = type(three[name].store)()
    for name in three.names:
        three[name].start()
    three.run(5)
    assert [three[name].phase for name in three.names] == [Phase.OWNED] * 3
    assert three["us"].rows("eu") == {}


def test_rows_of_a_datacenter_that_is_gone_reach_those_who_lack_them(three: World) -> None:
    three["eu"].hit("s/a", 3)
    three.run(3)
    three.cut |= {frozenset(("eu", "ap"))}
    three["eu"].hit("s/a", 4)
    three["eu"].steps()
    for _ in range(4):
        for name in ("eu", "us"):
            three[name].tick()
        three.mail = [mail for mail in three.mail if "ap" not in mail[:2]]
        while three.mail:
            three.deliver()
            three.mail = [mail for mail in three.mail if "ap" not in mail[:2]]
        three.now_s += TICK_S
    assert three["us"].rows("eu") == {"s/a": 7}
    assert three["ap"].rows("eu") == {"s/a": 3}
    three.down.add("eu")
    three.retired = frozenset({"eu"})
    three.run(5)
    assert three["ap"].rows("eu") == {"s/a": 7}


def test_a_store_that_went_back_in_time_is_noticed(two: World) -> None:
    two["eu"].hit("s/a")
    two.run(2)
    backup = (two["eu"].store.head, dict(two["eu"].store.rows))
    for _ in range(3):
        two["eu"].hit("s/a")
        two.run(1)
    store = type(two["eu"].store)()
    store.head, store.rows = backup
    store.index = store._clock = 1
    two["eu"].store = store
    two["eu"].start()
    two["eu"].hit("s/a")
    two.run(6)
    assert two["us"].rows("eu") == {"s/a": 4}
    assert any("restored from a backup" in fault for fault in two["eu"].counters.faults)
    assert two["us"].age_s("eu") > 6  # what is refused makes nothing younger
    two.run(20)
    assert two["us"].age_s("eu") > 26


def test_a_copy_that_somebody_else_has_moved_too_far_says_its_true_age(two: World) -> None:
    two["eu"].hit("s/a")
    two.run(2)
    forged = Chunk(
        0, "eu", 0, 0, 0, True,
        Origin(Position(two["eu"].head.ledger, 1, MAX_POSITION), 1, {}, 0), (OriginRow("s/x", 1, 1),), {},
    )  # fmt: skip
    assert two["us"].partition.arrive(forged)
    two["us"].steps()
    assert two["us"].head.origins["eu"].position.commit == MAX_POSITION
    for _ in range(5):
        two["eu"].hit("s/a")
        two.run(2)
    assert two["us"].age_s("eu") > 9
    assert two["us"].rows("eu") == {"s/a": 1, "s/x": 1}
    assert any("before" in fault for fault in two["us"].counters.faults)


def test_a_store_with_another_history_is_not_believed(two: World) -> None:
    two["eu"].hit("s/a", 9)
    two.run(2)
    two["eu"].store = type(two["eu"].store)()
    two["eu"].world.retired = frozenset({"us"})  # so that it asks nobody
    two["eu"].start()
    two["eu"].world.retired = frozenset()
    two["eu"].hit("s/a")
    two.run(6)
    assert two["us"].rows("eu") == {"s/a": 9}
    assert any("ledger" in fault for fault in two["us"].counters.faults)


def test_answers_to_a_question_of_the_owner_before_are_not_taken(two: World) -> None:
    two["us"].tick()
    while two.mail:
        two.deliver()
    two["eu"].hit("s/a")
    two["eu"].steps()
    late = [mail for mail in two.mail if mail[1] == "us"]
    two["us"].start()
    for mail in late:
        two["us"].receive(mail[2])
    assert late
    assert not two["us"].partition.has_arrived("eu")


def test_an_answer_to_the_owner_before_is_not_taken_for_one_to_the_question_of_now(two: World) -> None:
    two["eu"].hit("s/old")
    two.run(3)
    two["us"].start()
    two["us"].tick()
    two["eu"].hit("s/new")
    two["eu"].steps()
    two.mail.clear()
    two.now_s += HELD_S + PATIENCE_S
    two["us"].tick()  # its second question, for what is above the old row
    two.deliver()
    (late,) = (data for _, to, data in two.mail if to == "us")
    two.mail.clear()
    two["us"].wipe()
    two["us"].tick()  # its second question is for all rows of eu: the first one is for its own
    two["us"].receive(late)
    two.run(4)
    assert two["us"].rows("eu") == {"s/old": 1, "s/new": 1}


def test_rows_that_came_after_the_answer_to_a_restored_owner_do_not_hide_new_ones(three: World) -> None:
    three["eu"].hit("s/a")
    three.run(3)
    late = three["eu"]
    late.hit("s/lost", 5)
    late.steps()
    late.hit("s/lost", 5)
    late.steps()
    rows = [mail for mail in three.mail if mail[0] == "eu"]
    three.mail.clear()
    late.wipe()
    for _ in range(8):
        late.tick()
        while three.mail:
            three.deliver()
        three.now_s += TICK_S
    assert late.phase is Phase.OWNED
    for origin, to, data in rows:
        three.post(origin, to, data)
    late.hit("s/new")
    late.steps()
    three.run(4)
    late.hit("s/newer")
    three.run(4)
    assert late.rows("eu")["s/new"] == 1
    agree(three)


def test_a_commit_that_the_others_have_of_a_lost_history_hides_nothing_of_the_new_one(two: World) -> None:
    two["eu"].hit("s/a")
    two.run(2)
    for _ in range(3):  # the last commits before the loss, which us gets after it has answered
        two["eu"].hit("s/lost")
        two["eu"].steps()
    lost = two["eu"].partition.own_origin(two["eu"].partition.feed.commit, WALL_S)
    two.mail.clear()
    two["eu"].wipe()
    us = two["us"]
    answered = two["eu"].phase
    for _ in range(8):
        two["eu"].tick()
        while two.mail:
            two.deliver()
        two.now_s += TICK_S
    assert answered is Phase.RESTORING
    assert two["eu"].head.commit == 1
    row = OriginRow("s/lost", 3, lost.position.commit)
    assert us.partition.arrive(Chunk(0, "eu", 1, 0, 0, True, lost, (row,), {}))
    us.steps()
    for number in range(2):
        two["eu"].hit(f"s/new{number}")
        two["eu"].steps()
    two.run(5)
    assert us.rows("eu")["s/new0"] == us.rows("eu")["s/new1"] == 1


def test_rows_of_another_datacenter_find_room_though_own_parts_keep_coming(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging_module, "MAX_COMMIT_ROWS", 3)
    us = two["us"]
    rows = tuple(OriginRow(f"s/{n}", 1, 5) for n in range(2))
    state = Origin(Position("l", 1, 5), 2, {}, WALL_S)
    for number in range(3):
        us.hit(f"s/own{number}")
    assert us.partition.arrive(Chunk(0, "xx", 1, 0, 0, True, state, rows, {}))
    commits = 0
    while us.partition.has_arrived("xx"):
        commits += 1
        step = us.partition.step(WALL_S)
        for number in range(3):
            us.hit(f"s/own{number}")  # as many as a commit takes, again and again
        assert isinstance(step, Write)
        assert us.partition.has_arrived("xx")
        us.partition.wrote(us.store.write(step))
        while us.partition.phase is Phase.REDOING:
            redo = us.partition.step(WALL_S)
            assert isinstance(redo, Write)
            us.partition.wrote(us.store.write(redo))
    assert commits == 2
    assert us.partition.origins["xx"].hits == 2


def test_an_ack_has_the_other_datacenters_counts_as_committed(two: World) -> None:
    two["eu"].hit("s/a", 4)
    two.run(3)
    two["us"].hit("s/a")
    two["us"].steps()
    _, applied = two["us"].partition.offer("collector.us", "", two["us"].partition.epoch, two["us"].parts[0])
    assert applied is not None
    assert applied.totals == {"s/a": {"us": 1, "eu": 4}}
