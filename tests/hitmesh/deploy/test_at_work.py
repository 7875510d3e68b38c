"""What becomes known of a deploy that ended: the trail, and the hook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hitmesh import config as settings
from hitmesh.deploy import hooks, tasks
from hitmesh.deploy.at_work import at_work, recall
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.remote import NoHostProgram
from tests.hitmesh.deploy.test_tasks import DATA, NEW, Operator

FAILED_HOOK = {"hooks": {"failed": "hook"}}


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("hitmesh.deploy.runner.POLL_S", 0.02)
    return Operator(tmp_path, monkeypatch)


@pytest.fixture
def events(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What the hook for failures is told."""
    told: list[Mapping[str, Any]] = []

    def run(program: str, _folder: Path, event: Mapping[str, Any], **_: Any) -> None:
        if program:
            told.append(event)

    monkeypatch.setattr(hooks, "run", run)
    data = {**DATA, "deploy": {**DATA["deploy"], **FAILED_HOOK}}
    operator.desk.fleet = Fleet.of(settings.parse(data, source="test"))
    return told


def test_a_deploy_that_was_interrupted_twice_stands_in_the_trail_and_the_hook_is_told(
    operator: Operator, events: list[Mapping[str, Any]]
) -> None:
    pending = ["a restart collector-1", "b read"]

    def interrupt(call: str) -> None:
        if pending and call.startswith(pending[0]):
            pending.pop(0)
            raise KeyboardInterrupt

    operator.hosts.before_call = interrupt
    assert "not taken back: " in operator.refused()
    remembered = recall(operator.desk)
    assert remembered.lock is None
    assert remembered.trail[-1].result.startswith("stopped half-way: interrupted (not taken back: the files of b")
    assert [(event["event"], event["release"]) for event in events] == [("failed", NEW)]
    operator.deploy()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left")])
def test_whatever_ends_the_work_stands_in_the_trail_and_the_hook_is_told(
    operator: Operator, events: list[Mapping[str, Any]], error: BaseException
) -> None:
    with pytest.raises(type(error)), at_work(operator.desk, "deploy", NEW, force=False):
        raise error
    said = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed: OSError: [Errno 28] No space left"
    assert recall(operator.desk).trail[-1].result == said
    assert [event["result"] for event in events] == [said]


def test_what_is_remembered_is_asked_of_another_host_where_the_first_one_runs_no_host_program_any_more(
    operator: Operator,
) -> None:
    def before_call(call: str) -> None:
        if call.startswith("a memory"):
            raise NoHostProgram("a: the deploy user may not run hitmesh-host")

    operator.hosts.before_call = before_call
    operator.deploy()
    assert recall(operator.desk).trail[-1].result == "done"


@pytest.mark.parametrize("does", ["well", "never ready"])
def test_a_deploy_whose_lock_is_broken_leaves_all_as_it_is_and_the_release_is_not_bad(
    operator: Operator, does: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hitmesh.deploy.lock.FRESH_S", 0.0)
    operator.hosts.behaviour = {NEW: does}
    broken: list[str] = []

    def unlock(call: str) -> None:
        if call == "a restart nexus-1" and not broken:
            broken.append(call)
            tasks.unlock(operator.desk)

    operator.hosts.before_call = unlock
    assert "somebody else has taken over: the lock was broken (not taken back: the files of b; " in operator.refused()
    remembered = recall(operator.desk)
    assert remembered.lock is None
    assert remembered.trail[-1].result.startswith("stopped half-way: somebody else has taken over")
    assert operator.hosts.current["nexus-1"] == NEW
    operator.hosts.behaviour = {}
    operator.deploy()
    assert operator.runs() == {NEW}


def test_a_release_that_runs_already_is_not_bad_for_what_its_changed_file_does(operator: Operator) -> None:
    operator.deploy()
    operator.hosts.configs = dict.fromkeys(operator.hosts.configs, "of another file")
    operator.hosts.behaviour = {NEW: "dies"}
    assert "nexus-1 doesn't start" in operator.refused()
    assert recall(operator.desk).trail[-1].result.startswith("taken back: nexus-1 doesn't start")
    operator.hosts.behaviour = {}
    operator.deploy()
    assert recall(operator.desk).trail[-1].result == "done"
