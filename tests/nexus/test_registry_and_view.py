"""Two registries and a view, together, while instances come and go and Nexuses fail: any order of events.

The wire between them is lossy where the real one is: any Change may be lost on its way.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hitmesh.protocol.messages import Change, Heartbeat, Lookup, decode, encode, make
from hitmesh.state.view import MeshView
from nexus.registry import Registry
from tests.examples import examples
from tests.hitmesh.mesh.instances import heartbeat, instance

NEXUSES = ("A", "B")
NAMES = ("processor-1", "processor-2", "processor-3")
STEP_S = 0.2  # of a heartbeat interval of 1 s
BURIED_AFTER_S = 4.4  # three missed heartbeats, one interval of grace, and steps

nexuses = st.sampled_from(NEXUSES)
names = st.sampled_from(NAMES)


class LossyMesh(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.starts = 0
        self.view = MeshView(NEXUSES, dc="dev", timeout_s=3.0)
        self.registries: dict[str, Registry | None] = {}
        self.asked: set[str] = set(NEXUSES)
        self.running: dict[str, str] = {}  # name -> id
        self.numbers: dict[str, int] = {}
        self.started: dict[str, int] = {}
        self.ended: dict[str, float] = {}  # id -> when it was killed
        self.beat_at: dict[str, float] = {}
        self.paused: dict[str, list[bytes]] = {}  # nexus -> what its sockets hold meanwhile
        self.seen_once: set[str] = set()
        for nexus in NEXUSES:
            self._start(nexus)

    def _start(self, nexus: str) -> None:
        self.starts += 1
        self.registries[nexus] = Registry(
            f"{nexus}-{self.starts}", dc="dev", interval_s=1.0, missed=3, wan_missed=5, now=self.now
        )

    def _publish(self, nexus: str, change: Change | None, *, lost: bool = False) -> None:
        if change is None or lost:
            return
        if self.view.change(nexus, decode(encode(change), Change), self.now):
            self.asked.add(nexus)

    def _snapshots(self) -> None:
        for nexus in sorted(self.asked):
            registry = self.registries[nexus]
            if registry is not None and nexus not in self.paused:
                answer = registry.answer(make(Lookup, 1, "snapshot", ""), self.now)
                if not self.view.answer(nexus, answer, self.now):
                    self.asked.discard(nexus)

    def _beat(self, id: str, *, lost: bool = False) -> None:
        self.numbers[id] = self.numbers.get(id, 0) + 1
        self.beat_at[id] = self.now
        name = id.split("_", maxsplit=1)[0]
        one = instance(name, id, started_ms=self.started[id], owns={1: self.started[id]})
        message = heartbeat(one, self.numbers[id])
        for nexus, registry in self.registries.items():
            if nexus in self.paused:
                self.paused[nexus].append(encode(message))
            elif registry is not None:
                self._publish(nexus, registry.heartbeat(message, self.now), lost=lost)

    @rule(name=names)
    def start(self, name: str) -> None:
        if name in self.running:
            self.ended[self.running[name]] = self.now
        self.starts += 1
        self.running[name] = f"{name}_{self.starts}"
        self.started[self.running[name]] = self.starts
        self._beat(self.running[name])

    @rule(name=names)
    def kill(self, name: str) -> None:
        if name in self.running:
            self.ended[self.running.pop(name)] = self.now

    @rule(name=names)
    def leave(self, name: str) -> None:
        if name in self.running:
            gone = self.running.pop(name)
            self.ended[gone] = self.now
            for nexus, registry in self.registries.items():
                if registry is not None and nexus not in self.paused:
                    self._publish(nexus, registry.leave(gone, self.now))

    @rule(nexus=nexuses)
    def kill_nexus(self, nexus: str) -> None:
        self.registries[nexus] = None
        self.paused.pop(nexus, None)

    @rule(nexus=nexuses)
    def stop_nexus(self, nexus: str) -> None:
        if self.registries[nexus] is not None:
            self.paused.setdefault(nexus, [])

    @rule(nexus=nexuses, before=st.integers(0, 20))
    def continue_nexus(self, nexus: str, before: int) -> None:
        """It finds heartbeats in its sockets: some it reads before its clock's turn, some after."""
        registry = self.registries[nexus]
        held = self.paused.pop(nexus, [])
        if registry is not None:
            for data in held[:before]:
                self._publish(nexus, registry.heartbeat(decode(data, Heartbeat), self.now))
            self._publish(nexus, registry.tick(self.now))
            for data in held[before:]:
                self._publish(nexus, registry.heartbeat(decode(data, Heartbeat), self.now))

    @rule(nexus=nexuses)
    def start_nexus(self, nexus: str) -> None:
        if self.registries[nexus] is None:
            self._start(nexus)

    @rule(steps=st.integers(1, 30), lose=st.sets(st.integers(0, 30)), snapshots=st.booleans())
    def let_time_pass(self, steps: int, lose: set[int], snapshots: bool) -> None:
        for step in range(steps):
            self.now = round(self.now + STEP_S, 6)
            for id in self.running.values():
                if self.now - self.beat_at[id] >= 1.0:
                    self._beat(id, lost=step in lose)
            for nexus, registry in self.registries.items():
                if registry is not None and nexus not in self.paused:
                    self._publish(nexus, registry.tick(self.now), lost=step in lose)
            self.view.tick(self.now)
            if snapshots or step not in lose:
                self._snapshots()
            self.nobody_alive_is_missing()

    @rule()
    def come_to_rest(self) -> None:
        for nexus in NEXUSES:
            self.start_nexus(nexus)
            self.continue_nexus(nexus, 0)
        self.let_time_pass(int((BURIED_AFTER_S + 1) / STEP_S), set(), snapshots=True)
        assert self.view.connected
        assert self.view.known
        assert {one.id for one in self.view.live("processor")} == set(self.running.values())
        epochs = [self.started[id] for id in self.running.values()]
        owner = self.view.owner(1)
        assert (owner.epoch if owner else None) == max(epochs, default=None)

    @invariant()
    def nobody_alive_is_missing(self) -> None:
        # Once shown, an instance that lives never disappears, whatever becomes of the Nexuses.
        shown = {one.id for one in self.view.live("processor")}
        self.seen_once |= shown
        missing = (set(self.running.values()) & self.seen_once) - shown
        assert not missing

    @invariant()
    def of_a_name_only_one_is_live(self) -> None:
        live = [one.name for one in self.view.live("processor")]
        assert len(live) == len(set(live))


LossyMesh.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestLossyMesh = LossyMesh.TestCase


def test_a_nexus_that_died_before_an_instance_started_does_not_speak_against_it() -> None:
    mesh = LossyMesh()
    mesh.come_to_rest()
    mesh.kill_nexus("B")
    mesh.start("processor-1")
    mesh.nobody_alive_is_missing()
    mesh.kill_nexus("A")
    mesh.come_to_rest()


def test_what_a_stopped_nexus_says_first_does_not_speak_against_an_instance() -> None:
    mesh = LossyMesh()
    mesh.come_to_rest()
    mesh.stop_nexus("B")
    mesh.start("processor-1")
    mesh.start("processor-1")
    mesh.let_time_pass(steps=1, lose=set(), snapshots=False)
    mesh.kill_nexus("A")
    mesh.let_time_pass(steps=15, lose=set(), snapshots=False)
    mesh.continue_nexus("B", before=1)
    mesh.nobody_alive_is_missing()
    mesh.come_to_rest()
