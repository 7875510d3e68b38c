"""How full the disk is on which a role keeps its things, for its heartbeats: whoever watches a mesh sees every host's.

A disk that hangs holds up nobody: it is asked in another thread, and until it answers what it said last stands.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import gevent

from hitmesh.hub.blocking import call_blocking
from hitmesh.state.standing import DISK_USED

ASK_S: Final = 5.0  # between two questions


class Room:
    """Of the disk that `folder` is on; a folder that isn't there yet says nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: float | None = None
        self._asked_s = float("-inf")

    def load(self) -> dict[str, float]:
        """The share that is used of what this user may use, in hundredths: each change is told to the whole mesh."""
        now = time.monotonic()
        if now - self._asked_s >= ASK_S:
            self._asked_s = now
            gevent.spawn(self._ask)
        return {} if self._used is None else {DISK_USED: self._used}

    def _ask(self) -> None:
        self._used = call_blocking(lambda: used_share(self._folder))


def used_share(folder: Path) -> float | None:
    """The share of a folder's disk that is used, in hundredths; None: it can't be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    room = found.f_bavail + found.f_blocks - found.f_bfree
    return round(1 - found.f_bavail / room, 2) if room else None
