"""How old the copies of other datacenters' rows are, from what processors and heads say; a clock of the test's own."""

from __future__ import annotations

import pytest

from hitmesh.protocol.messages import Instance, Seen
from hitmesh.state.ages import Ages
from hitmesh.state.view import MeshView
from tests.hitmesh.mesh.instances import answer, change

TIMEOUT_S = 3.0


def processor(load: dict[str, float], owns: dict[int, int] | None = None, name: str = "processor-1") -> Instance:
    """One with the load of one heartbeat, the owner of partition 0 unless told otherwise."""
    load = {"hits": 5.0, **load}
    return Instance("dev", "processor", name, f"{name}-id", "up", 1, 1, {}, load, {0: 1} if owns is None else owns)


class Mesh:
    """A Nexus that tells of heartbeats, and the view and the ages of who listens."""

    def __init__(self) -> None:
        self.view = MeshView(["A"], dc="dev", timeout_s=TIMEOUT_S)
        self.view.change("A", change(1), 0.0)
        self.view.answer("A", answer(1), 0.0)
        self.ages = Ages()
        self.number = 1

    def tell(self, now: float, *beats: tuple[Instance, int], heard_ago_s: float = 0.0, alive: bool = True) -> None:
        """The Nexus tells of these heartbeats, by their numbers."""
        self.number += 1
        seen = tuple(Seen(one, number, int(heard_ago_s * 1000), alive) for one, number in beats)
        self.view.change("A", change(self.number, *seen), now)
        self.ages.look(self.view)

    def age(self, dc: str, now: float, partition: int = 0) -> float | None:
        as_of = self.ages.of(partition).get(dc)
        return None if as_of is None else now - as_of


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_an_age_is_what_the_partition_s_owner_says_and_grows_by_itself(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.25}), 1))
    assert mesh.age("us", 10.0) == 0.25
    assert mesh.age("us", 13.5) == 3.75


def test_a_heartbeat_that_a_nexus_tells_late_has_grown_old_meanwhile(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.25}), 1), heard_ago_s=0.75)
    assert mesh.age("us", 10.0) == 1.0


def test_the_next_heartbeat_makes_it_young_again(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.25}), 1))
    mesh.tell(11.0, (processor({"age_s.us": 0.5}), 2))
    assert mesh.age("us", 11.0) == 0.5


def test_a_heartbeat_that_says_it_is_older_is_believed_too(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.25}), 1))
    mesh.tell(11.0, (processor({"age_s.us": 30.0}), 2))
    assert mesh.age("us", 11.0) == 30.0


def test_each_partition_has_the_age_of_its_own_owner(mesh: Mesh) -> None:
    old = processor({"age_s.us": 60.0}, {1: 1}, "processor-2")
    mesh.tell(10.0, (processor({"age_s.us": 0.5}), 1), (old, 1))
    assert (mesh.age("us", 10.0, 0), mesh.age("us", 10.0, 1), mesh.age("us", 10.0, 2)) == (0.5, 60.0, None)


def test_what_somebody_says_who_doesn_t_own_the_partition_is_nothing(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 60.0}), 1))
    mesh.tell(10.5, (processor({"age_s.us": 0.1}, {1: 1}, "processor-2"), 1))
    assert mesh.age("us", 10.5) == 60.5


def test_the_age_goes_on_growing_while_the_nexus_is_silent(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.5}), 1))
    mesh.view.tick(60.0)
    mesh.ages.look(mesh.view)
    assert mesh.age("us", 60.0) == 50.5


def test_the_age_goes_on_growing_while_the_owner_is_away(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.5}), 1))
    mesh.tell(20.0, (processor({"age_s.us": 0.5}), 1), alive=False)
    assert mesh.view.owner(0) is None
    assert mesh.age("us", 20.0) == 10.5


def test_a_new_owner_that_knows_nothing_yet_makes_nothing_younger(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 30.0}), 1))
    mesh.tell(11.0, (processor({}, {0: 2}, "processor-2"), 1))
    assert mesh.age("us", 11.0) == 31.0
    mesh.tell(12.0, (processor({"age_s.us": 3.0}, {0: 2}, "processor-2"), 2))
    assert mesh.age("us", 12.0) == 3.0


def test_a_datacenter_that_the_owner_stops_to_speak_of_grows_old(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.5, "age_s.ap": 0.5}), 1))
    mesh.tell(15.0, (processor({"age_s.ap": 0.5}), 2))
    assert (mesh.age("us", 15.0), mesh.age("ap", 15.0)) == (5.5, 0.5)


def test_the_same_heartbeat_told_twice_is_as_old_as_the_first_telling(mesh: Mesh) -> None:
    one = processor({"age_s.us": 0.5})
    mesh.tell(10.0, (one, 1))
    mesh.tell(14.0, (processor({"age_s.us": 0.5}), 1))
    assert mesh.age("us", 14.0) == 4.5


def test_a_negative_age_is_no_time_to_come(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": -5.0}), 1))
    assert mesh.age("us", 10.0) == 0.0


def test_a_head_says_what_no_processor_does(mesh: Mesh) -> None:
    mesh.ages.read(0, {"us": 4.0, "ap": 5.0})
    assert mesh.age("us", 10.0) == 6.0
    mesh.tell(10.0, (processor({"age_s.us": 0.5}), 1))
    mesh.ages.read(0, {"us": 4.0, "ap": 6.0})
    assert (mesh.age("us", 10.0), mesh.age("ap", 10.0)) == (0.5, 4.0)
    mesh.ages.read(0, {})
    assert mesh.age("ap", 10.0) == 4.0


def test_who_was_ever_spoken_of_is_known(mesh: Mesh) -> None:
    assert mesh.ages.others == frozenset()
    mesh.ages.read(3, {"ap": 5.0})
    mesh.tell(10.0, (processor({"age_s.us": 0.5}), 1))
    mesh.tell(11.0, (processor({}), 2))
    assert mesh.ages.others == {"us", "ap"}


def test_what_was_given_out_doesn_t_change(mesh: Mesh) -> None:
    mesh.tell(10.0, (processor({"age_s.us": 0.5}), 1))
    before, everything = mesh.ages.of(0), mesh.ages.all()
    mesh.tell(11.0, (processor({"age_s.us": 0.5, "age_s.ap": 0.5}), 2))
    assert dict(before) == dict(everything[0]) == {"us": 9.5}
    assert dict(mesh.ages.of(0)) == {"ap": 10.5, "us": 10.5}
