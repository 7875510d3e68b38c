"""Processes by id, safely: whether one lives, ending it, and those that a dead supervisord left.

A process id alone is reused by the kernel, so a process is its id and its start time. Nothing is
found by its name: a stray is a process of this user whose whole command line is that of a
program in the folder's supervisord.conf.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import shlex
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

POLL_S = 0.05
KILL_WAIT_S = 5.0  # that a killed process gets to disappear


class Process(Struct, frozen=True):
    """One process, told apart from a later one with the same id."""

    pid: int
    started: str  # in the kernel's clock ticks since boot
    name: str  # for people

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.started != "" and started(self.pid) == self.started


def process(pid: int, name: str) -> Process:
    """The process that has this id now."""
    return Process(pid, started(pid), name)


def started(pid: int) -> str:
    """When the process began; empty when it is gone, or dead and not yet collected by its parent."""
    try:
        # The command's name, in parentheses, may hold spaces: fields count from behind it.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def end(processes: Iterable[Process], within_s: float) -> list[Process]:
    """SIGTERM, then SIGKILL for those that are left; returns these."""
    left = [each for each in processes if each.is_alive()]
    _send(left, signal.SIGTERM)
    left = _wait(left, within_s)
    _send(left, signal.SIGKILL)
    _wait(left, KILL_WAIT_S)
    return left


def strays(conf: Path) -> list[Process]:
    """Processes whose command line is that of a program of this supervisord.conf."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    try:
        parser.read_string(conf.read_text(encoding="utf-8"))
    except (OSError, configparser.Error, UnicodeDecodeError):
        return []
    commands = {
        tuple(shlex.split(parser[section]["command"].replace("%%", "%"))): section.partition(":")[2]
        for section in parser.sections()
        if section.startswith("program:")
    }
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if entry.stat().st_uid != os.getuid():
                continue
            arguments = tuple(os.fsdecode(part) for part in (entry / "cmdline").read_bytes().split(b"\0")[:-1])
            if arguments in commands:
                found.append(process(int(entry.name), commands[arguments]))
    return sorted((each for each in found if each.started), key=lambda each: (each.name, each.pid))


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
