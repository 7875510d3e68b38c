"""The watchdog of a process: a native thread that sees whether its hub runs and its dues come to an end.

Owns the thread and its clock. A process that is late says so (`late`); one in which something is hopeless
ends with EXIT_BROKEN, for supervisor to start another: what it had accepted is in the spool.

Invariants:
- The thread takes no lock and waits for nobody, so it goes on whatever hangs.
- Its clock counts only the time that it was awake: a process that was stopped for an hour isn't late.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import gevent
from gevent.monkey import get_original

from hitmesh.logs import as_line
from hitmesh.mesh.duty import EXIT_BROKEN, spawn
from hitmesh.state.dues import Dues

STEP_S: Final = 0.5  # between two looks


class Watchdog:
    """Of one process. Made before a fork, started after it."""

    def __init__(self) -> None:
        self._dues = Dues()
        self._now_s = 0.0  # the thread's clock
        self._stopped = False

    def start(self) -> None:
        """Begin to watch."""
        spawn("watchdog's hub", self._run_in_hub)
        get_original("_thread", "start_new_thread")(self._watch, ())

    def stop(self) -> None:
        """Watch no more."""
        self._stopped = True

    @contextmanager
    def expect(self, what: str) -> Iterator[None]:
        """What is done within must come to an end; `what` says it in words that don't change."""
        due = self._dues.begin(what, self._now_s)
        try:
            yield
        finally:
            self._dues.end(due)

    def late(self) -> str:
        """Why this process fails to do its work; empty when it does it."""
        return self._dues.late(self._now_s)

    def _run_in_hub(self) -> None:
        while not self._stopped:
            with self.expect("a turn of the hub"):
                gevent.sleep(STEP_S)

    def _watch(self) -> None:
        sleep = get_original("time", "sleep")
        before_s = time.monotonic()
        while not self._stopped:
            sleep(STEP_S)
            now_s = time.monotonic()
            self._now_s += min(now_s - before_s, 2 * STEP_S)
            before_s = now_s
            sys.stderr.flush()  # what nobody read a moment ago
            if hopeless := self._dues.hopeless(self._now_s):
                # Not through the log's handlers, whose locks may be held by what hangs.
                sys.stderr.write(as_line(__name__, f"{hopeless}; ending the process"))
                os._exit(EXIT_BROKEN)
