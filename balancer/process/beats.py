"""Whether a worker still does its work: it beats, and its master looks.

Both have a small file in memory open. The worker's hub writes the time there, and how many workers the datacenter wants
each balancer to have, if it knows; the master writes how many workers it has had to kill and which generation this one is
of, which the worker shows. So neither ever waits for the other, nor wakes it. What comes later goes behind: the other side may be of another version.

`Watch` is pure: it is told the last beats, and says who hangs. It must not take a machine that was suspended,
or had no time for anybody, for workers that hang:

- What counts are looks that found no new beat, not seconds: after an hour's sleep that is one look.
- A look that itself comes late proves nothing: all begin anew.
- One worker at a look: what stops all of them at once isn't theirs, and the next look may find them well.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from typing import Final

BEAT_S: Final = 1.0  # a system call of a microsecond
LOOK_S: Final = 3.0  # long enough for some beats, and hardly any work for the master
# 15 s in all: nothing that ends by itself holds a hub up for as long, and clients wait 30 s and more.
LOOKS: Final = 5

_BEAT: Final = struct.Struct("=d")
_HUNG: Final = struct.Struct("=Q")
_WANTED: Final = struct.Struct("=Q")  # one more than the number; 0: nothing is said
_WANTED_AT: Final = _BEAT.size + _HUNG.size
_GENERATION: Final = struct.Struct("=Q")  # counted from 1; 0: nothing is said
_GENERATION_AT: Final = _WANTED_AT + _WANTED.size


def make_file(hung: int, generation: int) -> int:
    """The descriptor of the new file of a worker of the instance's so manieth generation."""
    fd = os.memfd_create("balancer-beats")
    os.truncate(fd, _GENERATION_AT + _GENERATION.size)
    tell_hung(fd, hung)
    os.pwrite(fd, _GENERATION.pack(generation), _GENERATION_AT)
    return fd


def beat(fd: int, now: float) -> None:
    """The worker's word: it is well."""
    os.pwrite(fd, _BEAT.pack(now), 0)


def last_beat(fd: int) -> float:
    """When it last was; 0.0: it hasn't begun."""
    at: float = _BEAT.unpack(os.pread(fd, _BEAT.size, 0))[0]
    return at


def tell_hung(fd: int, count: int) -> None:
    """The master's word: how many workers of this instance it has killed because they hung."""
    os.pwrite(fd, _HUNG.pack(count), _BEAT.size)


def hung(fd: int) -> int:
    """What `tell_hung` said last."""
    count: int = _HUNG.unpack(os.pread(fd, _HUNG.size, _BEAT.size))[0]
    return count


def tell_wanted(fd: int, count: int) -> None:
    """The worker's word: at least so many workers are wanted; 0: as many as the configuration says."""
    os.pwrite(fd, _WANTED.pack(count + 1), _WANTED_AT)


def wanted(fd: int) -> int | None:
    """What `tell_wanted` said last; None: nothing, as a worker of an earlier version does."""
    count = _read(fd, _WANTED, _WANTED_AT)
    return count - 1 if count else None


def generation(fd: int) -> int:
    """Of which generation of its instance this worker is, from 1; 0: a master of an earlier version doesn't say."""
    return _read(fd, _GENERATION, _GENERATION_AT)


def _read(fd: int, field: struct.Struct, at: int) -> int:
    """What is there; 0 in the shorter file of an earlier version."""
    said = os.pread(fd, field.size, at)
    found: int = field.unpack(said)[0] if len(said) == field.size else 0
    return found


class Watch:
    """Looks at the beats of some workers. `due` is when the next look is."""

    def __init__(self, look_s: float = LOOK_S) -> None:
        self.due = -math.inf
        self._look_s = look_s
        self._silent: dict[int, tuple[float, int]] = {}  # by pid: the last beat, and the looks that found no newer one

    def look(self, beats: Mapping[int, float], now: float) -> int | None:
        """The pid that must be taken for hung, of those whose last beats these are."""
        before = self._silent if now - self.due < self._look_s else {}
        self.due = now + self._look_s
        self._silent = {}
        for pid, at in beats.items():
            known_at, looks = before.get(pid, (at, -1))
            self._silent[pid] = (at, looks + 1 if at == known_at else 0)
        hanging = [pid for pid, (_, looks) in self._silent.items() if looks >= LOOKS]
        return hanging[0] if hanging else None
