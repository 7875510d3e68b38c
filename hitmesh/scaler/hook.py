"""The operator's program that is told when more instances are needed and every host is full: it may bring a new host.

Told on its standard input, as JSON, one run at a time, in a session of its own and within a bounded time. What it says
is logged, its first line; what becomes of it is nobody's business: a host that comes is seen by its scaler's heartbeats.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import gevent
import msgspec
from gevent import subprocess

from hitmesh.config import why_not_run
from hitmesh.hub.blocking import call_blocking
from hitmesh.mesh.duty import spawn
from hitmesh.state.standing import HOOK_MISSING, HOOKS_FAILED

MAX_KEPT_BYTES: Final = 4096  # of its output, the rest of which is thrown away
READ_BYTES: Final = 4096
MAX_LINE_CHARS: Final = 300
LOOK_S: Final = 10.0
REAP_S: Final = 5.0  # for the end of what was killed

log = logging.getLogger(__name__)


class Hook:
    """The program at `path`, empty: none; each run may take `timeout_s`."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        self.is_running = False
        self._why = ""  # it can't be run
        self._stopped = False
        self.runs = 0
        """How often it was run."""
        self.failures = 0
        """How often that ended otherwise than with 0, and with nothing left running."""

    def load(self) -> dict[str, float]:
        """The figures of heartbeats."""
        return {"hooks": self.runs, HOOKS_FAILED: self.failures, HOOK_MISSING: float(bool(self._why))}

    def start(self) -> None:
        """See now and then whether it could be run, so that it is known before it is needed."""
        if self._path:
            spawn("whether the scaler's hook is there", self._watch)

    def stop(self) -> None:
        """See no more."""
        self._stopped = True

    def look(self) -> None:
        """Whether it could be run; why not is logged once."""
        why = call_blocking(partial(why_not_run, self._path))
        if why and why != self._why:
            log.error("the hook %s %s", self._path, why, extra={"fields": {"hook": self._path}})
        self._why = why

    def _watch(self) -> None:
        while not self._stopped:
            self.look()
            gevent.sleep(LOOK_S)

    def run(self, told: Mapping[str, Any]) -> None:
        """Begin a run, unless one is under way; returns at once."""
        if self.is_running:
            return
        self.is_running = True
        self.runs += 1
        spawn("the scaler's hook", self._run, msgspec.json.encode(told) + b"\n")

    def _run(self, told: bytes) -> None:
        try:
            status, line = self._ran(told)
        except OSError as error:
            status, line = f"can't be run: {error.strerror}", ""
        finally:
            self.is_running = False
        is_fine = status == "ended with 0"
        self.failures += not is_fine
        level = logging.INFO if is_fine else logging.ERROR
        fields = {"hook": self._path, "status": status, "output": line}
        log.log(level, "the hook %s %s%s", self._path, status, f": {line}" if line else "", extra={"fields": fields})

    def _ran(self, told: bytes) -> tuple[str, str]:
        process = subprocess.Popen(
            [self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        kept = bytearray()
        ended = False
        timeout = gevent.Timeout(self._timeout_s)
        try:
            with timeout:
                with contextlib.suppress(BrokenPipeError):  # it needn't read what it is told
                    process.stdin.write(told)
                    process.stdin.close()
                while data := process.stdout.read(READ_BYTES):
                    kept += data[: max(0, MAX_KEPT_BYTES - len(kept))]
                process.wait()
                ended = True
        except gevent.Timeout as late:
            if late is not timeout:
                raise
        finally:
            ended_itself = process.poll() is not None
            with contextlib.suppress(ProcessLookupError, PermissionError):  # what it has left running goes with it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(REAP_S)
            process.stdout.close()
        if not ended_itself:
            status = f"was killed: it took more than {self._timeout_s:g} s"
        elif not ended:  # its output was still open, so somebody had it
            status = f"ended with {process.returncode}, and what it left with its output was killed after {self._timeout_s:g} s"
        else:
            status = f"ended with {process.returncode}"
        lines = kept.decode("utf-8", "replace").splitlines()
        return status, lines[0][:MAX_LINE_CHARS] if lines else ""
