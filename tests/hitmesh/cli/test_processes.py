"""Processes by id: what is alive, what is a stray, and how it ends."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.cli.main import run
from hitmesh.cli.processes import MARK, Process, end, named, of_mesh, process, started, strays
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


def supervisord_of(children: list[subprocess.Popen[bytes]], folder: Path) -> subprocess.Popen[bytes]:
    """A process with the command line of the folder's supervisord, and nothing else of it."""
    conf = str(folder / "supervisord.conf")
    return spawn(children, sys.executable, "-c", SLEEP, "supervisor.supervisord", "-c", conf)


def program_of(children: list[subprocess.Popen[bytes]], folder: Path, name: str) -> subprocess.Popen[bytes]:
    """What supervisord would start in that folder."""
    environment = {**os.environ, MARK: str(folder), "SUPERVISOR_PROCESS_NAME": name}
    command = [sys.executable, "-c", SLEEP]
    children.append(subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=environment))
    return children[-1]


def found(folder: Path) -> list[tuple[str, int]]:
    return [(each.name, each.pid) for each in of_mesh(folder)]


@pytest.mark.parametrize("name", ["100% mine", "a folder"])
def test_a_mesh_is_found_by_what_its_processes_are(
    name: str, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    program, supervisord = program_of(children, folder, "dc-collector-1"), supervisord_of(children, folder)
    mesh = [("dc-collector-1", program.pid), ("supervisord", supervisord.pid)]
    wait_for(lambda: found(folder) == mesh, what="both")
    assert [each.pid for each in strays(folder)] == [program.pid]


def test_it_is_found_when_its_folder_was_moved_by_either_name(
    tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    folder, moved = tmp_path / "var", tmp_path / "moved"
    folder.mkdir()
    program = program_of(children, folder, "dc-collector-1")
    folder.rename(moved)
    folder.mkdir()  # something else by now
    for each in (folder, moved):
        wait_for(lambda each=each: found(each) == [("dc-collector-1", program.pid)], what=str(each))  # type: ignore[misc]
    assert found(tmp_path) == []


def test_it_is_found_when_its_folder_was_deleted(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    program = program_of(children, folder, "dc-collector-1")
    folder.rmdir()
    wait_for(lambda: found(folder) == [("dc-collector-1", program.pid)], what="the program")


def test_whoever_only_works_in_the_folder_or_names_it_is_not_of_the_mesh(
    tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    conf = str(tmp_path / "supervisord.conf")
    children.append(subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE, cwd=tmp_path))
    spawn(children, sys.executable, "-c", SLEEP, "supervisor.supervisorctl", "-c", conf)
    supervisord = supervisord_of(children, tmp_path)
    wait_for(lambda: found(tmp_path), what="one")
    assert found(tmp_path) == [("supervisord", supervisord.pid)]


def test_a_mesh_of_another_user_is_said_to_be_at_once_and_left_alone(
    tmp_path: Path,
    children: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    supervisord = supervisord_of(children, tmp_path)
    wait_for(lambda: found(tmp_path), what="supervisord")
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    for command in ("down", "up"):
        assert run([command, "--state-dir", str(tmp_path)]) == 1
        assert capsys.readouterr().err == (
            f"hitmesh: the mesh in {tmp_path} runs as {user} (supervisord (pid {supervisord.pid}))"
            " (run this command as that user)\n"
        )
    assert supervisord.poll() is None


def test_a_master_drains_its_worker_itself(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    worker = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print(flush=True)\n"
        "time.sleep(600)"
    )
    master = (
        "import signal, subprocess, sys, time\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {worker!r}])\n"
        "def stop(*_):\n"
        "    time.sleep(1)  # in which a signal would have ended the worker\n"
        "    told = worker.poll()\n"
        "    worker.kill()\n"
        "    sys.exit(9 if told is None else told)\n"
        "signal.signal(signal.SIGTERM, stop); time.sleep(600)"
    )
    child = spawn(children, sys.executable, "-c", master)
    assert child.stdout is not None
    child.stdout.readline()
    pids = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    family = [process(child.pid, "master"), *(process(int(pid), "worker") for pid in pids)]
    assert len(family) == 2
    assert end(family, within_s=PATIENCE_S) == []
    assert child.wait(PATIENCE_S) == 9


def test_processes_are_named_in_a_line() -> None:
    processes = [Process(7, "1", "dc-collector-1"), Process(8, "1", "dc-collector-1"), Process(9, "1", "supervisord")]
    assert named(processes) == "dc-collector-1 (pid 7 and 8), supervisord (pid 9)"
