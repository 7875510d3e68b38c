"""What a registry makes of other Nexuses' words about other datacenters: by tables, with a clock of the test's own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

import nexus.records as records_module
from hitmesh.errors import MeshError
from hitmesh.protocol.messages import MAX_FRAME_BYTES, Change, Instance, Lookup, Neighbours, Seen, encode, make
from nexus.federation import Federation
from nexus.registry import Registry
from tests.hitmesh.mesh.instances import heartbeat, instance, seen, with_state
from tests.nexus.words import PARTITIONS, nexus, word

FAR = instance("processor-1", "far-p", dc="far")
N1, N2 = nexus("far"), nexus("far", 2)


class Listener:
    """A registry, and the federation that goes with it, as a Nexus has them."""

    def __init__(self) -> None:
        self.registry = Registry("n1", dc="dev", interval_s=1.0, missed=3, wan_missed=5, now=0.0)
        self.federation = Federation(
            "dev", "n1", here=[], configured={}, partitions=PARTITIONS, interval_s=5.0, missed=5
        )  # fmt: skip
        self.numbers: dict[str, int] = {}

    def hear(self, speaker: Instance, *told: Seen, now: float) -> Change | None:
        self.numbers[speaker.id] = self.numbers.get(speaker.id, 0) + 1
        return self.relay(word(speaker, self.numbers[speaker.id], *told), now)

    def relay(self, message: Neighbours, now: float) -> Change | None:
        if self.federation.hear(message, now) is not None:
            return None
        return self.registry.relay(message, self.federation.listed(message.dc), now)

    def wait(self, since: float, until: float) -> list[Change]:
        """Let time pass in the steps of a server."""
        steps = range(round((until - since) / 0.2) + 1)
        changes = [self.registry.tick(round(since + step * 0.2, 6)) for step in steps]
        return [change for change in changes if change is not None]

    def shown(self, dc: str = "far", role: str = "processor") -> dict[str, bool]:
        everybody = self.registry.answer(make(Lookup, 1, "snapshot", ""), 0.0).seen
        return {
            one.instance.id: one.alive for one in everybody if (one.instance.dc, one.instance.role) == (dc, role)
        }  # fmt: skip


def told(change: Change | None) -> list[tuple[str, bool]]:
    assert change is not None
    return [(one.instance.id, one.alive) for one in change.seen]


def test_an_instance_elsewhere_is_told_at_once() -> None:
    assert told(Listener().hear(N1, seen(FAR), now=1.0)) == [(N1.id, True), ("far-p", True)]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(with_state(FAR, "draining"), id="state"),
        pytest.param(replace(FAR, owns={3: 1}), id="owns"),
        pytest.param(replace(FAR, endpoints={"rows": "tcp://127.0.0.1:1"}), id="endpoints"),
    ],
)
def test_a_change_elsewhere_is_told_at_once(changed: Instance) -> None:
    one = Listener()
    one.hear(N1, seen(FAR), now=1.0)
    assert told(one.hear(N1, seen(changed, 2), now=1.1)) == [("far-p", True)]


def test_a_load_elsewhere_goes_out_with_the_next_own_change() -> None:
    one = Listener()
    one.hear(N1, seen(FAR), now=1.0)
    one.wait(1.0, 2.0)
    assert one.hear(N1, seen(replace(FAR, load={"queue": 5.0}), 2), now=2.1) is None
    changes = one.wait(2.1, 4.2)
    assert [[each.instance.load for each in change.seen] for change in changes] == [[{"queue": 5.0}], []]


def test_it_is_dead_after_the_intervals_of_the_wan_and_an_own_one_as_before() -> None:
    one = Listener()
    one.registry.heartbeat(heartbeat(instance("processor-1", "own"), 1), 1.0)
    one.hear(N1, seen(FAR), now=1.0)
    one.wait(1.0, 4.0)
    assert one.shown("dev") == {"own": True}
    one.wait(4.0, 4.2)
    assert one.shown("dev") == {"own": False}
    one.wait(4.2, 26.0)
    assert one.shown() == {"far-p": True}
    deaths = [pair for change in one.wait(26.0, 26.2) for pair in told(change) if pair[0] == "far-p"]
    assert deaths == [("far-p", False)]


def test_it_lives_as_long_as_somebody_says_so_even_with_no_new_heartbeat() -> None:
    one = Listener()
    for step in range(20):
        one.hear(N1, seen(FAR, 7), now=1.0 + 5 * step)
        one.wait(1.0 + 5 * step, 6.0 + 5 * step)
    assert one.shown() == {"far-p": True}


def test_a_death_elsewhere_is_told_at_once() -> None:
    one = Listener()
    one.hear(N1, seen(FAR, 7), now=1.0)
    assert told(one.hear(N1, seen(FAR, 7, alive=False), now=1.5)) == [("far-p", False)]
    assert one.shown() == {"far-p": False}


def test_a_nexus_that_has_heard_less_can_not_speak_against_an_instance() -> None:
    one = Listener()
    one.hear(N1, seen(N2), seen(FAR, 7), now=1.0)
    one.hear(N2, seen(N1), seen(FAR, 6, alive=False), now=1.1)
    assert one.shown() == {"far-p": True}


def test_a_nexus_that_has_not_noticed_a_death_yet_does_not_undo_it() -> None:
    one = Listener()
    one.hear(N1, seen(N2), seen(FAR, 6), now=1.0)
    one.hear(N1, seen(N2), seen(FAR, 7, alive=False), now=1.1)
    assert one.hear(N2, seen(N1), seen(FAR, 7), now=1.2) is None
    assert one.shown() == {"far-p": False}


def test_a_newer_heartbeat_makes_it_alive_again_at_once() -> None:
    one = Listener()
    one.hear(N1, seen(FAR, 7), now=1.0)
    one.hear(N1, seen(FAR, 7, alive=False), now=1.1)
    assert told(one.hear(N1, seen(FAR, 8), now=1.2)) == [("far-p", True)]


def test_older_words_change_nothing() -> None:
    one = Listener()
    one.hear(N1, seen(replace(FAR, owns={1: 2}), 7), now=1.0)
    assert told(one.hear(N2, seen(N1), seen(FAR, 6), now=1.1)) == [(N2.id, True)]
    everybody = one.registry.answer(make(Lookup, 1, "snapshot", ""), 1.1).seen
    assert [each.instance.owns for each in everybody if each.instance.id == "far-p"] == [{1: 2}]


def test_a_dead_stranger_is_not_taken_in() -> None:
    one = Listener()
    one.hear(N1, seen(FAR, 7, alive=False), now=1.0)
    assert one.shown() == {}


def test_one_that_left_is_forgotten_when_none_of_its_nexuses_speaks_of_it() -> None:
    one = Listener()
    one.hear(N1, seen(N2), seen(FAR), now=1.0)
    one.hear(N2, seen(N1), seen(FAR), now=1.1)
    one.hear(N1, seen(N2), now=1.2)
    assert one.shown() == {"far-p": True}
    change = one.hear(N2, seen(N1), now=1.3)
    assert change is not None
    assert change.forgotten == ("far-p",)


def test_a_restart_elsewhere_replaces_at_once() -> None:
    one = Listener()
    one.hear(N1, seen(FAR), now=1.0)
    change = one.hear(N1, seen(replace(FAR, id="far-q", started_ms=2000)), now=1.1)
    assert change is not None
    assert (told(change), change.forgotten) == ([("far-q", True)], ("far-p",))


def test_nobody_speaks_for_a_third_datacenter_nor_for_this_one() -> None:
    one = Listener()
    one.registry.heartbeat(heartbeat(instance("processor-1", "own"), 5), 1.0)
    third = instance("processor-1", "third-p", dc="third")
    one.hear(N1, seen(third), seen(instance("processor-1", "own"), 9, alive=False), now=1.1)
    assert (one.shown("third"), one.shown("dev")) == ({}, {"own": True})


def test_a_relayed_word_under_a_local_id_touches_nothing() -> None:
    one = Listener()
    one.registry.heartbeat(heartbeat(instance("processor-1", "same"), 5), 1.0)
    for alive in (True, False):
        one.hear(N1, seen(replace(FAR, id="same"), 9, alive=alive), now=1.1)
    one.hear(N1, now=1.2)
    assert (one.shown("dev"), one.shown("far")) == ({"same": True}, {})


def test_what_is_said_of_our_own_name_is_not_taken_in() -> None:
    one = Listener()
    one.registry.heartbeat(heartbeat(instance("processor-1", "own"), 5), 1.0)
    stranger = nexus("dev", process="stranger")
    message = word(stranger, 1, seen(instance("processor-1", "own"), 9, alive=False))
    assert one.registry.relay(message, frozenset(), 1.1) is None
    assert one.shown("dev") == {"own": True}


def test_heartbeats_and_last_words_touch_only_the_own_datacenter() -> None:
    one = Listener()
    one.hear(N1, seen(FAR), now=1.0)
    assert one.registry.heartbeat(heartbeat(with_state(FAR, "draining"), 99), 1.1) is None
    assert one.registry.refused == 1
    assert one.registry.leave("far-p", 1.1) is None
    assert one.shown() == {"far-p": True}


def test_lookups_and_forget_mean_the_own_datacenter() -> None:
    one = Listener()
    one.hear(N1, seen(replace(FAR, owns={3: 9})), now=1.0)
    assert one.registry.answer(make(Lookup, 1, "service", "processor"), 1.0).seen == ()
    assert one.registry.answer(make(Lookup, 1, "owner", "3"), 1.0).seen == ()
    one.hear(N1, seen(FAR, 9, alive=False), now=1.1)
    with pytest.raises(MeshError, match="no instance"):
        one.registry.forget("processor-1", 1.2)


def test_others_are_told_of_the_own_nexuses_processors_and_dashboards_only() -> None:
    one = Listener()
    one.hear(N1, seen(FAR), now=1.0)
    for role in ("processor", "collector", "nexus", "balancer", "dashboard"):
        one.registry.heartbeat(heartbeat(instance(f"{role}-1", role=role), 1), 1.0)
    assert [each.instance.role for each in one.registry.neighbourhood(1.0)] == ["nexus", "processor", "dashboard"]


def test_those_elsewhere_never_crowd_out_an_own_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_KNOWN", 3)
    one = Listener()
    one.hear(N1, seen(FAR), seen(instance("processor-2", "far-q", dc="far")), now=1.0)
    for number in (1, 2, 3):
        one.registry.heartbeat(heartbeat(instance(f"processor-{number}", f"own-{number}"), 1), 1.1)
    one.hear(N1, seen(FAR), now=1.2)
    assert (one.shown("dev"), one.shown()) == ({"own-1": True, "own-2": True, "own-3": True}, {})


def test_a_snapshot_with_all_of_a_huge_mesh_fits_into_a_frame() -> None:
    one = Listener()
    for number in range(40):
        crowd = [
            seen(instance(f"processor-{index}", f"{number}-{index}", dc=f"far-{number}", owns=dict.fromkeys(range(400), 2**40)))
            for index in range(100)
        ]  # fmt: skip
        one.relay(word(nexus(f"far-{number}"), 1, *crowd), 1.0)
    assert one.registry.refused > 0
    assert len(encode(one.registry.answer(make(Lookup, 1, "snapshot", ""), 1.0))) <= MAX_FRAME_BYTES


def test_a_nexus_that_was_stopped_starts_over_with_those_elsewhere_too() -> None:
    one = Listener()
    one.hear(N1, seen(FAR), now=1.0)
    one.wait(1.0, 2.0)
    one.registry.tick(60.0)
    assert one.shown() == {}
    assert one.hear(N1, seen(FAR, 2), now=60.1) is None, "it was queued while this one was stopped"
    one.wait(60.2, 60.6)
    assert told(one.hear(N1, seen(FAR, 60), now=60.7)) == [(N1.id, True), ("far-p", True)]
