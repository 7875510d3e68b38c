"""A node's instances brought to what is wanted, by a real supervisord with programs that only wait."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.cli.supervision import Supervisor
from hitmesh.config.scaler import Scaled
from hitmesh.scaler.local import AGAIN_S, ANSWER_S, STEADY_S, Local
from hitmesh.supervisord import Supervised, Supervisord
from tests.hitmesh.scaler.world import configured
from tests.services import wait_for
from tests.services.supervisord import write_conf

CONFIG = configured(nodes=2)  # a: collector-1, b: collector-2; spares of a: collector-3, collector-4
LIVING: dict[Scaled, int] = {"collector": 2, "processor": 2}

PROGRAM = """
[program:dc-{name}]
command = sleep {seconds}
autostart = {autostart}
autorestart = false
startsecs = 0
"""


class Node:
    """The host a."""

    def __init__(self, state: Path) -> None:
        self.state, self.now = state, 1000.0
        self.write()
        self.supervisor = Supervisor(state)
        self.process = self.supervisor.start(sys.executable, os.environ)
        wait_for(self.supervisor.programs, what="supervisord")
        self.local = Local(CONFIG, "a", self.supervisor, clock=lambda: self.now)

    def write(self, seconds: float = 600) -> None:
        programs = [("collector-1", "true"), ("collector-3", "false"), ("collector-4", "false")]
        sections = (PROGRAM.format(name=name, autostart=auto, seconds=seconds) for name, auto in programs)
        write_conf(self.state, "".join(sections))

    def program(self, name: str) -> Supervised:
        return {each.name: each for each in self.supervisor.programs() or ()}[name]

    def states(self) -> list[str]:
        return [self.program(name).state for name in ("collector-1", "collector-3", "collector-4")]

    def bring(self, collectors: int, living: dict[Scaled, int] = LIVING) -> list[str]:
        return self.local.bring({"collector": collectors}, living)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    here = Node(tmp_path)
    try:
        yield here
    finally:
        here.process.send_signal(signal.SIGCONT)
        here.supervisor.stop(10.0, lambda _: None)
        here.process.kill()
        here.process.wait()


@pytest.mark.system
def test_spares_are_started_and_stopped_by_number_and_the_nodes_own_never(node: Node) -> None:
    assert node.bring(2) == ["collector-3 is started"]
    assert node.bring(9) == ["collector-4 is started"], "as far as there are programs"
    wait_for(lambda: node.states() == ["RUNNING"] * 3, what="all to run")
    assert node.bring(9) == [], "whoever acts twice does the same"
    assert node.bring(0) == [], "another scaler may know first that more are wanted"
    node.now += STEADY_S
    assert node.bring(0) == ["collector-4 is told to finish its work and end"]
    wait_for(lambda: node.states() == ["RUNNING", "RUNNING", "STOPPED"], what="one to end")
    assert node.bring(0) == ["collector-3 is told to finish its work and end"]
    wait_for(lambda: node.states() == ["RUNNING", "STOPPED", "STOPPED"], what="one more to end")
    assert node.bring(0) == []


@pytest.mark.system
def test_one_that_hears_late_that_more_are_wanted_stops_nobody(node: Node) -> None:
    late = Local(CONFIG, "a", node.supervisor, clock=lambda: node.now)
    node.bring(2)
    wait_for(lambda: node.program("collector-3").state == "RUNNING", what="it to run")
    assert late.bring({"collector": 1}, LIVING) == []
    node.now += STEADY_S - 0.1
    assert late.bring({"collector": 1}, LIVING) == []
    assert late.bring({"collector": 2}, LIVING) == []
    node.now += STEADY_S
    assert late.bring({"collector": 1}, LIVING) == []


@pytest.mark.system
def test_where_nobody_of_a_role_lives_nobody_is_started(node: Node) -> None:
    assert node.bring(3, {"collector": 0}) == []
    assert node.local.bring({}, LIVING) == []


@pytest.mark.system
def test_one_is_started_as_its_file_is_now_and_one_that_ends_by_itself_not_at_once_again(node: Node) -> None:
    node.write(seconds=0.01)
    assert node.bring(2) == ["collector-3 is started"]
    wait_for(lambda: node.program("collector-3").state == "EXITED", what="it to end, as its new file says")
    assert node.bring(2) == []
    node.now += AGAIN_S
    assert node.bring(2) == ["collector-3 is started"]


@pytest.mark.system
def test_how_long_it_is_behind_what_is_wanted_is_known_and_each_step_towards_it_begins_anew(node: Node) -> None:
    assert node.local.load() == {"behind_s": 0.0}, "supervisord wasn't asked yet"
    assert (node.bring(1), node.local.behind_s) == ([], 0.0)
    node.write(seconds=0.01)
    node.bring(3)
    wait_for(lambda: node.states()[1:] == ["EXITED", "EXITED"], what="both to end at once")
    node.now += AGAIN_S - 1
    assert (node.bring(3), node.local.behind_s) == ([], AGAIN_S - 1)
    assert node.local.load() == {"supervisor": 1.0, "behind_s": 25.0}
    node.write()
    node.now += 1
    assert len(node.bring(3)) == 2
    wait_for(lambda: node.states() == ["RUNNING"] * 3, what="both to run")
    assert (node.bring(3), node.local.behind_s) == ([], 0.0)
    node.now += 50
    assert (node.bring(1), node.local.behind_s) == ([], 0.0)
    node.now += STEADY_S
    node.bring(1)
    assert node.local.behind_s == STEADY_S
    wait_for(lambda: node.states()[2] == "STOPPED", what="one of them to end")
    node.bring(1)
    assert node.local.behind_s == 0.0, "it comes nearer"
    for _ in range(2):
        assert (node.bring(3, {"collector": 0}), node.local.behind_s) == ([], 0.0), "nobody wants any"
        node.now += 10


def test_a_supervisord_that_hangs_is_told_before_it_is_given_up() -> None:
    now, seen = 1000.0, list[dict[str, float]]()

    class Hanging(Supervisord):
        def programs(self) -> list[Supervised]:
            nonlocal now
            seen.append(local.load())
            now += ANSWER_S
            seen.append(local.load())
            return []

    local = Local(CONFIG, "a", Hanging(lambda: None), clock=lambda: now)
    local.look()
    local.look()
    assert [each.get("supervisor") for each in [*seen, local.load()]] == [None, 0.0, 1.0, 0.0, 1.0]


@pytest.mark.system
def test_a_supervisord_that_doesnt_answer_is_said_once_and_does_no_harm(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hitmesh.supervisord.RPC_TIMEOUT_S", 0.2)
    assert node.bring(1) == []
    assert node.local.answers
    node.process.send_signal(signal.SIGSTOP)
    assert node.bring(2) == node.bring(2) == []
    assert not node.local.answers
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "the supervisord of this host doesn't answer: nothing is done here"
    ]
    node.process.send_signal(signal.SIGCONT)
    wait_for(lambda: node.bring(2) or node.program("collector-3").pid, what="it to be started")
