"""The entries of one process on their way to a recorder: numbered, kept within a bound, cut into batches. Pure.

It must not know how entries arrive there, nor who takes them.

Invariants:
- Each entry has the next number, whatever becomes of it: whoever has all that is left knows how many are missing, and
  where.
- Past the bound the oldest go, and are counted.
- `put` may be called by any thread, takes no lock and never waits: what is atomic here is a deque's and a counter's. All
  else is the sending greenlet's.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from zlib import crc32

from hitmesh.protocol.messages import (
    MAX_ENTRY_CHARS,
    MAX_FIELD_CHARS,
    MAX_FIELD_TEXT_CHARS,
    MAX_FIELDS,
    MAX_LEVEL,
    MAX_LOAD,
    MAX_RECORD_ENTRIES,
    MAX_TOTAL,
    Entry,
    Instance,
    Records,
    make,
)
from hitmesh.state.dues import FAILING
from hitmesh.state.keylist import Peer

MAX_ENTRIES: Final = 4000  # that wait: a quarter of an hour of a role that has much to say
MAX_BYTES: Final = 4 * 1024 * 1024  # of these
BATCH_BYTES: Final = 64 * 1024  # of one message, after which it takes no more entries
ENTRY_BYTES: Final = 96  # of one without its texts
DROPPED: Final = "records_dropped"
"""The load that says how many entries of a process found no room."""
STATISTICS: Final = 0
"""The level of entries that are figures."""


class _Numbered(NamedTuple):
    number: int
    size_bytes: int
    entry: Entry


class Outgoing:
    """Of one process: that of the instance `who`, under its `id`."""

    def __init__(self, who: Peer, id: str) -> None:
        self._who, self._id = who, id
        self._numbers = itertools.count(1)
        self._waiting: deque[_Numbered] = deque()
        self._size_bytes = 0  # threads that put at the same moment may get it wrong, until the next time that all went
        self._handed = 0  # the number of the last entry that somebody took, or that was dropped before it
        self._dropped = 0  # up to that one

    def put(self, entry: Entry) -> None:
        """One entry more; the oldest make room for it."""
        size = size_of(entry)
        self._size_bytes += size
        self._waiting.append(_Numbered(next(self._numbers), size, entry))
        while len(self._waiting) > MAX_ENTRIES or self._size_bytes > MAX_BYTES:
            try:
                self._size_bytes -= self._waiting.popleft().size_bytes
            except IndexError:
                return

    @property
    def dropped(self) -> int:
        """How many entries found no room so far."""
        try:
            return self._dropped + max(0, self._waiting[0].number - self._handed - 1)
        except IndexError:
            return self._dropped

    def batch(self) -> Records | None:
        """The next ones, as a message: they stay until they are `taken`; None: there are none."""
        # Two threads that put at the same moment may stand in another order than their numbers.
        waiting = sorted(itertools.islice(self._waiting.copy(), MAX_RECORD_ENTRIES))
        if not waiting:
            self._size_bytes = 0
            return None
        first = waiting[0].number
        chosen: list[Entry] = []
        size = 0
        for index, one in enumerate(waiting):
            if one.number != first + index or (chosen and size + one.size_bytes > BATCH_BYTES):
                break
            chosen.append(one.entry)
            size += one.size_bytes
        dropped = self._dropped + max(0, first - self._handed - 1)
        return make(Records, *self._who, self._id, first, dropped, tuple(chosen))

    def taken(self, records: Records) -> None:
        """Somebody has this batch."""
        last = records.first + len(records.entries) - 1
        while self._waiting and self._waiting[0].number <= last:
            self._size_bytes -= self._waiting.popleft().size_bytes
        self._dropped, self._handed = records.dropped, max(self._handed, last)


def size_of(entry: Entry) -> int:
    """What an entry takes of memory, and of a message, roughly."""
    return ENTRY_BYTES + len(entry.text) + sum(16 + len(key) + _size(value) for key, value in entry.fields.items())


def in_order(living: Iterable[Instance], id: str) -> list[Instance]:
    """The recorders to try: those that do their work before others, and each process another one first."""
    return sorted(living, key=lambda one: (one.state.startswith(FAILING), crc32(f"{id} {one.name}".encode()), one.id))


def figures_of(figures: Mapping[str, float], at_ms: int) -> Entry:
    """A minute's statistics as an entry."""
    fit = ((key, float(value)) for key, value in figures.items() if key and math.isfinite(value))
    fields = {key[:MAX_FIELD_CHARS]: value for key, value in fit if abs(value) <= MAX_LOAD}
    return Entry(at_ms, STATISTICS, "statistics", "", dict(itertools.islice(fields.items(), MAX_FIELDS)))


def entry_of(at_s: float, level: int, logger: str, text: str, fields: Mapping[object, object] | None) -> Entry:
    """A line of a log as an entry that every recorder takes: cut to its bounds."""
    kept: dict[str, str | int | float | bool] = {}
    for key, value in itertools.islice(fields.items() if fields else (), MAX_FIELDS):
        if name := _clean(str(key), MAX_FIELD_CHARS):
            kept[name] = _fit(value)
    level = min(max(level, STATISTICS + 1), MAX_LEVEL)
    return Entry(
        max(0, int(at_s * 1000)), level, _clean(logger, MAX_FIELD_CHARS) or "-", _clean(text, MAX_ENTRY_CHARS), kept
    )


def _fit(value: object) -> str | int | float | bool:
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) <= MAX_TOTAL):
        return value
    if isinstance(value, float) and abs(value) <= MAX_LOAD:  # NaN isn't
        return value
    return _clean(str(value), MAX_FIELD_TEXT_CHARS)


def _clean(text: str, chars: int) -> str:
    """Its beginning, which can be written as UTF-8."""
    text = text[:chars]
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()[:chars]


def _size(value: str | float) -> int:
    return len(value) if isinstance(value, str) else 9
