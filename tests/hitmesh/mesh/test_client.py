"""The link of a role against real Nexuses that are killed, stopped and started.

The clients live in this process, on gevent's hub: these tests wait by `until`, which lets it run.
"""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
import zmq.green

from hitmesh.config import Config, Role
from hitmesh.errors import DecodeError
from hitmesh.mesh import client
from hitmesh.mesh.client import MeshClient
from hitmesh.mesh.duty import EXIT_BROKEN
from hitmesh.mesh.lookup import ask
from hitmesh.mesh.network import Network
from hitmesh.mesh.pulse import sendable
from hitmesh.protocol.messages import MAX_LOADS, Change, Message, decode
from hitmesh.state.ages import UPTIME
from hitmesh.state.view import RIVALS, MeshView
from tests.hitmesh.mesh.nexuses import HEARTBEAT_S, MISSED, MORTAL_S, beating
from tests.services import PATIENCE_S
from tests.services.nexus import NexusProcess, mesh_config, peer

FRESH_S = 3.0
YEAR_S = 365 * 24 * 3600
NEVER_S = 60.0  # an interval of which no test sees the end
assert NEVER_S > PATIENCE_S


def until(condition: Callable[[], object], *, what: str = "the condition") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        gevent.sleep(0.01)


class Member:
    """A client with all that it was told."""

    def __init__(self, config: Config, name: str, role: Role = "processor", id: str = "") -> None:
        self.owns: dict[int, int] = {}
        self.versions: list[int] = []
        self.network = Network(zmq.green.Context())
        self.client = MeshClient(
            config,
            role=role,
            name=name,
            instance_id=id or f"{name}-{secrets.token_hex(4)}",
            endpoints={"batches": "tcp://127.0.0.1:1"},
            network=self.network,
            load=lambda: {"queue": 1.0},
            owns=lambda: self.owns,
            on_change=self._on_change,
        )

    def _on_change(self, view: MeshView) -> None:
        self.versions.append(view.version)

    @property
    def view(self) -> MeshView:
        return self.client.view

    def names(self, role: str = "processor") -> list[str]:
        return [one.name for one in self.view.live(role)]

    def states(self) -> dict[str, str]:
        return {one.name: one.state for one in self.view.live("processor")}

    def known_to(self, nexus: NexusProcess) -> set[str]:
        """The names of all that a Nexus knows, the dead included; asked without stopping this process's hub."""
        answer = ask(self.network, nexus.endpoints.lookups, "snapshot", "", PATIENCE_S)
        return {each.instance.name for each in answer.seen}

    def heard_from(self, *nexuses: NexusProcess) -> set[str]:
        """The ids of the Nexus processes that were heard last."""
        return {self.view._pictures[each.endpoints.changes].nexus for each in nexuses}

    def has_warm(self, nexus: NexusProcess, but: Collection[str] = ()) -> bool:
        """Whether it has all that a Nexus says, who says it knows everybody; none of the ids in `but` is meant."""
        picture = self.view._pictures[nexus.endpoints.changes]
        return picture.nexus not in but and picture.warm and picture.whole and not picture.silent

    def heartbeats(self) -> int:
        """How many it has sent."""
        assert self.client._pulse is not None
        return self.client._pulse._number

    def beat_every(self, interval_s: float) -> None:
        """From now on; no Nexus calls it dead before it has missed several of them."""
        assert self.client._pulse is not None
        self.client._pause_s = lambda: interval_s  # type: ignore[method-assign]
        self.client._pulse._interval_ms = int(interval_s * 1000)
        before = self.heartbeats()
        self.client.announce()
        until(lambda: self.heartbeats() > before, what="the Nexuses to be told")

    def vanish(self) -> None:
        """Fall silent without a word, as a killed process does."""
        self.client._leaving = True
        self.client._beat_due.set()
        assert self.client._pulse is not None
        self.client._pulse.close()
        self.client._pulse.leave = lambda _: None  # type: ignore[assignment, method-assign]

    def close(self) -> None:
        self.client.stop()
        self.network.close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, whoever stops has time to be forgotten, and its greenlets to end."""
    monkeypatch.setattr(client, "LEAVE_S", PATIENCE_S)
    monkeypatch.setattr(client, "STOP_S", PATIENCE_S)


@contextmanager
def members(config: Config, *names: str) -> Iterator[list[Member]]:
    """They beat as configured, but state an interval that makes nobody's silence a death; `beat_every` changes that."""
    joined = [Member(config, name) for name in names]
    try:
        for one in joined:
            one.client.start()
            assert one.client._pulse is not None
            one.client._pulse._interval_ms = int(NEVER_S * 1000)
        until(lambda: all(one.names() == sorted(names) and one.view.known for one in joined), what="all to see all")
        yield joined
    finally:
        for one in joined:
            one.close()


def config_of(nexuses: list[NexusProcess]) -> Config:
    return nexuses[0].config


def test_members_see_each_other_and_the_nexuses(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, _):
        until(lambda: one.names("nexus") == ["nexus-1", "nexus-2"], what="the Nexuses to show themselves")
        assert one.view.connected
        assert one.versions == sorted(set(one.versions))


def test_a_member_that_starts_is_known_long_before_its_second_heartbeat_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "EAGER_INTERVALS", 0.2 / NEVER_S)
    monkeypatch.setattr(client, "EAGER_TRIES", 1000)
    monkeypatch.setattr(client, "TICKS", NEVER_S / 0.2)  # or it takes long to stop
    config = mesh_config(nexuses=1, heartbeat_s=NEVER_S)  # the first one is lost: a PUB connects too late for it
    nexus = NexusProcess(tmp_path, config, 1)
    nexus.launch()
    one = Member(config, "processor-1")
    try:
        until(lambda: "serves" in nexus.log(), what="the Nexus to serve")
        gevent.sleep(0.5)  # it has news of its own, at which everybody announces itself
        one.client.start()
        until(lambda: "processor-1" in one.known_to(nexus), what="it to be known")
    finally:
        one.close()
        nexus.stop()


def test_an_announcement_reaches_the_others_long_before_the_next_heartbeat(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        one.beat_every(NEVER_S)
        gevent.sleep(HEARTBEAT_S)
        one.owns[5] = 9
        one.client.announce()
        until(lambda: other.view.owner(5) is not None, what="the claim to be seen")


def test_many_announcements_in_a_row_make_few_heartbeats(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1") as (one,):
        before, began = one.heartbeats(), time.monotonic()
        for _ in range(200):
            one.client.announce()
            gevent.sleep(0.001)
        took_s = time.monotonic() - began
        assert one.heartbeats() - before <= took_s / 0.02 + 2


def test_a_draining_member_is_shown_as_such(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        one.client.drain()
        until(lambda: other.states() == {"processor-1": "draining", "processor-2": "up"}, what="it to be shown")


def test_a_member_that_stops_is_gone_at_once(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        one.client.stop()
        for nexus in nexuses:  # which keep the dead for minutes
            until(lambda nexus=nexus: "processor-1" not in other.known_to(nexus), what="it to be gone")  # type: ignore[misc]
        until(lambda: other.names() == ["processor-2"], what="it to be gone")


def test_a_member_that_falls_silent_is_dead_after_the_intervals_that_may_be_missed(
    nexuses: list[NexusProcess],
) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        one.beat_every(HEARTBEAT_S / 2)
        before = one.heartbeats()
        one.client.announce()
        began = time.monotonic()
        until(lambda: one.heartbeats() > before, what="its last heartbeat")
        one.vanish()
        until(lambda: other.names() == ["processor-2"], what="its death")
        assert time.monotonic() - began > HEARTBEAT_S / 2 * MISSED, "fewer missed heartbeats are no death"
        assert any("processor-1" in other.known_to(nexus) for nexus in nexuses), "it is gone, and not dead"


def test_a_killed_process_is_dead_for_all(nexuses: list[NexusProcess]) -> None:
    config = config_of(nexuses)
    with members(config, "processor-1") as (one,), peer(beating(config, MORTAL_S), "processor-2") as process:
        until(lambda: "processor-2" in one.names(), what="the peer to be seen")
        process.kill()
        until(lambda: one.names() == ["processor-1"], what="its death")


def test_a_restarted_member_replaces_itself_at_once(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        one.owns[1] = 1
        one.client.announce()
        until(lambda: other.view.owner(1) is not None)
        one.beat_every(NEVER_S)
        one.vanish()
        again = Member(config_of(nexuses), "processor-1", id="the-new-one")
        again.client.start()
        try:
            until(lambda: "the-new-one" in {each.id for each in other.view.live("processor")}, what="the new one")
            assert other.view.owner(1) is None
        finally:
            again.close()


def test_who_starts_under_a_living_one_s_name_says_so_and_status_can_see_it(
    nexuses: list[NexusProcess], caplog: pytest.LogCaptureFixture
) -> None:
    with members(config_of(nexuses), "processor-1") as (one,):
        second = Member(config_of(nexuses), "processor-1", id="the-second")
        second.client.start()
        try:
            until(lambda: "processor-1 of " in caplog.text, what="the warning")
            assert f"is another process already ({one.client.instance_id}, pid " in caplog.text
            rivals = [each.load.get(RIVALS) for each in one.view.live("nexus")]
            until(lambda: 1 in [each.load.get(RIVALS) for each in one.view.live("nexus")], what=f"load, was {rivals}")
        finally:
            second.close()


def test_who_takes_the_place_of_a_dead_one_says_nothing_of_it(
    nexuses: list[NexusProcess], caplog: pytest.LogCaptureFixture
) -> None:
    with members(config_of(nexuses), "processor-1") as (one,):
        one.beat_every(NEVER_S)
        one.vanish()
        again = Member(config_of(nexuses), "processor-1", id="the-new-one")
        again.client.start()
        try:
            until(lambda: again.view.shows("the-new-one"))
            gevent.sleep(2.5 * HEARTBEAT_S * MISSED)
            assert f"is another process already ({one.client.instance_id}" not in caplog.text
        finally:
            again.close()


def test_a_killed_nexus_takes_nobody_with_it(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        nexuses[0].kill()
        one.owns[1] = 1
        one.client.announce()
        until(lambda: other.view.owner(1) is not None, what="news over the other one")
        until(lambda: one.names("nexus") == ["nexus-2"], what="its death to be seen")
        assert one.names() == ["processor-1", "processor-2"]


def test_a_stopped_nexus_takes_nobody_with_it_and_buries_nobody_when_it_goes_on(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        smallest = []
        one.client._on_change = lambda view: smallest.append(len(view.live("processor")))
        nexuses[0].signal(signal.SIGSTOP)
        until(lambda: one.names("nexus") == ["nexus-2"], what="it to be missed")
        one.owns[1] = 1
        one.client.announce()
        until(lambda: other.view.owner(1) is not None, what="news over the other one")
        nexuses[0].signal(signal.SIGCONT)
        until(lambda: one.names("nexus") == ["nexus-1", "nexus-2"], what="the stopped one to be back")
        until(lambda: one.has_warm(nexuses[0]), what="it to be believed again")
        gevent.sleep(HEARTBEAT_S / 2)
        assert min(smallest) == 2


def test_with_both_nexuses_down_the_last_picture_stays_and_one_that_returns_is_used(
    nexuses: list[NexusProcess],
) -> None:
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, other):
        smallest = []
        one.client._on_change = lambda view: smallest.append(len(view.live("processor")))
        for nexus in nexuses:
            nexus.kill()
        until(lambda: not one.view.connected, what="the silence to be noticed")
        assert one.names() == ["processor-1", "processor-2"]
        nexuses[0].launch()
        until(lambda: one.view.connected, what="the Nexus to be heard")
        other.owns[1] = 1
        other.client.announce()
        until(lambda: one.view.owner(1) is not None, what="news over it")
        until(lambda: one.has_warm(nexuses[0]), what="it to be believed")
        gevent.sleep(HEARTBEAT_S)
        assert min(smallest) == 2
        other.beat_every(MORTAL_S)
        other.vanish()
        until(lambda: one.names() == ["processor-1"], what="a death to be told by it")


def test_nobody_takes_a_fresh_nexus_for_an_empty_mesh(nexuses: list[NexusProcess], tmp_path: Path) -> None:
    # A Nexus believes itself after 1.5 of its intervals: these give everybody the time to reconnect on a busy machine.
    fresh = [NexusProcess(tmp_path, beating(config_of(nexuses), FRESH_S), number) for number in (1, 2)]
    with members(config_of(nexuses), "processor-1", "processor-2") as (one, _):
        smallest = []
        one.client._on_change = lambda view: smallest.append(len(view.live("processor")))
        before = one.heard_from(*nexuses)
        for nexus in nexuses:
            nexus.kill()
        try:
            for nexus in fresh:
                nexus.launch()
            for nexus in fresh:
                until(lambda nexus=nexus: one.has_warm(nexus, but=before), what=f"{nexus.name} to be believed")  # type: ignore[misc]
            gevent.sleep(FRESH_S / 2)
            assert min(smallest, default=2) == 2, smallest
            assert len(one.client.view.live("processor")) >= 2
        finally:
            for nexus in fresh:
                nexus.kill()


def test_a_lost_change_leads_to_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(data: bytes, *kinds: type[Message]) -> Message:
        change = decode(data, *kinds)
        assert isinstance(change, Change)
        speakers.add(change.nexus)
        if any(seen.instance.name == "processor-2" for seen in change.seen):
            raise DecodeError("lost on the way")
        return change

    speakers: set[str] = set()
    monkeypatch.setattr("hitmesh.mesh.sockets.decode", lossy)
    config = mesh_config(nexuses=1, heartbeat_s=1.0, missed=20)  # so that a busy machine makes no Nexus start over
    nexus = NexusProcess(tmp_path, config, 1)
    nexus.launch()
    try:
        with members(config, "processor-1") as (one,), peer(config, "processor-2"):
            until(lambda: "processor-2" in one.names(), what="a snapshot")
            assert len(speakers) == 1
    finally:
        nexus.stop()


def test_its_hub_lag_is_part_of_its_load(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1") as (one,):
        gevent.sleep(0.15)
        time.sleep(0.8)  # a handler that blocks the hub

        def lags() -> list[bool]:
            return [each.load["hub_lag_s"] >= 0.65 for each in one.view.live("processor")]

        until(lambda: lags() == [True], what="the lag to be shown")
        until(lambda: lags() == [False], what="the lag to pass")


def test_how_long_it_has_been_up_is_part_of_everybody_s_load(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1") as (one,):
        until(lambda: len(one.view.live("nexus")) == len(nexuses), what="the Nexuses themselves")
        for each in [*one.view.live("processor"), *one.view.live("nexus")]:
            assert 0 <= each.load[UPTIME] < YEAR_S, "not a moment of somebody's wall clock"


def test_a_greenlet_that_dies_takes_the_process_with_it_and_says_why(
    nexuses: list[NexusProcess], tmp_path: Path
) -> None:
    with peer(config_of(nexuses), "processor-1", fail="on_change") as process:
        until(lambda: process.poll() is not None, what="the process to end")
        assert process.returncode == EXIT_BROKEN


def test_a_process_that_is_told_to_stop_leaves_and_ends_with_0(nexuses: list[NexusProcess]) -> None:
    with members(config_of(nexuses), "processor-1") as (one,), peer(config_of(nexuses), "processor-2") as process:
        until(lambda: "processor-2" in one.names())
        process.terminate()
        until(lambda: process.poll() is not None, what="its end")
        for nexus in nexuses:  # which keep the dead for minutes
            until(lambda nexus=nexus: "processor-2" not in one.known_to(nexus), what="it to be gone")  # type: ignore[misc]
        until(lambda: "processor-2" not in one.names(), what="it to be gone")
        assert process.returncode == 0
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
        assert any(line["known"] for line in lines)


def test_stopping_leaves_no_greenlet_and_no_socket(
    nexuses: list[NexusProcess],
) -> None:
    with members(config_of(nexuses), "processor-1") as (one,):
        greenlets = list(one.client._greenlets)
        one.client.stop()
        assert all(greenlet.dead for greenlet in greenlets)
        assert not [socket for socket in one.network.context._sockets if not socket.closed]


def test_with_no_nexus_at_all_it_starts_and_stops(nexuses: list[NexusProcess]) -> None:
    for nexus in nexuses:
        nexus.kill()
    one = Member(config_of(nexuses), "processor-1")
    one.client.start()
    gevent.sleep(0.2)
    assert not one.view.known
    assert not one.view.connected
    one.close()


def test_a_member_that_starts_before_the_nexuses_joins_when_they_are_there(nexuses: list[NexusProcess]) -> None:
    for nexus in nexuses:
        nexus.kill()
    one = Member(config_of(nexuses), "processor-1")
    one.client.start()
    try:
        gevent.sleep(HEARTBEAT_S * 2)
        nexuses[1].launch()
        until(lambda: one.names() == ["processor-1"] and one.view.known, what="it to join")
    finally:
        one.close()


def test_no_load_makes_a_heartbeat_that_a_nexus_refuses() -> None:
    load = {"nan": float("nan"), "infinite": float("inf"), "huge": -1e30, "queue": 3}
    assert sendable(load) == {"queue": 3.0}
    assert len(sendable({str(number): 1.0 for number in range(500)})) == MAX_LOADS
