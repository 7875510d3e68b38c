"""The mesh as a role sees it, from the words of two Nexuses; a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hitmesh.protocol.messages import Head, make
from hitmesh.state.view import MAX_LATER_CHANGES, MeshView, false_upto
from tests.hitmesh.mesh.instances import answer, change, instance, seen, with_state

TIMEOUT_S = 3.0
P1, P2 = instance("processor-1"), instance("processor-2")


def view(*everybody: str) -> MeshView:
    """A view of two Nexuses, A (warm, heard at 0) with the named processors, and B (never heard)."""
    one = MeshView(["A", "B"], dc="dev", timeout_s=TIMEOUT_S)
    one.change("A", change(1), 0.0)
    one.answer("A", answer(1, *(seen(instance(name)) for name in everybody)), 0.0)
    return one


def names(one: MeshView) -> list[str]:
    return [each.name for each in one.live("processor")]


def test_the_first_change_of_a_nexus_asks_for_a_snapshot() -> None:
    one = MeshView(["A"], dc="dev", timeout_s=TIMEOUT_S)
    assert one.change("A", change(5), 0.0)
    assert not one.answer("A", answer(5, seen(P1)), 0.0)
    assert not one.change("A", change(6), 1.0)
    assert names(one) == ["processor-1"]


def test_nothing_is_known_before_a_warm_nexus_has_shown_its_whole_picture() -> None:
    one = MeshView(["A"], dc="dev", timeout_s=TIMEOUT_S)
    one.change("A", change(5), 0.0)
    assert not one.known
    one.answer("A", answer(5, warm=False), 0.0)
    assert not one.known
    one.change("A", change(6, warm=True), 0.5)
    assert one.known


def test_a_change_adds_alters_and_removes() -> None:
    one = view()
    one.change("A", change(2, seen(P1), seen(P2)), 1.0)
    assert names(one) == ["processor-1", "processor-2"]
    one.change("A", change(3, seen(with_state(P1, "draining"), 2), forgotten=(P2.id,)), 1.0)
    assert [(each.name, each.state) for each in one.live("processor")] == [("processor-1", "draining")]


def test_a_dead_instance_is_not_live() -> None:
    one = view("processor-1")
    one.change("A", change(2, seen(P1, alive=False)), 1.0)
    assert names(one) == []


def test_roles_are_kept_apart_and_sorted_by_name() -> None:
    one = view()
    collector = instance("collector-1", role="collector")
    one.change("A", change(2, seen(P2), seen(collector), seen(P1)), 1.0)
    assert names(one) == ["processor-1", "processor-2"]
    assert one.live("collector") == (collector,)
    assert one.live("balancer") == ()


def test_a_lost_change_asks_for_a_snapshot_until_it_comes() -> None:
    one = view("processor-1")
    assert one.change("A", change(3, seen(P2)), 1.0)
    assert one.change("A", change(4), 1.1)
    assert names(one) == ["processor-1", "processor-2"]
    assert not one.answer("A", answer(4, seen(P2)), 1.2)
    assert names(one) == ["processor-2"]


def test_changes_that_overtake_a_snapshot_are_applied_to_it() -> None:
    one = view("processor-1")
    one.change("A", change(3), 1.0)
    one.change("A", change(4, seen(P2)), 1.1)
    one.change("A", change(5, seen(P1, 9, alive=False)), 1.1)
    assert not one.answer("A", answer(3, seen(P1)), 1.2)
    assert names(one) == ["processor-2"]
    assert not one.change("A", change(6), 1.3)


def test_a_snapshot_from_before_a_gap_is_asked_for_again() -> None:
    one = view("processor-1")
    one.change("A", change(5), 1.0)
    assert one.answer("A", answer(3, seen(P2)), 1.1)
    assert names(one) == ["processor-1"]


def test_an_old_snapshot_does_not_undo_a_whole_picture() -> None:
    one = view("processor-1")
    one.change("A", change(2, seen(P2)), 1.0)
    assert not one.answer("A", answer(1, seen(P1)), 1.1)
    assert names(one) == ["processor-1", "processor-2"]


def test_a_change_that_the_snapshot_holds_already_is_not_applied_again() -> None:
    one = view("processor-1")
    one.answer("A", answer(9, seen(P2)), 1.0)
    assert not one.change("A", change(8, seen(P1)), 1.1)
    assert names(one) == ["processor-2"]


def test_more_changes_than_are_kept_while_a_snapshot_is_away_ask_for_another() -> None:
    one = view()
    for number in range(3, 3 + MAX_LATER_CHANGES + 2):
        one.change("A", change(number), 1.0)
    assert one.answer("A", answer(3), 1.1)
    assert len(one._pictures["A"].later) == MAX_LATER_CHANGES
    assert not one.answer("A", answer(2 + MAX_LATER_CHANGES + 2), 1.2)


def test_an_answer_with_an_error_changes_nothing() -> None:
    one = view("processor-1")
    assert not one.answer("A", answer(9, error="no such lookup"), 1.0)
    assert names(one) == ["processor-1"]


def test_an_instance_that_one_nexus_hears_is_alive() -> None:
    one = view("processor-1")
    one.change("B", change(1, nexus="n2"), 1.0)
    one.answer("B", answer(1, seen(P1, alive=False), nexus="n2"), 1.0)
    assert names(one) == ["processor-1"]
    one.change("A", change(2, seen(P1, alive=False)), 1.1)
    assert names(one) == []


def test_of_two_words_about_an_instance_the_newer_heartbeat_counts() -> None:
    one = view()
    one.change("A", change(2, seen(replace(P1, owns={1: 1}), 10)), 1.0)
    one.answer("B", answer(1, seen(replace(P1, owns={1: 1, 2: 1}), 12), nexus="n2"), 1.0)
    assert dict(one.live("processor")[0].owns) == {1: 1, 2: 1}
    one.change("A", change(3, seen(replace(P1, owns={}), 13)), 1.1)
    assert one.owner(1) is None


def test_of_two_instances_of_a_name_the_one_that_is_shown_stays_whatever_clocks_say() -> None:
    one = view()
    one.change("A", change(2, seen(instance(id="old", started_ms=1, owns={1: 5}))), 1.0)
    assert one.owner(1) is not None
    one.answer("B", answer(1, seen(instance(id="new", started_ms=2)), nexus="n2"), 1.0)
    assert [each.id for each in one.live("processor")] == ["old"]
    one.change("A", change(3, seen(instance(id="new", started_ms=2)), forgotten=("old",)), 1.0)
    assert [each.id for each in one.live("processor")] == ["new"]
    assert one.owner(1) is None


def test_a_claim_that_the_head_disproves_is_none_until_it_is_another() -> None:
    one = view()
    true, ghost = instance("processor-1", owns={1: 5}), instance("processor-2", owns={1: 2**63 - 1})
    one.change("A", change(2, seen(true), seen(ghost)), 1.0)
    before = one.version
    one.refute(1, ghost.id, 2**63 - 1)
    owner = one.owner(1)
    assert owner is not None
    assert (owner.instance, owner.epoch, one.version) == (true, 5, before + 1)
    one.change("A", change(3, seen(replace(ghost, load={"hits": 1.0}), 2)), 1.0)
    assert one.owner(1) == owner
    one.change("A", change(4, seen(replace(ghost, owns={1: 6}), 3)), 1.0)
    owner = one.owner(1)
    assert owner is not None
    assert owner.epoch == 6


@pytest.mark.parametrize(
    ("owner", "epoch", "is_false"),
    [
        ("processor-1-a", 5, ()),
        ("processor-2-a", 6, (5, 6)),  # a hand-over: taken since
        ("processor-1-a", 7, (5, 6)),  # taken back since
        ("processor-2-a", 5, (5, 6, 7, 8)),
        ("processor-2-a", 4, (5, 6, 7, 8)),
        ("", 0, (5,)),  # wiped
    ],
)
def test_a_claim_that_is_out_of_date_says_nothing_against_later_ones(
    owner: str, epoch: int, is_false: tuple[int, ...]
) -> None:
    one = view()
    one.change("A", change(2, seen(replace(P1, owns={1: 5}))), 1.0)
    claim = one.owner(1)
    assert claim is not None
    head = make(Head, "l", epoch, owner, 0, 0, {}, (), {}, False, 0) if owner else None
    upto = false_upto(claim, head)
    if upto:
        one.refute(1, P1.id, 5, upto)
    for number, later in enumerate((5, 6, 7, 8), 3):
        one.change("A", change(number, seen(replace(P1, owns={1: later}), number)), 1.0)
        assert (one.owner(1) is None) is (later in is_false)


def test_many_changes_in_a_row_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one = view()
    shown = 0
    show = MeshView._show

    def counted(self: MeshView, *args: Any, **rest: Any) -> None:
        nonlocal shown
        shown += 1
        show(self, *args, **rest)

    monkeypatch.setattr(MeshView, "_show", counted)
    for number in range(2, 1002):
        one.change("A", change(number, seen(instance(f"ghost-{number}"))), 1.0)
    assert len(names(one)) == 1000
    assert shown == 1


def test_a_nexus_that_falls_silent_loses_its_say() -> None:
    one = view("processor-1")
    one.answer("B", answer(1, seen(P2), nexus="n2"), 2.0)
    assert names(one) == ["processor-1", "processor-2"]
    assert not one.tick(3.0)
    assert one.tick(3.1)
    assert names(one) == ["processor-2"]
    assert one.connected


def test_with_every_nexus_silent_the_last_picture_stays() -> None:
    one = view("processor-1")
    one.tick(100.0)
    assert not one.connected
    assert one.known
    assert names(one) == ["processor-1"]


def test_a_nexus_that_restarted_makes_nobody_disappear_until_it_is_warm() -> None:
    one = view("processor-1", "processor-2")
    assert one.change("A", change(1, nexus="n1 again", warm=False), 1.0)
    assert not one.answer("A", answer(1, nexus="n1 again", warm=False), 1.0)
    assert names(one) == ["processor-1", "processor-2"]
    one.change("A", change(2, seen(P2), nexus="n1 again", warm=False), 1.5)
    assert names(one) == ["processor-1", "processor-2"]
    one.change("A", change(3, nexus="n1 again", warm=True), 2.5)
    assert names(one) == ["processor-2"]


def test_the_word_of_a_restarted_nexus_that_somebody_left_counts() -> None:
    one = view("processor-1", "processor-2")
    one.change("A", change(1, nexus="n1 again", warm=False), 1.0)
    one.answer("A", answer(1, nexus="n1 again", warm=False), 1.0)
    one.change("A", change(2, nexus="n1 again", warm=False, forgotten=(P1.id,)), 1.1)
    assert names(one) == ["processor-2"]
    one.change("A", change(3, nexus="n1 again", warm=False), 1.2)
    assert names(one) == ["processor-2"]


def test_a_warm_nexus_whose_picture_has_a_gap_makes_nobody_disappear() -> None:
    one = view("processor-1")
    one.change("A", change(7, nexus="n1 again", warm=True), 1.0)
    assert names(one) == ["processor-1"]


def test_a_nexus_that_comes_back_after_silence_is_not_believed_in_what_it_said_before() -> None:
    one = view("processor-1")
    one.answer("B", answer(1, seen(P2), nexus="n2"), 1.0)
    for now in (2.0, 3.0, 4.0, 5.0):
        one.change("B", change(int(now), nexus="n2"), now)
        one.tick(now)
    assert names(one) == ["processor-2"]
    assert one.change("A", change(9), 5.0)
    assert names(one) == ["processor-2"]


def test_a_nexus_that_was_slow_but_lost_nothing_needs_no_snapshot() -> None:
    one = view("processor-1")
    one.tick(10.0)
    assert not one.change("A", change(2), 10.1)
    assert one.connected
    assert names(one) == ["processor-1"]


def test_the_owner_is_the_living_processor_with_the_highest_epoch() -> None:
    one = view()
    first = seen(replace(P1, owns={1: 4, 2: 1}))
    second = seen(replace(P2, owns={1: 5}))
    one.change("A", change(2, first, second), 1.0)
    assert {key: (owner.instance.name, owner.epoch) for key, owner in one.owners().items()} == {
        1: ("processor-2", 5),
        2: ("processor-1", 1),
    }
    one.change("A", change(3, seen(second.instance, alive=False)), 1.1)
    owner = one.owner(1)
    assert owner is not None
    assert (owner.instance.name, owner.epoch) == ("processor-1", 4)


def test_only_processors_own() -> None:
    one = view()
    one.change("A", change(2, seen(instance("collector-1", role="collector", owns={1: 9}))), 1.0)
    assert one.owners() == {}


def test_the_version_rises_with_what_matters_and_not_with_loads() -> None:
    one = view("processor-1")
    steps = [
        (change(2), False),
        (change(3, seen(replace(P1, load={"queue": 9}), 2)), False),
        (change(4, seen(replace(P1, owns={1: 1}), 3)), True),
        (change(5, seen(replace(P1, owns={1: 1}, endpoints={"batches": "tcp://x:1"}), 4)), True),
        (change(6, seen(with_state(P1, "draining"), 5)), True),
        (change(7, seen(P2)), True),
        (change(8, seen(P2, 2, alive=False)), True),
        (change(9, forgotten=(P2.id,)), False),
        (change(10, forgotten=(P1.id,)), True),
    ]
    rose = []
    for each, _ in steps:
        before = one.version
        one.change("A", each, 1.0)
        rose.append(one.version > before)
    assert rose == [expected for _, expected in steps]
    assert one.live("processor") == ()


def test_a_load_reaches_the_readers_of_a_view() -> None:
    one = view("processor-1")
    one.change("A", change(2, seen(replace(P1, load={"queue": 9}), 2)), 1.0)
    assert one.live("processor")[0].load == {"queue": 9}


def test_it_tells_who_is_not_shown_yet() -> None:
    one = MeshView(["A", "B"], dc="dev", timeout_s=TIMEOUT_S)
    assert one.lacks(P1.id)
    one.answer("A", answer(1, seen(P1)), 0.0)
    assert not one.lacks(P1.id)
    one.change("B", change(1, nexus="n2", warm=False), 0.1)
    assert one.lacks(P1.id)
    assert one.shows(P1.id)


# --- other datacenters --------------------------------------------------------------------

WAN_TIMEOUT_S = 25.0
FAR = instance("processor-1", "far-a", dc="far")


def steady(one: MeshView, nexus: str, since: int, until: int, *, at: str = "A", first: int = 0) -> None:
    """Changes without news, each second, from a Nexus that is warm."""
    for number, now in enumerate(range(since, until + 1), start=first or since):
        one.change(at, change(number, nexus=nexus), float(now))
        one.tick(float(now))


def test_instances_elsewhere_are_kept_apart_from_those_here() -> None:
    one = view("processor-1")
    one.change("A", change(2, seen(replace(FAR, owns={1: 9})), seen(replace(P1, owns={1: 4}), 2)), 1.0)
    assert [each.id for each in one.live("processor")] == [P1.id]
    assert [each.id for each in one.live("processor", "far")] == ["far-a"]
    here, there = one.owner(1), one.owner(1, "far")
    assert here is not None and there is not None
    assert (here.epoch, there.epoch) == (4, 9)
    assert {number: owner.instance.id for number, owner in one.owners().items()} == {1: P1.id}
    assert one.owner(1, "farther") is None


def test_the_others_are_the_datacenters_of_which_somebody_lives() -> None:
    one = view("processor-1")
    assert one.others == set()
    one.change("A", change(2, seen(FAR), seen(instance("nexus-1", "x", role="nexus", dc="third"))), 1.0)
    assert one.others == {"far", "third"}
    one.change("A", change(3, seen(FAR, 2, alive=False)), 1.1)
    assert one.others == {"third"}


def test_the_version_rises_with_what_matters_elsewhere_too() -> None:
    one = view()
    rose = []
    for each in (
        change(2, seen(FAR)),
        change(3, seen(replace(FAR, load={"queue": 1.0}), 2)),
        change(4, seen(replace(FAR, owns={1: 1}), 3)),
        change(5, seen(replace(FAR, owns={1: 1}), 4, alive=False)),
        change(6, forgotten=(FAR.id,)),
    ):
        before = one.version
        one.change("A", each, 1.0)
        rose.append(one.version > before)
    assert rose == [True, False, True, True, False]


def test_a_restarted_nexus_that_has_not_heard_a_datacenter_yet_makes_nobody_there_disappear() -> None:
    one = view("processor-1")
    one.change("A", change(2, seen(FAR)), 1.0)
    one.change("A", change(1, nexus="again", warm=False), 2.0)
    one.answer("A", answer(1, nexus="again", warm=False), 2.0)
    steady(one, "again", 3, int(2 + WAN_TIMEOUT_S), first=2)
    assert [each.id for each in one.live("processor")] == [], "as it was: of its own datacenter it must know"
    assert [each.id for each in one.live("processor", "far")] == ["far-a"]


def test_what_it_has_not_heard_of_for_as_long_as_a_datacenter_may_be_silent_disappears() -> None:
    one = view()
    one.change("A", change(2, seen(FAR)), 1.0)
    one.change("A", change(1, nexus="again", warm=False), 2.0)
    one.answer("A", answer(1, nexus="again", warm=False), 2.0)
    version = one.version
    steady(one, "again", 3, int(2 + WAN_TIMEOUT_S) + 2, first=2)
    assert one.others == set()
    assert one.version > version


def test_a_nexus_that_never_heard_a_datacenter_does_not_undo_what_another_one_just_said_before_it_died() -> None:
    one = view()
    steady(one, "n1", 1, 60, first=2)
    one.change("B", change(1, seen(FAR), nexus="n2"), 60.0)
    one.answer("B", answer(1, seen(FAR), nexus="n2"), 60.0)
    steady(one, "n1", 61, 80, first=62)
    assert one.others == {"far"}
    steady(one, "n1", 81, 90, first=82)
    assert one.others == set()


def test_the_word_of_a_restarted_nexus_that_somebody_elsewhere_left_counts_at_once() -> None:
    one = view()
    one.change("A", change(2, seen(FAR)), 1.0)
    one.change("A", change(1, nexus="again", warm=False), 2.0)
    one.answer("A", answer(1, nexus="again", warm=False), 2.0)
    one.change("A", change(2, nexus="again", forgotten=(FAR.id,)), 2.1)
    assert one.others == set()


def test_with_every_nexus_silent_those_elsewhere_stay_too() -> None:
    one = view()
    one.change("A", change(2, seen(FAR)), 1.0)
    one.tick(1000.0)
    assert one.others == {"far"}
