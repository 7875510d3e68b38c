"""Real servers for the tests: started on free loopback ports, in folders of their own, and stopped.

`require` decides what a missing program means: a skip with the reason at home, a failure
under CI=true.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import pytest

T = TypeVar("T")

# What only ends a hopeless wait is far beyond what a busy machine needs; it costs nothing when all goes well.
PATIENCE_S = 30.0
START_S = 60.0  # of a server, which imports, elects a leader, finds the others
STOP_S = 20.0


def require(program: str) -> str:
    """The path of `program`; without it the test is skipped, or fails under CI=true."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")
    return found or without(f"{program} is not installed; scripts/install-services does it")


def without(reason: str) -> NoReturn:
    """Skip the test for what this machine lacks; under CI=true it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def require_ipv6() -> None:
    """Without IPv6's loopback the test is skipped, or fails under CI=true."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        without("this machine has no ::1")


# As hitmesh's users have none. It stays who it is, and so may still read what it needs.
WITHOUT_RIGHTS: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


# Above those that the kernel gives to outgoing connections: one that is to be bound in a while isn't taken by any.
PORTS = range(61_000, 65_536)
_given: set[int] = set()


def free_port() -> int:
    """A TCP port that the kernel calls free on loopback, and that this process wasn't given for long.

    Tests run in several processes (pytest-xdist's workers): each takes ports of its own remainder, so
    that none is given out twice before it is bound.
    """
    mine = [port for port in PORTS if port % WORKERS == WORKER]
    if len(_given) > len(mine) / 2:
        _given.clear()
    mine = [port for port in mine if port not in _given]
    random.SystemRandom().shuffle(mine)  # there may be other runs on this machine
    for port in mine:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise AssertionError("no port is free")


def wait_for(condition: Callable[[], T], *, within_s: float = PATIENCE_S, what: str = "the condition") -> T:
    """The first true answer of `condition`; an AssertionError with `what` when none came in time."""
    deadline = time.monotonic() + within_s
    while True:
        asked = time.monotonic()
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within_s} s for {what}; last answer: {answer!r}")
        # Whoever asks by a command, a process, doesn't do so all the time: what is waited for needs the CPU.
        time.sleep(max(0.02, time.monotonic() - asked))


class Server:
    """One server process with its folder and its log."""

    name = "server"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line, the program first."""
        raise NotImplementedError

    def is_up(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it (again, with the same folder and port) and wait until it answers."""
        assert self.process is None, f"{self.name} runs already"
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(self._up_or_dead, within_s=START_S, what=f"{self.name} to answer")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}; its log: {self.log()[-2000:]}") from error

    def _up_or_dead(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}")
        return self.is_up()

    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; nothing is left behind, and nothing that was stopped by a signal is waited for."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
