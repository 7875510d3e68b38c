"""What a Nexus knows: by tables, with a clock of the test's own."""

from __future__ import annotations

import pytest

import nexus.records as records_module
from hitmesh.errors import MeshError
from hitmesh.protocol.messages import (
    MAX_FRAME_BYTES,
    Change,
    Control,
    Instance,
    Lookup,
    decode,
    encode,
    make,
)
from nexus.records import DEAD_KEPT_S, MAX_DEAD, MAX_OF_ROLE
from nexus.registry import Registry
from tests.hitmesh.mesh.instances import heartbeat, instance, with_state


def registry(missed: int = 3) -> Registry:
    return Registry("n1", dc="dev", interval_s=1.0, missed=missed, wan_missed=5, now=0.0)


def run(one: Registry, until: float, since: float, *beating: Instance, step: float = 0.2) -> list[Change]:
    """Let time pass, in the steps of a server; `beating` send a heartbeat every second."""
    changes = []
    now = since
    last = since
    while now < until:
        now = round(now + step, 6)
        if now - last >= 1.0:
            last = now
            changes += [one.heartbeat(heartbeat(each, int(now * 1000)), now) for each in beating]
        changes.append(one.tick(now))
    return [change for change in changes if change is not None]


def alive(one: Registry, now: float) -> dict[str, bool]:
    answer = one.answer(make(Lookup, 1, "snapshot", ""), now)
    return {seen.instance.id: seen.alive for seen in answer.seen}


def test_who_cannot_read_what_is_written_is_in_no_picture() -> None:
    wire = 1
    one = Registry("n1", dc="dev", interval_s=1.0, missed=3, wan_missed=5, now=0.0, wire=lambda: wire)
    later = instance("processor-2", load={"version": 2_000.0, "reads.wire": 2.0})
    one.heartbeat(heartbeat(instance(), 1), 0.1)
    wire = 2
    assert one.heartbeat(heartbeat(instance(), 2), 0.2) is None
    assert one.heartbeat(heartbeat(instance("processor-3"), 1), 0.2) is None
    assert one.heartbeat(heartbeat(later, 1), 0.2) is not None
    assert one.refused == 2
    assert one.complaints()[0] == "processor-1-a is of release 0.1.0, which can't read wire format 2"
    run(one, 3.6, 0.2, later, instance())
    assert alive(one, 3.6) == {"processor-1-a": False, "processor-2-a": True}


def test_a_new_instance_is_told_at_once() -> None:
    change = registry().heartbeat(heartbeat(instance(), 1), 0.1)
    assert change is not None
    assert [(one.instance.name, one.alive) for one in change.seen] == [("processor-1", True)]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(instance(state="draining"), id="state"),
        pytest.param(instance(owns={3: 1}), id="owns"),
        pytest.param(instance(endpoints={"batches": "tcp://127.0.0.1:1"}), id="endpoints"),
    ],
)
def test_a_change_that_matters_is_told_at_once(changed: Instance) -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(), 1), 0.1)
    change = one.heartbeat(heartbeat(changed, 2), 0.2)
    assert change is not None
    assert change.seen[0].instance == changed


def test_a_load_goes_out_with_the_next_own_change_and_only_once() -> None:
    one = registry()
    run(one, 0.2, 0.0)
    one.heartbeat(heartbeat(instance(), 1), 0.2)
    assert one.heartbeat(heartbeat(instance(load={"queue": 5}), 2), 0.4) is None
    changes = run(one, 3.0, 0.4, instance(load={"queue": 5}))
    assert [len(change.seen) for change in changes] == [1, 0, 0]
    assert changes[0].seen[0].instance.load == {"queue": 5}


def test_that_time_goes_on_is_no_news() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(load={"up_s": 1.0, "queue": 5.0}), 1), 0.1)
    run(one, 1.5, 0.1)
    one.heartbeat(heartbeat(instance(load={"up_s": 2.0, "queue": 5.0}), 2), 1.6)
    assert {len(change.seen) for change in run(one, 3.0, 1.6)} == {0}
    assert one.answer(make(Lookup, 1, "snapshot", ""), 3.0).seen[0].instance.load["up_s"] == 2.0


def test_an_own_change_goes_out_every_interval_even_with_no_news() -> None:
    changes = run(registry(), 5.0, 0.0)
    assert [len(change.seen) for change in changes] == [0] * 6  # the first one at once


def test_changes_are_numbered_without_gaps() -> None:
    one = registry()
    first = one.heartbeat(heartbeat(instance(), 1), 0.1)
    assert first is not None
    changes = [first, *run(one, 6.0, 0.1)]
    assert [change.number for change in changes] == list(range(1, len(changes) + 1))


@pytest.mark.parametrize(("stated_s", "dies_after"), [(1.0, 3.0), (2.0, 6.0), (0.0, 0.15), (10_000.0, 180.0)], ids=str)
def test_an_instance_is_dead_after_the_missed_intervals_that_it_states(stated_s: float, dies_after: float) -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(), 1, stated_s), 0.0)
    run(one, dies_after - 0.05, 0.0, step=0.05)
    assert alive(one, dies_after) == {"processor-1-a": True}
    changes = run(one, dies_after + 0.2, dies_after - 0.05, step=0.05)
    assert [(seen.instance.id, seen.alive) for change in changes for seen in change.seen] == [("processor-1-a", False)]


def test_an_instance_that_beats_lives() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(), 1), 0.0)
    run(one, 60.0, 0.0, instance())
    assert alive(one, 60.0) == {"processor-1-a": True}


def test_a_dead_instance_that_beats_again_is_alive_at_once() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(), 1), 0.0)
    run(one, 5.0, 0.0)
    change = one.heartbeat(heartbeat(instance(), 2), 5.0)
    assert change is not None
    assert change.seen[0].alive


def test_a_restarted_instance_replaces_itself_at_once() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="a"), 1), 0.0)
    change = one.heartbeat(heartbeat(instance(id="b", started_ms=2000), 1), 0.1)
    assert change is not None
    assert change.forgotten == ("a",)
    assert alive(one, 0.1) == {"b": True}


def test_late_words_of_a_replaced_instance_are_ignored() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="a"), 99), 0.0)
    one.heartbeat(heartbeat(instance(id="b"), 1), 0.1)
    assert one.heartbeat(heartbeat(instance(id="a"), 99), 0.2) is None
    assert alive(one, 0.2) == {"b": True}


@pytest.mark.parametrize("started_ms", [0, 1000, 2**63 - 1])
def test_a_restart_takes_its_place_at_once_whatever_its_clock_says(started_ms: int) -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="a", started_ms=1000), 99), 0.0)
    one.heartbeat(heartbeat(instance(id="b", started_ms=started_ms), 1), 0.5)
    assert alive(one, 0.5) == {"b": True}


def test_whoever_takes_a_living_ones_name_gives_it_back_and_does_not_get_it_again() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="first"), 7), 0.0)
    one.heartbeat(heartbeat(instance(id="thief", started_ms=2**63 - 1), 1), 0.5)
    one.heartbeat(heartbeat(instance(id="first"), 8), 1.0)
    assert alive(one, 1.0) == {"first": True}
    for number, id in enumerate(["thief", "another-thief"] * 5):
        assert one.heartbeat(heartbeat(instance(id=id), 100 + number), 1.1) is None
    assert alive(one, 1.1) == {"first": True}
    assert one.refused == 11
    assert one.complaints()[-1] == "another-thief calls itself processor-1, as first does, which is alive"


def test_how_many_names_are_used_by_two_is_known_for_as_long_as_both_speak() -> None:
    one = registry()
    for number, id in enumerate(["first", "second"] * 3, 1):
        one.heartbeat(heartbeat(instance(id=id), number), 0.5)
    assert one.rivals(1.0) == 1
    one.heartbeat(heartbeat(instance(id="first"), 9), 5.0)
    assert one.rivals(5.0) == 0


def test_who_drains_leaves_its_place_to_the_next_of_its_name_while_both_speak() -> None:
    one = registry()
    old, new = with_state(instance(id="processor-1-old"), "draining"), instance(id="processor-1-new")
    one.heartbeat(heartbeat(old, 1), 0.0)
    for number in range(1, 4):
        one.heartbeat(heartbeat(new, number), 0.1 * number)
        one.heartbeat(heartbeat(old, number + 1), 0.1 * number + 0.05)
        assert alive(one, 0.1 * number + 0.06) == {"processor-1-new": True}
    assert one.refused == 0


def worker(id: str, generation: int, up_s: float, http: str = "http://127.0.0.1:8000") -> Instance:
    """A balancer's worker, of so manieth a generation."""
    load = {"generation": float(generation), "up_s": up_s}
    return instance("balancer-1", id, role="balancer", load=load, endpoints={"http": http})


def test_a_balancers_next_worker_has_the_name_for_good_while_the_one_before_still_serves() -> None:
    one = registry()
    for number in range(1, 9):
        one.heartbeat(heartbeat(worker("old", 1, 60.0 + number), number), 0.5 * number)
        assert alive(one, 0.5 * number) == {"old" if number == 1 else "new": True}
        one.heartbeat(heartbeat(worker("new", 2, number), number), 0.5 * number)
    assert (one.refused, one.rivals(4.0)) == (0, 0)
    one.leave("new", 4.5)
    one.heartbeat(heartbeat(worker("old", 1, 70.0), 20), 4.6)
    assert alive(one, 4.6) == {"old": True}, "the next one wasn't wanted after all"


def test_two_balancers_of_one_name_are_rivals_whatever_they_say_of_generations() -> None:
    one = registry()
    for number in range(1, 4):
        one.heartbeat(heartbeat(worker("here", 1, 60.0 + number), number), 0.2 * number)
        one.heartbeat(heartbeat(worker("there", 9, number, "http://127.0.0.2:8000"), number), 0.2 * number + 0.1)
    assert (alive(one, 0.8), one.rivals(0.8)) == ({"here": True}, 1)


def test_a_balancer_that_is_started_again_has_its_name_at_once_though_its_generations_begin_anew() -> None:
    one = registry()
    one.heartbeat(heartbeat(worker("before", 4, 60.0), 9), 0.0)
    one.heartbeat(heartbeat(worker("again", 1, 0.1), 1), 0.5)
    assert alive(one, 0.5) == {"again": True}


def test_a_contested_name_is_free_again_once_its_owner_is_dead() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="first"), 7), 0.0)
    one.heartbeat(heartbeat(instance(id="second"), 1), 0.5)
    one.heartbeat(heartbeat(instance(id="first"), 8), 1.0)
    run(one, 5.0, 1.0)
    one.heartbeat(heartbeat(instance(id="second"), 2), 5.0)
    assert alive(one, 5.0) == {"second": True}


def test_a_number_that_somebody_made_up_does_not_make_the_living_one_deaf() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(), 7), 0.0)
    one.heartbeat(heartbeat(instance(endpoints={"batches": "tcp://192.0.2.7:1"}), 2**63 - 1), 0.5)
    one.heartbeat(heartbeat(instance(), 8), 1.0)
    change = one.heartbeat(heartbeat(instance(), 9), 2.0)
    assert change is not None
    assert change.seen[0].instance == instance()
    assert one.refused == 1


def test_whoever_takes_a_living_ones_id_for_another_name_gives_it_back() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance("processor-1", "p"), 7), 0.0)
    one.leave("p", 0.1)
    one.heartbeat(heartbeat(instance("collector-1", "p", role="collector"), 2**63 - 1, 60.0), 0.2)
    one.heartbeat(heartbeat(instance("processor-1", "p"), 8), 1.0)
    change = one.heartbeat(heartbeat(instance("processor-1", "p"), 9), 2.0)
    assert change is not None
    assert [(each.instance.name, each.number) for each in change.seen] == [("processor-1", 9)]


def test_a_thief_that_says_it_is_slow_holds_no_name_for_longer_than_others() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="first"), 7), 0.0)
    one.heartbeat(heartbeat(instance(id="thief"), 1, 60.0), 0.5)
    run(one, 4.0, 0.5)
    one.heartbeat(heartbeat(instance(id="first"), 8), 4.0)
    assert alive(one, 4.0) == {"first": True}


def test_last_words_that_somebody_else_said_are_believed_once() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(), 7), 0.0)
    assert one.leave("processor-1-a", 0.1) is not None
    one.heartbeat(heartbeat(instance(), 8), 0.2)
    assert one.leave("processor-1-a", 0.3) is None
    assert alive(one, 0.3) == {"processor-1-a": True}


def test_ghosts_of_one_role_leave_room_for_the_others_and_for_those_known() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance("processor-1"), 1), 0.0)
    for role in ("processor", "collector", "a-role-nobody-has", "another-one"):
        for index in range(MAX_OF_ROLE + 5):
            one.heartbeat(heartbeat(instance(f"{role}-ghost-{index}", role=role), 1), 0.0)
    one.heartbeat(heartbeat(instance("balancer-1", role="balancer"), 1), 0.1)
    assert len(one) == 3 * MAX_OF_ROLE + 1
    assert one.refused == 6 + 5 + MAX_OF_ROLE + 10
    assert {"processor-1-a", "balancer-1-a"} <= set(alive(one, 0.1))


def test_heartbeats_out_of_order_are_ignored() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(owns={1: 2}), 5), 0.0)
    assert one.heartbeat(heartbeat(instance(), 4), 0.1) is None
    assert one.heartbeat(heartbeat(instance(), 5), 0.1) is None
    assert one.answer(make(Lookup, 1, "snapshot", ""), 0.1).seen[0].instance.owns == {1: 2}


def test_an_id_can_not_speak_for_another_place() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance("collector-1", "a", role="collector"), 1), 0.0)
    one.heartbeat(heartbeat(instance("processor-1", "b"), 1), 0.0)
    assert one.heartbeat(heartbeat(instance("processor-1", "a", started_ms=9000), 2), 0.1) is None
    assert alive(one, 0.1) == {"a": True, "b": True}


def test_an_instance_that_leaves_is_forgotten_at_once() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="a"), 1), 0.0)
    change = one.leave("a", 0.1)
    assert change is not None
    assert change.forgotten == ("a",)
    assert alive(one, 0.1) == {}
    assert one.leave("a", 0.2) is None


def test_it_is_warm_after_one_and_a_half_intervals() -> None:
    one = registry()
    assert not one.warm(1.4)
    assert one.warm(1.5)


def test_the_time_before_its_sockets_were_bound_does_not_warm_it_and_is_no_pause() -> None:
    one = registry()
    before = one.id
    one.opened(20.0)
    assert not one.warm(21.4)
    assert one.warm(21.5)
    one.tick(20.1)
    assert one.id == before


def test_a_nexus_that_was_stopped_starts_over_and_buries_nobody() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="a"), 1), 0.0)
    before = run(one, 2.0, 0.0, instance(id="a"))[-1]
    change = one.tick(12.0)
    assert change is not None
    assert change.nexus != before.nexus
    assert (change.number, change.warm, change.seen) == (1, False, ())


def test_a_nexus_that_starts_over_is_deaf_to_what_was_queued_while_it_was_stopped() -> None:
    one = registry()
    run(one, 2.0, 0.0)
    one.tick(12.0)
    assert one.heartbeat(heartbeat(instance(id="dead since"), 1), 12.01) is None
    run(one, 12.6, 12.0)
    assert one.heartbeat(heartbeat(instance(id="alive"), 1), 12.6) is not None
    assert alive(one, 12.6) == {"alive": True}
    assert not one.warm(13.9)
    assert one.warm(14.0)


def test_the_dead_are_kept_for_a_while_and_then_forgotten() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="a"), 1), 0.0)
    run(one, DEAD_KEPT_S, 0.0)
    assert alive(one, DEAD_KEPT_S) == {"a": False}
    changes = run(one, DEAD_KEPT_S + 4, DEAD_KEPT_S)
    assert [change.forgotten for change in changes if change.forgotten] == [("a",)]
    assert alive(one, DEAD_KEPT_S + 4) == {}


def test_no_more_dead_are_kept_than_the_bound_and_the_oldest_go_first() -> None:
    one = registry()
    for index in range(MAX_DEAD + 10):
        one.heartbeat(heartbeat(instance(f"c-{index:04}", started_ms=index), 1), index * 0.001)
    run(one, 5.0, 0.4, step=0.0005 * 1000)
    left = alive(one, 5.0)
    assert len(left) == MAX_DEAD
    assert "c-0000-a" not in left


def test_there_is_no_room_for_more_instances_than_the_bound() -> None:
    one = registry()
    for index in range(MAX_OF_ROLE + 5):
        one.heartbeat(heartbeat(instance(f"c-{index}"), 1), 0.0)
    assert len(one) == MAX_OF_ROLE
    assert one.refused == 5
    assert one.leave("c-0-a", 0.1) is not None
    assert one.heartbeat(heartbeat(instance("late"), 1), 0.1) is not None


def test_the_dead_make_room_for_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_KNOWN", 2)
    one = registry()
    one.heartbeat(heartbeat(instance("old"), 1), 0.0)
    run(one, 4.0, 0.0)
    one.heartbeat(heartbeat(instance("x"), 1), 4.0)
    change = one.heartbeat(heartbeat(instance("y"), 1), 4.0)
    assert change is not None
    assert change.forgotten == ("old-a",)
    assert alive(one, 4.0) == {"x-a": True, "y-a": True}


def test_a_snapshot_of_the_largest_records_fits_into_a_frame() -> None:
    one = registry()
    for index in range(300):
        owns = dict.fromkeys(range(4096), 2**40)
        one.heartbeat(heartbeat(instance(f"p-{index}", owns=owns), 1), 0.0)
    assert one.refused > 0
    assert len(encode(one.answer(make(Lookup, 1, "snapshot", ""), 0.1))) <= MAX_FRAME_BYTES


def test_an_instance_that_is_replaced_again_and_again_takes_no_more_room() -> None:
    one = registry()
    for index in range(10_000):
        one.heartbeat(heartbeat(instance(id=f"i-{index}", started_ms=index, owns={1: index}), 1), 0.0)
    assert len(one) == 1
    one.leave("i-9999", 0.0)
    assert one._records.size_bytes == 0


def test_a_service_lookup_answers_the_living_of_a_role() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance("processor-1"), 1), 0.0)
    one.heartbeat(heartbeat(instance("collector-1", role="collector"), 1), 0.0)
    run(one, 4.0, 0.0, instance("collector-1", role="collector"))
    one.heartbeat(heartbeat(instance("collector-2", role="collector"), 1), 4.0)
    found = one.answer(make(Lookup, 7, "service", "collector"), 4.0)
    assert (found.request, found.error) == (7, "")
    assert {seen.instance.name for seen in found.seen} == {"collector-1", "collector-2"}
    assert one.answer(make(Lookup, 8, "service", "processor"), 4.0).seen == ()


@pytest.mark.parametrize(("partition", "name"), [("3", "processor-2"), ("4", "processor-1"), ("5", None)])
def test_an_owner_lookup_answers_the_highest_epoch(partition: str, name: str | None) -> None:
    one = registry()
    one.heartbeat(heartbeat(instance("processor-1", owns={3: 1, 4: 1}), 1), 0.0)
    one.heartbeat(heartbeat(instance("processor-2", owns={3: 2}), 1), 0.0)
    found = one.answer(make(Lookup, 1, "owner", partition), 0.1)
    assert [seen.instance.name for seen in found.seen] == ([name] if name else [])


@pytest.mark.parametrize(
    "request_", [("owner", "-1"), ("owner", "x" * 1024), ("owner", "²"), ("everything", ""), ("owner", "")], ids=str
)
def test_a_wrong_lookup_gets_an_error_that_can_be_sent(request_: tuple[str, str]) -> None:
    found = registry().answer(make(Lookup, 1, *request_), 0.0)
    assert found.error
    assert decode(encode(found), type(found)) == found


def test_forget_drops_a_dead_instance_and_tells() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(id="a"), 1), 0.0)
    run(one, 4.0, 0.0)
    answer, change = one.control(make(Control, 4, "forget", "processor-1"), 4.0)
    assert change is not None
    assert (answer.error, change.forgotten, answer.number) == ("", ("a",), change.number)
    assert alive(one, 4.0) == {}


def test_forget_refuses_the_living_and_the_unknown() -> None:
    one = registry()
    one.heartbeat(heartbeat(instance(), 1), 0.0)
    with pytest.raises(MeshError, match="alive"):
        one.forget("processor-1", 0.1)
    with pytest.raises(MeshError, match="no instance"):
        one.forget("processor-9", 0.1)
    answer, change = one.control(make(Control, 1, "forget", "y" * 1024), 0.1)
    assert change is None
    assert decode(encode(answer), type(answer)).error
    assert one.control(make(Control, 1, "dance", ""), 0.1)[0].error


def test_a_record_keeps_the_state_of_its_last_heartbeat_when_it_dies() -> None:
    one = registry()
    one.heartbeat(heartbeat(with_state(instance(), "draining"), 1), 0.0)
    run(one, 4.0, 0.0)
    assert one.answer(make(Lookup, 1, "snapshot", ""), 4.0).seen[0].instance.state == "draining"
