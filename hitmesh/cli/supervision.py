"""The supervisord of a mesh on this machine: started and stopped, with all that it runs.

Owns no decision about what runs: that is its configuration.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hitmesh.cli import folder
from hitmesh.cli.processes import KILL_WAIT_S, MARK, SUPERVISORD, Process, end, named, of_mesh, strays
from hitmesh.errors import CommandError
from hitmesh.supervisord import ENDED, NO_ANSWER, Supervised, Supervisord, split_name

POLL_S = 0.05  # each question also wakes supervisord, which otherwise looks once a second
LOG_BYTES = 64 * 1024  # of the end of its log: some 600 lines
# Roles in the order they stop; the ones of a line stop together. Unknown ones go first. A scaler would start others.
STOP_ORDER = (
    ("scaler",),
    ("dashboard", "balancer"),
    ("collector",),
    ("processor",),
    ("recorder",),
    ("nexus",),
    ("beanstalkd", "consul"),
)


class Stopped(NamedTuple):
    """What became of a mesh that was stopped; all by their names."""

    killed: list[str]
    """Those that didn't end when they were told to."""
    left: list[str]
    """Those that supervisord had left running, since it was killed itself, and that ended when they were told to."""


class Supervisor(Supervisord):
    """The supervisord of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(self._where)
        self._state_dir = state_dir
        self._socket: Path | None = None  # once known

    def pid(self) -> int | None:
        """Its process id, or None when it doesn't run."""
        return next((each.pid for each in self.processes() if each.name == SUPERVISORD), None)

    def processes(self) -> list[Process]:
        """Itself and whatever it has started, by what they are: its files may be gone, and it too busy to answer."""
        return of_mesh(self._state_dir)

    def running(self) -> set[str]:
        """The datacenters that have a process. Where none has, a Nexus that answers is another mesh's."""
        programs = self.programs()
        if programs is None:
            return {split_name(each.name)[0] for each in self.strays()}
        return {each.dc for each in programs if each.pid}

    def start(self, program: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start supervisord in a session of its own; it starts its programs at once."""
        command = [program, "-m", "hitmesh.cli.supervisord", "-c", str(folder.conf_path(self._state_dir))]
        self._socket = None
        with (self._state_dir / "log" / "supervisord.out").open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is ours, not its
                env={**environment, MARK: str(self._state_dir)},
                cwd=self._state_dir,  # by which it is found when that was moved
            )

    def stop(self, within_s: float, told: Callable[[str], None]) -> Stopped:
        """Stop the roles in order, then supervisord, and wait until all are gone.

        `told` hears what is being stopped. Raises CommandError when any goes on.
        """
        deadline = time.monotonic() + within_s
        ended: list[Process] = []
        killed: list[str] = []
        self.check_owner()
        supervisords = [each for each in self.processes() if each.name == SUPERVISORD]
        programs = self.programs()
        if supervisords and programs is not None:
            for batch in _batches(programs):
                told(", ".join(sorted(each.full_name for each in batch)))
                killed += self.stop_programs([each.full_name for each in batch], deadline)
            with contextlib.suppress(*NO_ANSWER):
                self.call("shutdown")
            while all(each.is_alive() for each in supervisords) and time.monotonic() < deadline:
                self.programs()  # its answer doesn't matter: the question wakes it
                time.sleep(POLL_S)
        supervisords = [each for each in supervisords if each.is_alive()]
        if supervisords and programs is None:
            told(f"{named(supervisords)}, whose socket doesn't answer, and what it runs")
        # Before their children: they would start again what they see die. Told by a signal, they stop them in order.
        ended += end(supervisords, 0.0 if programs is not None else within_s)
        left = self.strays()
        deaf = end(left, max(KILL_WAIT_S, deadline - time.monotonic()))
        if still := self.processes():
            raise CommandError(f"still running: {named(still)}", hint="`hitmesh down` again goes on")
        for path in (folder.socket_path(self._state_dir), folder.pid_path(self._state_dir)):
            if path is not None:
                path.unlink(missing_ok=True)
        killed += [each.name for each in [*ended, *deaf]]
        return Stopped(sorted({*killed}), sorted({each.name for each in left} - {*killed}))

    def strays(self) -> list[Process]:
        """Processes of its programs that run, whoever their parent is."""
        return strays(self._state_dir)

    def check_owner(self) -> None:
        """Raise CommandError when it runs as a user whose processes we can't end."""
        for each in self.processes():
            if user := each.owner():
                raise CommandError(
                    f"the mesh in {self._state_dir} runs as {user} ({named([each])})",
                    hint="run this command as that user",
                )

    def stop_programs(self, names: Sequence[str], deadline: float) -> list[str]:
        """Stop programs, and wait until they have ended or the deadline (monotonic) has passed; who had to be killed."""
        pids = {each.full_name: each.pid for each in self.programs() or () if each.full_name in names}
        for name in names:
            # Not running, or supervisord is going down already: both are what we want.
            with contextlib.suppress(*NO_ANSWER):
                self.call("stopProcess", name, False)
        while time.monotonic() < deadline:
            programs = self.programs()
            if programs is None or all(each.state in ENDED for each in programs if each.full_name in names):
                break
            time.sleep(POLL_S)
        return self._killed(pids)

    def _killed(self, pids: Mapping[str, int]) -> list[str]:
        """Those of these programs that were killed as these processes: only supervisord's log says so."""
        try:
            log = self.call("readLog", -LOG_BYTES, 0)
        except NO_ANSWER:
            return []
        return [name for name, pid in pids.items() if f"killing '{name}' ({pid}) with SIGKILL" in log]

    def _where(self) -> Path | None:
        self._socket = self._socket or folder.socket_path(self._state_dir)
        return self._socket


def _batches(programs: Sequence[Supervised]) -> list[list[Supervised]]:
    """Programs in the order they stop, those that stop together in one list."""
    ranks = {role: rank for rank, roles in enumerate(STOP_ORDER, start=1) for role in roles}
    by_rank: dict[int, list[Supervised]] = {}
    for program in programs:
        by_rank.setdefault(ranks.get(program.role, 0), []).append(program)
    return [by_rank[rank] for rank in sorted(by_rank)]
