"""Who should own what: by tables, with a clock of the test's own."""

from __future__ import annotations

from collections import Counter
from math import ceil

import pytest

from hitmesh.protocol.messages import Instance
from hitmesh.state.ownership import GOES, LEAST_AT_ONCE, Steps, Tenure, rendezvous
from hitmesh.state.standing import DRAINED
from hitmesh.state.view import MeshView
from tests.hitmesh.mesh.instances import answer, instance, seen, with_state

PARTITIONS = 32
NAMES = ["processor-1", "processor-2"]
SHARE = {name: [p for p in range(PARTITIONS) if rendezvous(p, NAMES) == name] for name in NAMES}
ALL = dict.fromkeys(range(PARTITIONS), 1)


class Mesh:
    """A view with one warm Nexus, and the tenure of processor-1."""

    def __init__(self) -> None:
        self.view = MeshView(["A"], dc="dev", timeout_s=3.0)
        self.tenure = Tenure(name="processor-1", id="processor-1-a", partitions=PARTITIONS, heartbeat_s=1.0)
        self.number = 0

    def steps(
        self,
        owned: dict[int, int],
        now: float,
        *everybody: Instance,
        draining: bool = False,
        drained: bool = False,
    ) -> Steps:
        self.number += 1
        self.view.answer("A", answer(self.number, *(seen(one, self.number) for one in everybody)), now)
        return self.tenure.steps(self.view, owned, now, draining=draining, drained=drained)


ME, OTHER = instance("processor-1"), instance("processor-2")


def test_the_rendezvous_choice_is_the_same_everywhere_and_forever() -> None:
    assert [rendezvous(p, ["processor-1", "processor-2", "processor-3"])[-1] for p in range(12)] == list("223122131133")


def test_the_order_of_the_names_does_not_matter() -> None:
    assert all(rendezvous(p, NAMES) == rendezvous(p, NAMES[::-1]) for p in range(200))


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_spread_is_even(count: int) -> None:
    names = [f"processor-{number}" for number in range(1, count + 1)]
    shares = Counter(rendezvous(p, names) for p in range(4096))
    assert set(shares) == set(names)
    assert all(abs(share - 4096 / count) < 0.15 * 4096 / count for share in shares.values())


def test_a_name_that_goes_moves_only_its_own_share() -> None:
    names = [f"processor-{number}" for number in range(1, 6)]
    for partition in range(500):
        before, after = rendezvous(partition, names), rendezvous(partition, names[:-1])
        assert before in {after, names[-1]}


def test_two_processors_both_get_a_share_of_the_default_partitions() -> None:
    assert min(len(share) for share in SHARE.values()) >= PARTITIONS // 4


def test_alone_it_takes_everything() -> None:
    assert Mesh().steps({}, 0.0, ME) == Steps(take=tuple(range(PARTITIONS)))


def test_with_another_it_takes_its_own_share() -> None:
    assert Mesh().steps({}, 0.0, ME, OTHER) == Steps(take=tuple(SHARE["processor-1"]))


def test_what_a_living_processor_claims_is_not_taken() -> None:
    claimed = instance("processor-2", owns=ALL)
    assert Mesh().steps({}, 0.0, ME, claimed) == Steps()


def test_what_a_draining_processor_still_claims_is_not_taken_but_all_else_is() -> None:
    other = with_state(instance("processor-2", owns={3: 1, 4: 1}), "draining")
    assert Mesh().steps({}, 0.0, ME, other).take == tuple(p for p in range(PARTITIONS) if p not in {3, 4})


def test_what_a_dead_processor_owned_is_taken_at_once() -> None:
    mesh = Mesh()
    mesh.steps({}, 0.0, ME, instance("processor-2", owns=ALL))
    assert mesh.steps({}, 1.0, ME).take == tuple(range(PARTITIONS))


def test_its_own_claim_that_the_view_still_shows_keeps_nothing_from_being_taken() -> None:
    mine = instance("processor-1", owns=ALL)
    assert Mesh().steps({}, 0.0, mine).take == tuple(range(PARTITIONS))


def test_an_owner_hands_over_once_the_choice_has_been_up_for_a_heartbeat() -> None:
    mesh = Mesh()
    mesh.steps(ALL, 0.0, ME)
    assert mesh.steps(ALL, 5.0, ME, OTHER) == Steps()
    assert mesh.steps(ALL, 5.9, ME, OTHER) == Steps()
    first = mesh.steps(ALL, 6.0, ME, OTHER)
    assert first.hand_over
    assert set(first.hand_over) < set(SHARE["processor-2"])


def at_once(count: int) -> int:
    return max(LEAST_AT_ONCE, -(-count // GOES))


def test_a_few_are_handed_over_at_a_time_and_the_next_when_these_have_their_new_owner() -> None:
    mesh, due = Mesh(), SHARE["processor-2"]
    mesh.steps(ALL, 0.0, ME, OTHER)
    owned, taken = dict(ALL), dict[int, int]()
    for go in range(GOES):
        now = 1.0 + go / 10
        other = instance("processor-2", owns=taken)
        gone = mesh.steps(owned, now, ME, other).hand_over
        assert gone == tuple(due[len(taken) :][: at_once(len(due))])
        # Nothing more goes while these have no owner, whether we still hold them or not.
        assert mesh.steps(owned, now, ME, other).hand_over == gone
        owned = {partition: epoch for partition, epoch in owned.items() if partition not in gone}
        assert mesh.steps(owned, now + 0.01, ME, other).hand_over == ()
        taken = {**taken, **dict.fromkeys(gone, 2)}
    assert sorted(taken) == due


def test_a_new_owner_that_takes_longer_than_a_heartbeat_does_not_hold_up_the_others() -> None:
    mesh, due = Mesh(), SHARE["processor-2"]
    mesh.steps(ALL, 0.0, ME, OTHER)
    first = mesh.steps(ALL, 1.0, ME, OTHER).hand_over
    owned = {partition: epoch for partition, epoch in ALL.items() if partition not in first}
    assert mesh.steps(owned, 1.9, ME, OTHER).hand_over == ()
    assert mesh.steps(owned, 2.0, ME, OTHER).hand_over == tuple(due[len(first) :][: len(first)])


def test_one_that_takes_part_of_them_lets_as_many_follow() -> None:
    mesh, due = Mesh(), SHARE["processor-2"]
    mesh.steps(ALL, 0.0, ME, OTHER)
    first = mesh.steps(ALL, 1.0, ME, OTHER).hand_over
    owned = {partition: epoch for partition, epoch in ALL.items() if partition not in first}
    other = instance("processor-2", owns={first[0]: 2})
    assert mesh.steps(owned, 1.1, ME, other).hand_over == (due[len(first)],)


@pytest.mark.parametrize("count", [1, 2, 3, 12, 100, 4096])
def test_however_many_there_are_they_go_in_six_goes_at_most(count: int) -> None:
    mesh = Mesh()
    owned, taken = dict.fromkeys(range(count), 1), dict[int, int]()
    goes = 0
    while owned:
        other = instance("processor-2", owns=taken)
        gone = mesh.steps(owned, goes / 10, with_state(ME, "draining"), other, draining=True).hand_over
        assert gone
        owned = {partition: epoch for partition, epoch in owned.items() if partition not in gone}
        taken = {**taken, **dict.fromkeys(gone, 2)}
        goes += 1
    assert goes <= GOES


def test_a_choice_that_went_and_came_back_counts_anew() -> None:
    mesh = Mesh()
    mesh.steps(ALL, 0.0, ME, OTHER)
    mesh.steps(ALL, 0.9, ME)
    assert mesh.steps(ALL, 1.1, ME, OTHER) == Steps()


def test_a_choice_that_restarted_counts_anew() -> None:
    mesh = Mesh()
    mesh.steps(ALL, 0.0, ME, OTHER)
    assert mesh.steps(ALL, 1.1, ME, instance("processor-2", "b", started_ms=5000)) == Steps()


def test_nothing_is_handed_to_a_draining_processor() -> None:
    mesh = Mesh()
    other = with_state(OTHER, "draining")
    mesh.steps(ALL, 0.0, ME, other)
    assert mesh.steps(ALL, 9.0, ME, other) == Steps()


def test_an_owner_in_office_stays_when_nobody_better_lives() -> None:
    mesh = Mesh()
    assert mesh.steps(ALL, 0.0, ME) == Steps()
    assert mesh.steps(ALL, 9.0, ME) == Steps()


def test_a_refused_partition_is_left_alone_for_a_heartbeat() -> None:
    mesh = Mesh()
    mesh.tenure.refused(4, 0.0)
    assert 4 not in mesh.steps({}, 0.9, ME).take
    assert 4 in mesh.steps({}, 1.0, ME).take


def test_nothing_is_taken_or_handed_over_before_the_mesh_is_known() -> None:
    tenure = Tenure(name="processor-1", id="processor-1-a", partitions=PARTITIONS, heartbeat_s=1.0)
    view = MeshView(["A"], dc="dev", timeout_s=3.0)
    view.answer("A", answer(1, seen(ME), seen(OTHER), warm=False), 0.0)
    assert tenure.steps(view, {}, 0.0) == Steps()
    assert tenure.steps(view, ALL, 2.0) == Steps()


def test_with_every_nexus_silent_it_keeps_what_it_owns_and_takes_nothing() -> None:
    mesh = Mesh()
    owned = dict.fromkeys(SHARE["processor-2"], 1)
    mesh.steps(owned, 0.0, ME, OTHER)
    mesh.view.tick(3.1)
    assert mesh.tenure.steps(mesh.view, owned, 3.1) == Steps()


def test_a_processor_that_the_mesh_does_not_show_takes_nothing_and_keeps_its_own() -> None:
    mesh = Mesh()
    assert mesh.steps({}, 0.0, OTHER) == Steps()
    assert mesh.steps(dict.fromkeys(SHARE["processor-1"], 1), 2.0, OTHER) == Steps()


def test_a_draining_processor_hands_everything_over_and_takes_nothing() -> None:
    me = with_state(ME, "draining")
    assert Mesh().steps({1: 1, 2: 1}, 0.0, me, OTHER, draining=True) == Steps(hand_over=(1, 2))


def test_a_draining_processor_hands_over_all_at_once_where_nobody_takes_it() -> None:
    for others in ([], [with_state(OTHER, "draining")]):
        assert Mesh().steps(ALL, 0.0, with_state(ME, "draining"), *others, draining=True) == Steps(hand_over=tuple(ALL))


def test_a_draining_processor_hands_over_even_when_no_nexus_is_heard() -> None:
    tenure = Tenure(name="processor-1", id="processor-1-a", partitions=PARTITIONS, heartbeat_s=1.0)
    assert tenure.steps(MeshView(["A"], dc="dev", timeout_s=3.0), {1: 1}, 0.0, draining=True) == Steps(hand_over=(1,))


def test_an_owner_that_is_said_to_be_replaced_reads_the_head_and_gives_nothing_up() -> None:
    mine = SHARE["processor-1"][0]
    claimed = Mesh().steps({mine: 3}, 0.0, ME, instance("processor-2", owns={mine: 4}))
    assert (claimed.hand_over, claimed.check) == ((), (mine,))
    earlier = Mesh().steps({mine: 5}, 0.0, ME, instance("processor-2", owns={mine: 4}))
    assert (earlier.hand_over, earlier.check) == ((), ())


def test_somebody_who_claims_everything_takes_nothing_away() -> None:
    mesh, mine = Mesh(), dict.fromkeys(SHARE["processor-1"], 7)
    thief = instance("processor-2", owns=dict.fromkeys(range(PARTITIONS), 2**63 - 1))
    for now in range(60):
        steps = mesh.steps(mine, float(now), ME, thief)
        assert steps.hand_over == ()
        for partition in steps.check:
            mesh.tenure.checked(partition, thief.id, 2**63 - 1, float(now), is_true=False)
            mesh.view.refute(partition, thief.id, 2**63 - 1)


def test_what_a_thief_claims_and_nobody_owns_is_taken_by_the_next_one() -> None:
    mesh = Mesh()
    thief = instance("processor-2", owns=dict.fromkeys(range(PARTITIONS), 2**63 - 1))
    owned: dict[int, int] = {}
    for now in range(60):
        steps = mesh.steps(owned, float(now), ME, thief)
        owned |= dict.fromkeys(steps.take, 8)
        for partition in steps.check:
            mesh.tenure.checked(partition, thief.id, 2**63 - 1, float(now), is_true=False)
            mesh.view.refute(partition, thief.id, 2**63 - 1)
    assert len(owned) == PARTITIONS


def test_a_claim_is_checked_once_and_again_only_while_the_head_cannot_be_read() -> None:
    mesh, mine = Mesh(), SHARE["processor-1"][0]
    other = instance("processor-2", owns={mine: 4})
    assert [mesh.steps({mine: 3}, now, ME, other).check for now in (0.0, 0.5, 1.0)] == [(mine,), (), (mine,)]
    mesh.tenure.checked(mine, other.id, 4, 1.0, is_true=True)
    assert mesh.steps({mine: 3}, 5.0, ME, other).check == ()


def test_a_choice_that_takes_nothing_is_passed_over_for_a_while() -> None:
    mesh = Mesh()
    ghost = instance("processor-2")
    owned: dict[int, int] = {}
    for now in range(20):
        owned |= dict.fromkeys(mesh.steps(owned, float(now), ME, ghost).take, 1)
    assert len(owned) == PARTITIONS


def test_a_choice_that_takes_nothing_is_handed_little() -> None:
    mesh, ghost = Mesh(), instance("processor-2")
    owned = dict(ALL)
    for now in range(20):
        for partition in mesh.steps(owned, now / 2, ME, ghost).hand_over:
            owned.pop(partition, None)
    assert len(owned) >= PARTITIONS - 3 * max(LEAST_AT_ONCE, ceil(len(SHARE["processor-2"]) / GOES))


def test_one_that_was_passed_over_is_a_choice_again_once_it_owns_something() -> None:
    mesh = Mesh()
    for now in range(20):
        mesh.steps({}, float(now), ME, instance("processor-2"))
    theirs = SHARE["processor-2"]
    owned = dict.fromkeys(theirs[1:], 1)
    mesh.steps(owned, 20.0, ME, instance("processor-2", owns={theirs[0]: 1}))
    assert mesh.steps(owned, 20.5, ME, instance("processor-2", owns={theirs[0]: 1})).hand_over != ()


def test_a_choice_that_restores_its_partitions_is_waited_for() -> None:
    mesh = Mesh()
    busy = instance("processor-2", load={"restoring": 3.0})
    taken = {partition for now in range(20) for partition in mesh.steps({}, float(now), ME, busy).take}
    assert taken == set(SHARE["processor-1"])


def test_two_processors_that_follow_the_rules_end_with_every_partition_owned_once() -> None:
    meshes = {name: Mesh() for name in NAMES}
    meshes["processor-2"].tenure = Tenure(
        name="processor-2", id="processor-2-a", partitions=PARTITIONS, heartbeat_s=1.0
    )
    owned: dict[str, dict[int, int]] = {"processor-1": dict(ALL), "processor-2": {}}
    for tick in range(30):
        for name in NAMES:
            everybody = [instance(one, owns=owned[one]) for one in NAMES]
            steps = meshes[name].steps(owned[name], tick * 0.1, *everybody)
            for partition in steps.hand_over:
                del owned[name][partition]
            owned[name].update(dict.fromkeys(steps.take, tick + 2))
    assert {name: sorted(held) for name, held in owned.items()} == SHARE


# --- drained by an operator ---------------------------------------------------------------------


def test_one_that_is_drained_gives_all_away_and_takes_nothing() -> None:
    mesh, me = Mesh(), with_state(ME, DRAINED)
    owned = dict.fromkeys(SHARE["processor-1"], 1)
    given: set[int] = set()
    for beat in range(2 * PARTITIONS):
        steps = mesh.steps(owned, 1.1 * beat, me, OTHER, drained=True)
        assert steps.take == ()
        given |= set(steps.hand_over)
        owned = {partition: epoch for partition, epoch in owned.items() if partition not in steps.hand_over}
    assert given == set(SHARE["processor-1"])


def test_one_that_is_drained_keeps_what_it_has_while_nobody_can_take_it() -> None:
    assert Mesh().steps(ALL, 0.0, with_state(ME, DRAINED), drained=True) == Steps()
    assert Mesh().steps({}, 0.0, with_state(ME, DRAINED), drained=True) == Steps()
    both = with_state(ME, DRAINED), with_state(OTHER, DRAINED)
    assert Mesh().steps(ALL, 0.0, *both, drained=True) == Steps()


def test_nobody_chooses_one_that_is_drained() -> None:
    assert Mesh().steps({}, 0.0, ME, with_state(OTHER, DRAINED)).take == tuple(range(PARTITIONS))
