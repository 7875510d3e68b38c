"""A program of the operator's that is run for something that happened: told on its stdin, one run after the other.

Owns the process: its bound in time, and what is said of one that fails. It must not know what it is told.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from typing import Final

from hitmesh.cli.stderr import warn
from hitmesh.errors import CommandError

REAP_S: Final = 5.0  # for the end of what was killed


class Program:
    """`command` is a program with its arguments, written as for a shell; each run may take `timeout_s`."""

    def __init__(self, command: str, timeout_s: float) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise CommandError(f"--exec {command!r}: {error}") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise CommandError(f"--exec {command!r}: there is no such program that can be run")
        self._timeout_s = timeout_s

    def run(self, text: str, what: str) -> None:
        """Run it with this text on its stdin, and return when it has ended; a failure is said, with `what` it was about.

        It is in a session of its own: a Ctrl-C at the terminal is ours, and who is run may finish. KeyboardInterrupt
        passes when it has ended; a second one kills it.
        """
        try:
            process = subprocess.Popen(self._words, stdin=subprocess.PIPE, start_new_session=True)
        except OSError as error:
            warn(f"{self._words[0]} can't be run for {what}: {error.strerror}")
            return
        try:
            try:
                self._finish(process, text)
            except KeyboardInterrupt:
                self._finish(process, None)
                raise
        except subprocess.TimeoutExpired:
            warn(f"{self._words[0]} was killed: it took more than {self._timeout_s:g} s for {what}")
            return
        finally:
            _end(process)
        if process.returncode:
            warn(f"{self._words[0]} failed for {what}: {_words_of(process.returncode)}")

    def _finish(self, process: subprocess.Popen[bytes], text: str | None) -> None:
        process.communicate(None if text is None else text.encode(), timeout=self._timeout_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, with all that it has started in its session, unless it has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(REAP_S)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _words_of(status: int) -> str:
    return f"status {status}" if status > 0 else f"killed by {signal.Signals(-status).name}"
