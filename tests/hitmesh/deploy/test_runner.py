from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hitmesh import config as settings
from hitmesh.deploy.facts import Facts
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.lock import Lost
from hitmesh.deploy.paths import config_path
from hitmesh.deploy.plan import Asked, make_plan
from hitmesh.deploy.runner import Runner, Stopped
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.fake_hosts import FakeSsh

OLD, NEW = "0.1.0-aaaa", "0.2.0-bbbb"
FILE = File(path=config_path("dc"), text="new")
ONE = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
DATA: dict[str, Any] = {
    "name": "dc", "insecure": True, "ports": {"balancer_admin": 0}, "deploy": {"bake_s": 0.5, "ready_s": 1},
    "nodes": {"a": {"address": "10.0.0.1", **ONE}, "b": {"address": "10.0.0.2", **ONE}},
}  # fmt: skip
FLEET = Fleet.of(settings.parse(DATA, source="test"))
INSTANCES = [one.name for _, one in FLEET.in_order()]


class Deploy:
    """A deploy of NEW on two hosts that run OLD, and what it told."""

    def __init__(self, does: str = "well") -> None:
        self.ssh = FakeSsh(FLEET, OLD)
        self.ssh.behaviour = {NEW: does}
        self.told: list[str] = []
        self.may_go_on: Callable[[], None] = lambda: None
        self.is_ours: Callable[[], None] = lambda: None
        self.for_s = 0  # that an instance may take, and canaries are watched; 0: as DATA has it

    def run(self) -> None:
        hosts = self.ssh.hosts()
        facts: dict[str, Facts] = {name: host.facts() for name, host in hosts.items()}
        fleet = FLEET
        if self.for_s:
            times = {"ready_s": self.for_s, "bake_s": self.for_s}
            fleet = Fleet.of(settings.parse({**DATA, "deploy": times}, source="test"))
        steps = make_plan(fleet, NEW, facts, {name: [FILE] for name in hosts}, Asked())
        tars = {NEW: Path("/dev/null")}
        Runner(fleet, hosts, tars, self.told.append, self.may_go_on, self.is_ours).run(steps)

    def stopped(self) -> Stopped:
        with pytest.raises(Stopped) as caught:
            self.run()
        return caught.value

    def runs(self, release: str) -> list[str]:
        return [name for name, id_ in self.ssh.current.items() if id_ == release]

    def restarted(self) -> list[str]:
        return [call.split()[-1] for call in self.ssh.calls if " restart " in call]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitmesh.deploy.runner.POLL_S", 0.02)


def test_a_good_release_runs_everywhere_in_the_end_each_instance_restarted_once() -> None:
    deploy = Deploy()
    deploy.run()
    assert deploy.runs(NEW) == INSTANCES
    assert sorted(deploy.restarted()) == sorted(INSTANCES)
    assert deploy.ssh.files["a"] == deploy.ssh.files["b"] == {FILE.path: "new"}


def test_what_the_datacenter_lacks_is_asked_once_an_instance_is_up() -> None:
    deploy = Deploy("slow")
    deploy.run()
    of_each = ["status", "status", "status", "ready"]
    # The first canary's, after what was seen before: each question is a command, and a process there.
    assert deploy.ssh.asked[:7] == ["status", "ready", "audit", *of_each]


@pytest.mark.parametrize(
    ("does", "why", "restarted"),
    [
        ("dies", "nexus-1 doesn't start: backoff ended with 1", ["nexus-1", "nexus-1"]),
        ("never ready", "nexus-1 isn't ready: nexus-1 (/health: 503)", ["nexus-1", "nexus-1"]),
        (
            "fails",
            "requests were answered with 5xx",
            ["nexus-1", "processor-1", "collector-1", "balancer-1", "balancer-1", "collector-1", "processor-1", "nexus-1"],
        ),
    ],
)  # fmt: skip
def test_a_bad_release_stops_at_the_canary_and_is_taken_back_with_the_log_that_says_why(
    does: str, why: str, restarted: Sequence[str]
) -> None:
    deploy = Deploy(does)
    stopped = deploy.stopped()
    assert why in str(stopped)
    assert stopped.undone
    assert stopped.is_bad
    assert deploy.restarted() == restarted
    assert deploy.runs(OLD) == INSTANCES
    assert deploy.ssh.files["a"] == {FILE.path: ""}  # as it was: not there
    whose = "collector-1" if does == "fails" else "nexus-1"
    assert any(f"the last words of {whose}" in line for line in deploy.told)


@pytest.mark.parametrize(
    "at", ["b receive", "b write", "b switch nexus-2", "b restart processor-2", "b restart balancer-2"]
)
def test_a_host_that_vanishes_stops_the_deploy_and_the_others_are_taken_back(at: str) -> None:
    deploy = Deploy()
    deploy.ssh.vanish("b", at)
    stopped = deploy.stopped()
    assert "b: it can't be reached" in stopped.message
    assert [name for name in deploy.runs(OLD) if name.endswith("-1")] == [
        name for name in INSTANCES if name.endswith("-1")
    ]
    assert " of a" not in str(stopped)
    left = " of b" in str(stopped)
    assert left == (not stopped.undone)


def test_a_host_that_vanishes_while_another_is_changed_is_what_stopped_it_and_not_the_release() -> None:
    deploy = Deploy()
    deploy.ssh.vanish("b", "a restart processor-1")
    stopped = deploy.stopped()
    assert stopped.message.startswith("b: it can't be reached")
    assert not stopped.is_bad
    assert " of a" not in str(stopped)
    assert [name for name in deploy.runs(OLD) if name.endswith("-1")] == [
        one for one in INSTANCES if one.endswith("-1")
    ]


def test_what_could_not_be_taken_back_is_said_and_the_same_deploy_afterwards_finishes() -> None:
    deploy = Deploy()
    deploy.ssh.vanish("b", "b restart balancer-2")
    stopped = deploy.stopped()
    assert "not taken back: " in str(stopped)
    assert "nexus-2 of b (b: it can't be reached)" in str(stopped)
    deploy.ssh.before_call = lambda call: None
    deploy.ssh.gone = ""
    deploy.run()
    assert deploy.runs(NEW) == INSTANCES


@pytest.mark.parametrize("at", ["a receive", "a write", "a switch collector-1", "b restart collector-2"])
def test_ctrl_c_takes_back_what_was_changed(at: str) -> None:
    deploy = Deploy()
    interrupted: list[str] = []

    def interrupt_once(call: str) -> None:
        if call.startswith(at) and not interrupted:
            interrupted.append(call)
            raise KeyboardInterrupt

    deploy.ssh.before_call = interrupt_once
    assert deploy.stopped().undone
    assert deploy.runs(OLD) == INSTANCES


@pytest.mark.parametrize(
    ("second", "left"),
    [
        ("a switch processor-1", ["processor-1 of a", "nexus-1 of a"]),
        ("b read", ["the files of b", "the files of a", "collector-1 of a", "processor-1 of a", "nexus-1 of a"]),
    ],
    ids=["in the middle", "before anything is taken back"],
)
def test_a_second_ctrl_c_ends_the_way_back_and_all_that_is_not_taken_back_is_said(
    second: str, left: Sequence[str]
) -> None:
    deploy = Deploy()
    pending = ["a restart collector-1", second]

    def interrupt(call: str) -> None:
        if pending and call.startswith(pending[0]):
            pending.pop(0)
            raise KeyboardInterrupt

    deploy.ssh.before_call = interrupt
    stopped = deploy.stopped()
    assert str(stopped) == f"interrupted (not taken back: {'; '.join(f'{one} (interrupted)' for one in left)})"
    assert not stopped.undone
    assert set(deploy.runs(NEW)) == {one.split()[0] for one in left if one.endswith("-1 of a")}


def refuses(deploy: Deploy, host: str, at: str) -> None:
    """Have a host answer ssh, but not run its host program any more, from a call on that begins so."""
    refused: list[str] = []

    def before_call(call: str) -> None:
        if call.startswith(at):
            refused.append(call)
        if refused and call.startswith(f"{host} "):
            raise CommandError(f"{host}: the deploy user may not run hitmesh-host")

    deploy.ssh.before_call = before_call


@pytest.mark.parametrize("at", ["b receive", "b write", "b switch nexus-2", "b restart balancer-2"])
def test_a_host_that_answers_but_runs_no_host_program_any_more_is_as_gone_and_the_others_are_taken_back(
    at: str,
) -> None:
    deploy = Deploy()
    refuses(deploy, "b", at)
    stopped = deploy.stopped()
    assert "b: the deploy user may not run hitmesh-host" in stopped.message
    assert [name for name in deploy.runs(OLD) if name.endswith("-1")] == [
        name for name in INSTANCES if name.endswith("-1")
    ]
    assert " of a" not in str(stopped)


def test_what_an_instance_lacked_is_still_said_where_a_host_is_gone_meanwhile() -> None:
    deploy = Deploy("never ready")
    refuses(deploy, "b", "a restart nexus-1")
    stopped = deploy.stopped()
    assert "b: the deploy user may not run hitmesh-host" in stopped.message
    assert "nexus-1 isn't ready: nexus-1 (/health: 503)" in stopped.message
    assert not stopped.is_bad
    assert any("the last words of nexus-1" in line for line in deploy.told)


def test_whatever_goes_wrong_is_taken_back_and_goes_wrong_while_it_is_taken_back_is_said() -> None:
    deploy = Deploy()

    def full(call: str) -> None:
        if call.startswith("a restart collector-1"):
            raise OSError(28, "No space left on device")

    deploy.ssh.before_call = full
    stopped = deploy.stopped()
    assert stopped.message == "OSError: [Errno 28] No space left on device"
    assert stopped.hint == "not taken back: collector-1 of a (OSError: [Errno 28] No space left on device)"
    assert [*deploy.runs(OLD), *deploy.runs(NEW)] == INSTANCES


def test_all_that_is_left_is_said_where_it_cannot_even_be_begun_to_take_it_back() -> None:
    deploy = Deploy()

    def full(call: str) -> None:
        if any(" restart nexus-1" in each for each in deploy.ssh.calls):
            raise OSError(24, "Too many open files")

    deploy.ssh.before_call = full
    stopped = deploy.stopped()
    assert not stopped.undone
    assert [one.partition(" (")[0] for one in stopped.hint.split("; ")] == [
        "not taken back: the files of b", "the files of a", "nexus-1 of a"
    ]  # fmt: skip


def broken_at(deploy: Deploy, instance: str) -> Callable[[], None]:
    def may_go_on() -> None:
        if any(f"restart {instance}" in call for call in deploy.ssh.calls):
            raise Lost("somebody else has taken over: ben is at work")

    return may_go_on


def test_a_lost_lock_stops_the_deploy_before_its_next_step_and_nothing_is_taken_back() -> None:
    deploy = Deploy()
    deploy.may_go_on = broken_at(deploy, "collector-1")
    stopped = deploy.stopped()
    assert str(stopped) == (
        "somebody else has taken over: ben is at work "
        "(not taken back: the files of b; the files of a; collector-1 of a; processor-1 of a; nexus-1 of a)"
    )
    assert not stopped.undone
    assert deploy.runs(NEW) == ["nexus-1", "processor-1", "collector-1"]
    assert deploy.ssh.files["a"] == {FILE.path: "new"}


def test_what_goes_wrong_with_a_lost_lock_is_somebody_elses_doing_and_is_not_taken_back() -> None:
    deploy = Deploy("fails")
    deploy.is_ours = broken_at(deploy, "collector-1")
    stopped = deploy.stopped()
    assert stopped.message == "somebody else has taken over: ben is at work"
    assert not stopped.is_bad
    assert deploy.runs(NEW) == ["nexus-1", "processor-1", "collector-1", "balancer-1"]


def test_a_lock_that_is_lost_while_all_is_taken_back_ends_that() -> None:
    deploy = Deploy("fails")

    def is_ours() -> None:
        if deploy.restarted().count("collector-1") > 1:
            raise Lost("somebody else has taken over")

    deploy.is_ours = is_ours
    assert str(deploy.stopped()) == ("somebody else has taken over (not taken back: processor-1 of a; nexus-1 of a)")
    assert deploy.runs(NEW) == ["nexus-1", "processor-1"]


def test_a_lock_that_could_not_be_renewed_stops_the_deploy_and_all_is_taken_back() -> None:
    deploy = Deploy()

    def over() -> None:
        if any("restart collector-1" in call for call in deploy.ssh.calls):
            raise CommandError("the lock isn't ours any more: no host of dc answers")

    deploy.ssh.behaviour = {OLD: "slow"}  # so that it is waited for
    deploy.may_go_on = over
    assert deploy.stopped().undone
    assert deploy.runs(OLD) == INSTANCES


@pytest.mark.parametrize(
    ("does", "last"), [("well", "balancer-1"), ("never ready", "nexus-1")], ids=["watched", "waited for"]
)
def test_a_lost_lock_is_noticed_while_something_is_watched_or_waited_for(does: str, last: str) -> None:
    deploy = Deploy(does)
    deploy.for_s = 3600
    after: list[str] = []

    def may_go_on() -> None:
        if len(after) > 20:
            raise Lost("somebody else has taken over")

    def before_call(call: str) -> None:
        if after or call == f"a restart {last}":
            after.append(call)
        assert len(after) < 1000, "it goes on for ever"

    deploy.may_go_on, deploy.ssh.before_call = may_go_on, before_call
    assert deploy.stopped().message == "somebody else has taken over"
    assert not any("the last words" in line for line in deploy.told)
