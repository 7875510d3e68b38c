"""Processes by id: what is alive, what is a stray, and how it ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.cli.processes import Process, end, process, started, strays
from tests.services import PATIENCE_S, wait_for

SLEEP = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def spawn(children: list[subprocess.Popen[bytes]], *command: str) -> subprocess.Popen[bytes]:
    children.append(subprocess.Popen(command, stdout=subprocess.PIPE))
    return children[-1]


def conf(folder: Path, **programs: str) -> Path:
    path = folder / "supervisord.conf"
    path.write_text("".join(f"[program:{name}]\ncommand = {command}\n" for name, command in programs.items()))
    return path


def test_a_running_process_is_alive() -> None:
    assert process(os.getpid(), "me").is_alive()


def test_a_dead_process_that_nobody_collected_is_not_alive(children: list[subprocess.Popen[bytes]]) -> None:
    child = spawn(children, sys.executable, "-c", "")
    wait_for(lambda: started(child.pid) == "", what="the end of a child that stays a zombie")
    assert Path(f"/proc/{child.pid}").exists()


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    assert not Process(os.getpid(), "1", "somebody before me").is_alive()


def test_a_process_ends_by_itself_when_it_can(children: list[subprocess.Popen[bytes]]) -> None:
    child = spawn(children, sys.executable, "-c", SLEEP)
    assert end([process(child.pid, "child")], within_s=PATIENCE_S) == []
    assert child.wait(PATIENCE_S) == -15


def test_a_process_that_does_not_end_is_killed(children: list[subprocess.Popen[bytes]]) -> None:
    child = spawn(children, sys.executable, "-c", STUBBORN)
    assert child.stdout is not None
    child.stdout.readline()
    assert [each.name for each in end([process(child.pid, "child")], within_s=0.1)] == ["child"]
    assert child.wait(PATIENCE_S) == -9


def test_a_process_that_was_replaced_is_left_alone(children: list[subprocess.Popen[bytes]]) -> None:
    child = spawn(children, sys.executable, "-c", SLEEP)
    assert end([Process(child.pid, "1", "its predecessor")], within_s=0.1) == []
    assert child.poll() is None


def test_a_stray_is_a_process_with_a_programs_whole_command_line(
    tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    mine = str(tmp_path / "100% mine")
    command = [sys.executable, "-c", SLEEP, mine]
    child = spawn(children, *command)
    path = conf(tmp_path, **{"dc-collector-1": shlex.join(command).replace("%", "%%")})
    found = wait_for(lambda: strays(path), what="the stray")
    assert [(each.pid, each.name) for each in found] == [(child.pid, "dc-collector-1")]


def test_a_process_with_more_arguments_is_no_stray(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    command = [sys.executable, "-c", SLEEP, str(tmp_path)]
    same = spawn(children, *command)
    spawn(children, *command, "--name", "by-hand")
    path = conf(tmp_path, **{"dc-collector-1": shlex.join(command)})
    found = wait_for(lambda: strays(path), what="the stray")
    assert [each.pid for each in found] == [same.pid]


def test_without_a_configuration_nothing_is_a_stray(tmp_path: Path) -> None:
    assert strays(tmp_path / "supervisord.conf") == []
