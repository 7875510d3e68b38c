"""What a balancer says of itself to the check of its virtual IP: a small file, written by its master and workers.

Owns the layout, which the check of another version must understand: what comes later goes behind it. Its user alone
may read and write it. Times are of the monotonic clock, which all processes of a host share.

    head at 0     magic, the master's pid, how many workers there are, how far it has left
    beat at 32+   for each worker 16 bytes: when it last said so, and when it last had an answer from a collector
"""

from __future__ import annotations

import contextlib
import logging
import os
from enum import IntEnum
from pathlib import Path
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

TICK_S: Final = 0.05
"""Between two beats of a worker; they cost it some microseconds."""
MAX_WORKERS: Final = 64  # as balancer.workers

log = logging.getLogger(__name__)
_MAGIC: Final = b"hitmvip1"
_HEAD: Final = Layout("=8sIIB")
_BEAT: Final = Layout("=dd")
_BEATS_AT: Final = 32


class Stage(IntEnum):
    """How far a balancer has got, which may have been told to end."""

    SERVES = 0
    LEAVES = 1  # it takes clients, each for one request
    GONE = 2  # the address is to be another's


class Beat(Struct, frozen=True):
    """One worker's word."""

    at: float
    reached_at: float


class Said(Struct, frozen=True):
    """All of it."""

    pid: int  # of the master
    stage: Stage
    beats: tuple[Beat, ...]  # of the workers that there are to be


class Word:
    """The file, for those who write it. One that can't be written is silence, which the check understands."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.error("nothing can be said of the virtual IP: %s: %s", path, error.strerror)

    def tell(self, *, workers: int, stage: Stage) -> None:
        """The master's word."""
        self._write(_HEAD.pack(_MAGIC, os.getpid(), workers, stage), 0)

    def stage(self) -> Stage:
        """What the master said last."""
        with contextlib.suppress(OSError, ValueError):
            head = os.pread(self._fd, _HEAD.size, 0)
            return Stage(head[-1]) if len(head) == _HEAD.size else Stage.SERVES
        return Stage.SERVES

    def beat(self, index: int, *, now: float, reached_at: float) -> None:
        """The word of a worker."""
        self._write(_BEAT.pack(now, reached_at), _BEATS_AT + _BEAT.size * index)

    def close(self) -> None:
        """Say no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, text: bytes, at: int) -> None:
        with contextlib.suppress(OSError):  # a full disk, at the first time
            os.pwrite(self._fd, text, at)


def read(path: Path) -> Said | None:
    """What is said there; None when nothing is, or nothing that this version understands."""
    with contextlib.suppress(OSError, ValueError):
        text = path.read_bytes()
        if len(text) >= _HEAD.size:
            magic, pid, workers, stage = _HEAD.unpack_from(text)
            if magic == _MAGIC and 1 <= workers <= MAX_WORKERS:
                silent = _BEATS_AT + _BEAT.size * workers - len(text)
                text += bytes(max(0, silent))  # of whom nothing has been heard yet
                beats = (_BEAT.unpack_from(text, _BEATS_AT + _BEAT.size * index) for index in range(workers))
                return Said(pid, Stage(stage), tuple(Beat(*beat) for beat in beats))
    return None
