"""The check of a virtual IP, beside a balancer: looks at what it says of itself, and tells keepalived by a file.

Knows nothing of HTTP and of configurations. When it ends its last word stays, so that to start it again costs nobody
an address; but the file's time of change is renewed only as long as it runs, and of that keepalived has a second,
slower check.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Final

from balancer.vip import word
from balancer.vip.judging import Judge
from balancer.vip.place import is_here
from hitmesh.logs import Complaints

LOOK_S: Final = 0.05  # between two looks: some 0.1 ms of work
RENEW_S: Final = 0.5  # between two signs of life

log = logging.getLogger(__name__)
_complaints = Complaints(log)


class TrackFile:
    """What keepalived reads: a number. Replaced as a whole, and only when it is another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number: int | None = None
        self._renewed_at = 0.0

    def tell(self, number: int, now: float) -> None:
        """The number is this."""
        if number == self._number and now - self._renewed_at < RENEW_S:
            return
        self._renewed_at = now
        if number == self._number:
            with contextlib.suppress(FileNotFoundError):  # removed by hand: it is written again
                os.utime(self._path)
                return
        new = self._path.with_name(self._path.name + ".new")
        try:
            new.write_text(f"{number}\n")
            new.rename(self._path)
        except OSError as error:  # keepalived takes it for our end, soon
            _complaints.warn("unwritten", "can't tell keepalived: %s: %s", self._path, error.strerror)
            return
        log.info("tells keepalived %+d", number)
        self._number = number


def run(*, said: Path, track: Path, address: str, is_sticky: bool) -> None:
    """Look and tell for ever."""
    file, judge = TrackFile(track), Judge(is_sticky=is_sticky)
    while True:
        found = word.read(said)
        now = time.monotonic()  # after every beat that was read
        alive = found is not None and _is_alive(found.pid)
        file.tell(judge.look(found, is_alive=alive, is_here=is_here(address), now=now), now)
        time.sleep(LOOK_S)


def _is_alive(pid: int) -> bool:
    """Whether the process lives: one that has ended, and that nobody has collected, doesn't."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in ("Z", "X")
