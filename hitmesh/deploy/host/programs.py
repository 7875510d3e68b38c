"""The programs of a host under its supervisord: started and stopped one by one, never by a file that changes.

Whatever a program's file says counts from its next start: `start` has supervisord read its files anew, and takes a
stopped program up as its file is then.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from hitmesh.cli.supervision import Supervisor
from hitmesh.deploy.facts import Running
from hitmesh.deploy.host.machine import Machine
from hitmesh.deploy.host.rules import check_instance, program_values
from hitmesh.deploy.paths import LOGS, STATE, program_path
from hitmesh.errors import CommandError
from hitmesh.supervisord import ENDED, Supervised

START_S: Final = 30.0  # that supervisord has to start a program: startsecs is 1
STOP_S: Final = 30.0  # beyond the program's own stopwaitsecs
POLL_S: Final = 0.1
MAX_LINES: Final = 10_000
MAX_LOG_BYTES: Final = 1024 * 1024  # of the end of a log


class State(Struct, frozen=True):
    """A program after it was told something."""

    state: str
    pid: int
    why: str = ""


class Programs:
    """The programs of one datacenter here."""

    def __init__(self, machine: Machine, dc: str) -> None:
        self._machine, self._dc = machine, dc
        self._supervisor = Supervisor(machine.at(STATE))

    def running(self) -> list[Running] | None:
        """Each program; None when supervisord doesn't answer."""
        programs = self._supervisor.programs()
        if programs is None:
            return None
        return [
            Running(name=one.name, state=one.state, pid=one.pid, uptime_s=one.uptime_s, why=one.why)
            for one in programs
            if one.dc == self._dc
        ]

    def reread(self) -> None:
        """Have supervisord look at its files; nothing starts or stops by that. Raises CommandError."""
        if self._supervisor.programs() is not None:
            self._supervisor.reload()

    def signal(self, role: str, name: str) -> None:
        """Send those programs of a role that run a signal. Raises CommandError."""
        for one in self._supervisor.programs() or ():
            if one.dc == self._dc and one.role == role and one.pid:
                self._supervisor.signal(one.full_name, name)

    def start(self, instance: str) -> State:
        """Start a program that is stopped, as its file has it now. Raises CommandError."""
        check_instance(instance)
        self._values(instance)  # it must be there
        self._answering()
        found = self._find(instance)
        name = f"{self._dc}-{instance}"
        if found is None or found.state in ENDED:
            self._supervisor.reload()
            self._supervisor.remove(name)
            self._supervisor.add(name)
        return self._wait(instance, START_S, lambda one: one.state not in ("STARTING", "STOPPED"))

    def stop(self, instance: str) -> State:
        """Stop a program, as gently as its file says. Raises CommandError."""
        check_instance(instance)
        self._answering()
        name = f"{self._dc}-{instance}"
        if self._find(instance) is None:
            return State("STOPPED", 0)
        wait_s = STOP_S
        with contextlib.suppress(CommandError):  # its file may be gone
            wait_s += float(self._values(instance).get("stopwaitsecs", "10"))
        killed = self._supervisor.stop_programs([name], time.monotonic() + wait_s)
        found = self._find(instance)
        if found and found.state not in ENDED:
            raise CommandError(f"{name} doesn't stop: {found.state}", hint="its log says more")
        if self._machine.read(program_path(self._dc, instance)) is None:
            self._supervisor.reload()
            self._supervisor.remove(name)
        return State("STOPPED", 0, "it had to be killed" if killed else "")

    def restart(self, instance: str) -> State:
        """Stop and start. Raises CommandError."""
        check_instance(instance)
        self._values(instance)  # before anything is stopped
        stopped = self.stop(instance)
        started = self.start(instance)
        return State(started.state, started.pid, started.why or stopped.why)

    def log(self, instance: str, count: int) -> list[str]:
        """The last lines of a program's log. Raises CommandError."""
        check_instance(instance)
        path = self._machine.at(f"{LOGS}/{self._dc}-{instance}.log")
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - MAX_LOG_BYTES))
                text = file.read(MAX_LOG_BYTES).decode(errors="replace")
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        return text.splitlines()[-min(max(count, 1), MAX_LINES) :]

    def _answering(self) -> None:
        if self._supervisor.programs() is None:
            raise CommandError(
                "supervisord doesn't answer", hint="`hitmesh-boot` starts it, and so does `fab bootstrap`"
            )

    def _find(self, instance: str) -> Supervised | None:
        programs = self._supervisor.programs() or ()
        return next((one for one in programs if one.full_name == f"{self._dc}-{instance}"), None)

    def _values(self, instance: str) -> dict[str, str]:
        path = program_path(self._dc, instance)
        text = self._machine.read(path)
        if text is None:
            raise CommandError(f"there is no program {instance} here", hint=f"{path} isn't there")
        return program_values(text.decode(errors="replace"), f"{self._dc}-{instance}")

    def _wait(self, instance: str, within_s: float, is_done: Callable[[Supervised], bool]) -> State:
        deadline = time.monotonic() + within_s
        while True:
            found = self._find(instance)
            if found and is_done(found):
                return State(found.state, found.pid, found.why)
            if time.monotonic() > deadline:
                return State(found.state if found else "UNKNOWN", found.pid if found else 0, "it takes long")
            time.sleep(POLL_S)
