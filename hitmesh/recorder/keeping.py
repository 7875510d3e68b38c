"""Writes what a recorder has taken into its volumes. Owns the order of it and what is said when that fails.

Invariants:
- A disk that hangs or is full holds up nobody but this greenlet: what waits meanwhile is bounded (hitmesh.recorder.pending).
- It says so: in the instance's state, in a figure, in its log; and goes on by itself.
"""

from __future__ import annotations

import errno
import logging
import time
from typing import Final

import gevent
from gevent.event import Event

from hitmesh.hub.blocking import call_blocking
from hitmesh.logs import Complaints
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.recorder.blocks import Recorded
from hitmesh.recorder.pending import Pending
from hitmesh.recorder.volumes import Volumes
from hitmesh.state.standing import ENTRIES_DROPPED

FLUSH_S: Final = 2.0  # what is lost with a process that is killed; and how old a line is before anybody can read it
RETRY_S: Final = 2.0  # after a write that failed
URGENT_BYTES: Final = 512 * 1024  # half a block: it isn't waited for longer

log = logging.getLogger(__name__)


class Keeping:
    """Of one recorder."""

    def __init__(self, name: str, volumes: Volumes, watchdog: Watchdog) -> None:
        self._pending = Pending(name)
        self._volumes = volumes
        self._watchdog = watchdog
        self._urgent = Event()
        self._complaints = Complaints(log)
        self._stopping = False
        self._writer: gevent.Greenlet[[], None] | None = None
        self.failing = ""
        """Why nothing can be written; empty when it can."""

    def take(self, message: Recorded, data: bytes = b"") -> None:
        """Keep a message. Never waits."""
        self._pending.add(message, data)
        if self._pending.size_bytes > URGENT_BYTES:
            self._urgent.set()

    def load(self) -> dict[str, float]:
        """Figures for the heartbeat."""
        return {
            ENTRIES_DROPPED: self._pending.dropped,
            "volumes_bytes": self._volumes.total_bytes,
            "cannot_write": float(bool(self.failing)),
        }

    def run(self) -> None:
        """Write until `stop`."""
        self._writer = gevent.getcurrent()  # type: ignore[assignment]
        while not self._stopping:
            self._urgent.wait(RETRY_S if self.failing else FLUSH_S)
            self._urgent.clear()
            self._write_all()
            if self.failing and not self._stopping:
                gevent.sleep(RETRY_S)  # however much comes

    def stop(self, within_s: float) -> None:
        """Write what there is, and no more."""
        self._stopping = True
        self._urgent.set()
        if self._writer is not None:
            self._writer.join(within_s)
        self._volumes.close()

    def _write_all(self) -> None:
        while len(self._pending):
            items = self._pending.batch()
            try:
                with self._watchdog.expect("a write of a volume"):
                    call_blocking(lambda items=items: self._volumes.write(items, time.time()))  # type: ignore[misc]
            except OSError as error:
                self._pending.failed(_why(error))
                self.failing = f"its volumes can't be written: {_why(error)}"
                self._complaints.warn("write", "%s; what comes waits, and is dropped when it is too much", self.failing)
                return
            self._pending.kept()
            if self.failing:
                self.failing = ""
                log.warning("its volumes can be written again; %d entries were dropped so far", self._pending.dropped)


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return error.strerror or str(error)
