"""Two Nexuses here and two elsewhere, and a view here, while processors come and go, Nexuses fail, and words
between the datacenters are lost: any order of events.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hitmesh.protocol.messages import Change, Instance, Lookup, Neighbours, Seen, decode, encode, make
from hitmesh.state.view import MeshView
from nexus.federation import Federation
from nexus.registry import Registry
from tests.examples import examples
from tests.hitmesh.mesh.instances import heartbeat, instance
from tests.nexus.words import PARTITIONS, at

DCS = ("here", "there")
NUMBERS = (1, 2)
NAMES = ("processor-1", "processor-2")
STEP_S = 0.2
HEARTBEAT_S, MISSED = 1.0, 3
WAN_S, WAN_MISSED = 5.0, 5
# Silence there, what a view here waits for when the Nexuses here restarted, and some steps.
REST_S = WAN_S * (WAN_MISSED + 1) + WAN_S * WAN_MISSED + 2.0

places = st.tuples(st.sampled_from(DCS), st.sampled_from(NUMBERS))
names = st.sampled_from(NAMES)


class Node:
    """One Nexus process."""

    def __init__(self, dc: str, number: int, start: int, now: float) -> None:
        self.dc, self.start = dc, start
        self.place = f"{dc}-{number}"
        id = f"{self.place}-{start}"
        self.instance: Instance = instance(
            f"nexus-{number}", id, role="nexus", dc=dc, started_ms=start,
            endpoints={"heartbeats": at(self.place)},
        )  # fmt: skip
        self.registry = Registry(
            id, dc=dc, interval_s=HEARTBEAT_S, missed=MISSED, wan_missed=WAN_MISSED, now=now
        )  # fmt: skip
        self.federation = Federation(
            dc,
            id,
            here=[at(f"{dc}-{each}") for each in NUMBERS],
            configured={other: [at(f"{other}-1")] for other in DCS if other != dc},
            partitions=PARTITIONS,
            interval_s=WAN_S,
            missed=WAN_MISSED,
        )


class TwoDatacenters(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.starts = 0
        self.nodes: dict[tuple[str, int], Node | None] = {}
        self.view = MeshView(
            [f"here-{number}" for number in NUMBERS], dc="here", timeout_s=HEARTBEAT_S * MISSED,
            wan_timeout_s=WAN_S * WAN_MISSED,
        )  # fmt: skip
        self.asked: set[str] = set()
        self.running: dict[tuple[str, str], Instance] = {}
        self.numbers: dict[str, int] = {}
        self.beat_at: dict[str, float] = {}
        self.cut = False
        self.shown_once: set[str] = set()
        for dc in DCS:
            for number in NUMBERS:
                self.start_nexus((dc, number))

    def _publish(self, node: Node, change: Change | None) -> None:
        if change is not None and node.dc == "here" and self.view.change(
            node.place, decode(encode(change), Change), self.now
        ):  # fmt: skip
            self.asked.add(node.place)

    def _snapshots(self) -> None:
        for node in self._up("here"):
            if node.place in self.asked:
                answer = node.registry.answer(make(Lookup, 1, "snapshot", ""), self.now)
                if not self.view.answer(node.place, answer, self.now):
                    self.asked.discard(node.place)

    def _up(self, dc: str = "") -> list[Node]:
        return [one for one in self.nodes.values() if one is not None and dc in {"", one.dc}]

    def _beat(self, one: Instance) -> None:
        self.numbers[one.id] = self.numbers.get(one.id, 0) + 1
        self.beat_at[one.id] = self.now
        for node in self._up(one.dc):
            self._publish(node, node.registry.heartbeat(heartbeat(one, self.numbers[one.id]), self.now))

    def _speak(self) -> None:
        for node in self._up():
            if not node.registry.warm(self.now):
                continue
            data = node.federation.speak(node.registry.neighbourhood(self.now), "-", self.now)
            if data is not None and not self.cut:
                for other in self._up():
                    if at(other.place) in node.federation.endpoints(self.now):
                        self._hear(other, decode(data, Neighbours))

    def _hear(self, node: Node, message: Neighbours) -> None:
        siblings = [one.instance.id for one in self._up(node.dc)]
        if node.federation.hear(message, self.now, siblings=siblings) is None:
            listed = node.federation.listed(message.dc)
            self._publish(node, node.registry.relay(message, listed, self.now))

    @rule(dc=st.sampled_from(DCS), name=names)
    def start(self, dc: str, name: str) -> None:
        self.starts += 1
        id = f"{dc}_{name}_{self.starts}"
        self.running[dc, name] = instance(name, id, dc=dc, started_ms=self.starts, owns={1: self.starts})
        self._beat(self.running[dc, name])

    @rule(dc=st.sampled_from(DCS), name=names)
    def kill(self, dc: str, name: str) -> None:
        self.running.pop((dc, name), None)

    @rule(dc=st.sampled_from(DCS), name=names)
    def leave(self, dc: str, name: str) -> None:
        gone = self.running.pop((dc, name), None)
        if gone is not None:
            for node in self._up(dc):
                self._publish(node, node.registry.leave(gone.id, self.now))

    @rule(place=places)
    def kill_nexus(self, place: tuple[str, int]) -> None:
        self.nodes[place] = None

    @rule(place=places)
    def start_nexus(self, place: tuple[str, int]) -> None:
        if self.nodes.get(place) is None:
            self.starts += 1
            self.nodes[place] = Node(*place, self.starts, self.now)
            for node in self._up():  # whose link to it opens now
                node.federation.greet()

    @rule()
    def cut_or_heal(self) -> None:
        self.cut = not self.cut
        if not self.cut:
            for node in self._up():
                node.federation.greet()

    @rule(steps=st.integers(1, 100))
    def let_time_pass(self, steps: int) -> None:
        for _ in range(steps):
            self.now = round(self.now + STEP_S, 6)
            for one in [*self.running.values(), *(node.instance for node in self._up())]:
                if self.now - self.beat_at.get(one.id, -HEARTBEAT_S) >= HEARTBEAT_S:
                    self._beat(one)
            for node in self._up():
                self._publish(node, node.registry.tick(self.now))
            self._speak()
            self.view.tick(self.now)
            self._snapshots()
            self.those_here_are_never_missing()

    @rule()
    def come_to_rest(self) -> None:
        for dc in DCS:
            for number in NUMBERS:
                self.start_nexus((dc, number))
        if self.cut:
            self.cut_or_heal()
        self.let_time_pass(int(REST_S / STEP_S))
        for dc in DCS:
            running = {one.id for (place, _), one in self.running.items() if place == dc}
            assert {one.id for one in self.view.live("processor", dc)} == running
            owner = self.view.owner(1, dc)
            epochs = [one.owns[1] for (place, _), one in self.running.items() if place == dc]
            assert (owner.epoch if owner else None) == max(epochs, default=None)
            for node in self._up():
                assert {seen.instance.id for seen in self._living(node, dc)} == running
        assert all(node.federation.unheard((), self.now) == 0 for node in self._up())

    def _living(self, node: Node, dc: str) -> list[Seen]:
        everybody = node.registry.answer(make(Lookup, 1, "snapshot", ""), self.now).seen
        return [
            seen for seen in everybody if seen.alive and (seen.instance.dc, seen.instance.role) == (dc, "processor")
        ]

    @rule(name=names)
    def a_clean_end_is_known_there_at_once(self, name: str) -> None:
        """With all Nexuses up and warm and the link whole: not after the silence of a dead one."""
        if self.cut or len(self._up()) < len(DCS) * len(NUMBERS) or ("there", name) not in self.running:
            return
        self.let_time_pass(30)  # every Nexus has spoken since it started
        self.leave("there", name)
        self.let_time_pass(3)
        assert name not in {one.name for one in self.view.live("processor", "there")}

    @rule(name=names)
    def a_new_owner_is_known_there_at_once(self, name: str) -> None:
        if self.cut or len(self._up()) < len(DCS) * len(NUMBERS):
            return
        self.let_time_pass(10)
        self.start("there", name)
        self.let_time_pass(3)
        assert self.running["there", name].id in {one.id for one in self.view.live("processor", "there")}

    @rule(dc=st.sampled_from(DCS), pause=st.integers(0, 5))
    def a_restart_of_all_nexuses_makes_nobody_disappear(self, dc: str, pause: int) -> None:
        if self.cut or len(self._up()) < len(DCS) * len(NUMBERS):
            return
        self.let_time_pass(30)
        shown = {one.id for one in self.view.live("processor", "there")}
        for number in NUMBERS:
            self.kill_nexus((dc, number))
        self.let_time_pass(pause)
        for number in NUMBERS:
            self.start_nexus((dc, number))
        for _ in range(40):
            self.let_time_pass(1)
            running = {one.id for (place, _), one in self.running.items() if place == "there"}
            assert shown & running <= {one.id for one in self.view.live("processor", "there")}

    @invariant()
    def those_here_are_never_missing(self) -> None:
        """As before there were other datacenters, whatever becomes of those."""
        shown = {one.id for one in self.view.live("processor")}
        self.shown_once |= shown
        assert not ({one.id for (dc, _), one in self.running.items() if dc == "here"} & self.shown_once) - shown

    @invariant()
    def nobody_is_shown_in_the_wrong_place(self) -> None:
        for dc in DCS:
            assert all(one.dc == dc for one in self.view.live("processor", dc))


TwoDatacenters.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=20, deadline=None)
TestTwoDatacenters = TwoDatacenters.TestCase
