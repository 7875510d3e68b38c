"""`fab` as an operator calls it: in a checkout, with the datacenters' files in a folder and the bed's ssh."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hitmesh.deploy.release import FILES, FOLDERS
from tests.hosts.bed import REPOSITORY, Bed

FAB: Final = Path(sys.executable).parent / "fab"
FAB_S: Final = 900.0  # of a task, on a busy machine


class Fab:
    """The operator's command."""

    def __init__(self, bed: Bed, config: Path, var: Path, *, checkout: Path = REPOSITORY, **environment: str) -> None:
        self._bed, self._config, self._var, self.checkout = bed, config, var, checkout
        self._environment = environment

    def of(self, checkout: Path, **environment: str) -> Fab:
        """The same in another checkout, with these variables."""
        return Fab(self._bed, self._config, self._var, checkout=checkout, **environment)

    def start(self, task: str, **environment: str) -> subprocess.Popen[str]:
        """Start `fab TASK`, whose output and errors are to be read; in a session of its own."""
        return subprocess.Popen(
            self.command(task),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.checkout,
            env={**self._bed.environment, **self._environment, **environment},
            start_new_session=True,
        )

    def run(self, task: str, tell: Callable[[str], None] = lambda _: None) -> tuple[int, str]:
        """Its status and what it said, all of it; each line is told when it comes."""
        # What it leaves when it is killed is removed. A short name: the sockets of ssh's connections are below.
        with (
            tempfile.TemporaryDirectory(prefix="hm-fab-", ignore_cleanup_errors=True) as temporary,
            self.start(task, TMPDIR=temporary) as process,
        ):
            patience = threading.Timer(FAB_S, self.kill, [process])
            patience.start()
            said = []
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    said.append(line)
                    tell(line.rstrip())
            except BaseException:
                self.kill(process)
                raise
            finally:
                patience.cancel()
        return process.returncode, "".join(said)

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        """SIGKILL it, and what it has started here."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def command(self, task: str) -> list[str]:
        """The command line."""
        folders = f"config={self._config},var={self._var}"
        return [str(FAB), "--ssh-config-path", str(self._bed.ssh_config), "--set", folders, task]


def copy_checkout(to: Path, version: str) -> Path:
    """A checkout of another version, from which `fab` deploys that."""
    to.mkdir(parents=True)
    for name in (*FILES, "fabfile.py"):
        (to / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, to / name)
    for name in FOLDERS:
        shutil.copytree(REPOSITORY / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = to / "hitmesh/__init__.py"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f'__version__ = "{version}"' if "__version__" in line else line for line in lines) + "\n")
    return to
