"""Processes: whether one lives, ending it, and those of a mesh, found by what they are.

A process id alone is reused by the kernel, so a process is its id and its start time. Whatever `hitmesh up`
starts has its state folder's path in its environment, and works in that folder, so it is found when the folder
was moved or deleted, and when supervisord is dead. Nothing is found by its name, and nothing by a file.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from hitmesh.cli.options import CONF_NAME

POLL_S = 0.05
KILL_WAIT_S = 5.0  # that a killed process gets to disappear
MARK = "HITMESH_STATE_DIR"  # in the environment of all that `hitmesh up` starts: its state folder
SUPERVISORD = "supervisord"
_PROGRAM = "SUPERVISOR_PROCESS_NAME"  # there by supervisord: which program of its configuration this is


class Process(Struct, frozen=True):
    """One process, told apart from a later one with the same id."""

    pid: int
    started: str  # in the kernel's clock ticks since boot
    name: str  # for people

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.started != "" and started(self.pid) == self.started

    def owner(self) -> str:
        """The user that it runs as, where that isn't us and we may not end it; otherwise empty."""
        try:
            uid = Path(f"/proc/{self.pid}").stat().st_uid
        except OSError:
            return ""
        if os.geteuid() in (0, uid):
            return ""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"


def process(pid: int, name: str) -> Process:
    """The process that has this id now."""
    return Process(pid, started(pid), name)


def started(pid: int) -> str:
    """When the process began; empty when it is gone, or dead and not yet collected by its parent."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else ""


def end(processes: Iterable[Process], within_s: float) -> list[Process]:
    """SIGTERM, then SIGKILL for those that are left; returns these.

    A worker whose master is among them isn't told: the master drains it, and a second signal would end it.
    """
    left = [each for each in processes if each.is_alive()]
    pids = {str(each.pid) for each in left}
    _send([each for each in left if not pids.intersection(_stat(each.pid)[1:2])], signal.SIGTERM)
    left = _wait(left, within_s)
    _send(left, signal.SIGKILL)
    _wait(left, KILL_WAIT_S)
    return left


def of_mesh(state_dir: Path) -> list[Process]:
    """Every process that was started from this state folder: supervisord, named SUPERVISORD, and what it ran.

    Of another user's only supervisord is seen. `state_dir` is absolute; it need not be there. While it is,
    nobody but us, its owner and root can make a process that is taken for one of them.
    """
    try:
        there = state_dir.stat()
    except OSError:
        there = None
    users = {0, os.geteuid(), there.st_uid} if there else None
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has just ended
            if users is not None and entry.stat().st_uid not in users:
                continue
            words = [os.fsdecode(word) for word in (entry / "cmdline").read_bytes().split(b"\0")[:-1]]
            name, folder = _mark(entry) or _of_command(words)
            if folder is None or not (folder == str(state_dir) or (there and _works_in(entry, there))):
                continue
            found.append(process(int(entry.name), name))
    return sorted((each for each in found if each.started), key=lambda each: (each.name, each.pid))


def strays(state_dir: Path) -> list[Process]:
    """Those that supervisord started, whether it is alive or not."""
    return [each for each in of_mesh(state_dir) if each.name != SUPERVISORD]


def named(processes: Iterable[Process]) -> str:
    """Processes for people, in a line; those of one program together."""
    pids: dict[str, list[str]] = {}
    for each in processes:
        pids.setdefault(each.name, []).append(str(each.pid))
    return ", ".join(f"{name} (pid {' and '.join(found)})" for name, found in pids.items())


def _mark(entry: Path) -> tuple[str, str] | None:
    """The program and the state folder in a process's environment; None where there is none, or it is hidden."""
    try:
        words = (os.fsdecode(word).partition("=") for word in (entry / "environ").read_bytes().split(b"\0"))
    except OSError:
        return None
    environment = {name: value for name, _, value in words if name in (MARK, _PROGRAM)}
    return (environment.get(_PROGRAM, SUPERVISORD), environment[MARK]) if MARK in environment else None


def _of_command(words: Sequence[str]) -> tuple[str, str | None]:
    """The same by a supervisord's command line, which everybody may read."""
    # `python -m PACKAGE.supervisord`, or a script of this name.
    is_one = any(re.split("[./]", word)[-1] == SUPERVISORD for word in words)
    options = pairwise(words) if is_one else ()
    confs = (Path(value) for option, value in options if option == "-c")
    return SUPERVISORD, next((str(conf.parent) for conf in confs if conf.name == CONF_NAME), None)


def _works_in(entry: Path, there: os.stat_result) -> bool:
    """Whether a process works in this folder, whatever it is called by now."""
    try:
        return os.path.samestat((entry / "cwd").stat(), there)
    except OSError:
        return False


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on; empty when it is gone."""
    try:
        # The command's name, in parentheses, may hold spaces: fields count from behind it.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _send(processes: Iterable[Process], number: int) -> None:
    for each in processes:
        if each.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, number)


def _wait(processes: Iterable[Process], within_s: float) -> list[Process]:
    deadline = time.monotonic() + within_s
    while (left := [each for each in processes if each.is_alive()]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left
