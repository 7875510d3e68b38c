"""How full the disk is on which a role keeps its things, for its heartbeats: whoever watches a mesh sees every host's.

A disk that hangs holds up nobody: it is asked in another thread, once, and until it answers what it said last stands.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

import gevent

from hitmesh.hub.blocking import call_blocking
from hitmesh.state.standing import DISK_USED

ASK_S: Final = 5.0  # between two questions


class Measured(NamedTuple):
    """What a disk says of itself."""

    used: (
        float  # the share that is used of what this user may use, in hundredths: each change is told to the whole mesh
    )
    free_bytes: int


class Room:
    """Of the disk that `folder` is on; a folder that isn't there yet says nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: Measured | None = None
        self._asked_s = float("-inf")
        self._is_asking = False

    def look(self) -> Measured | None:
        """What it said last; None: it can't be told. Ask it again now and then."""
        now = time.monotonic()
        if now - self._asked_s >= ASK_S and not self._is_asking:
            self._asked_s, self._is_asking = now, True
            gevent.spawn(self._ask)
        return self._last

    def load(self) -> dict[str, float]:
        """The figure of heartbeats."""
        last = self.look()
        return {} if last is None else {DISK_USED: last.used}

    def _ask(self) -> None:
        try:
            self._last = call_blocking(lambda: measured(self._folder))
        finally:
            self._is_asking = False


def measured(folder: Path) -> Measured | None:
    """How full a folder's disk is; None: it can't be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    room = found.f_bavail + found.f_blocks - found.f_bfree
    return Measured(round(1 - found.f_bavail / room, 2), found.f_bavail * found.f_frsize) if room else None
