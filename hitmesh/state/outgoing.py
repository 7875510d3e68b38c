"""The entries of one process on their way to a recorder: numbered, kept within a bound, cut into batches. Pure.

It must not know how entries arrive there, nor who takes them.

Invariants:
- Each entry has the next number, whatever becomes of it: whoever has all that is left knows how many are missing, and
  where.
- Past the bound the oldest go, and are counted.
- `put` may be called by any thread, and waits for nothing that waits.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from typing import Final

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
from hitmesh.state.keylist import Peer
from hitmesh.state.standing import UP

MAX_ENTRIES: Final = 4000  # that wait: a quarter of an hour of a role that has much to say
MAX_BYTES: Final = 4 * 1024 * 1024  # of these
BATCH_BYTES: Final = 64 * 1024  # of one message, after which it takes no more entries
ENTRY_BYTES: Final = 96  # of one without its texts
DROPPED: Final = "records_dropped"
"""The load that says how many entries of a process found no room."""
STATISTICS: Final = 0
"""The level of entries that are figures."""


class Outgoing:
    """Of one process: that of the instance `who`, under its `id`. `lock` keeps threads apart, for a moment each."""

    def __init__(self, who: Peer, id: str, lock: AbstractContextManager[object] | None = None) -> None:
        self._who, self._id = who, id
        self._lock = lock or nullcontext()
        self._waiting: deque[tuple[int, Entry]] = deque()  # with their sizes; without a hole between their numbers
        self._size_bytes = 0
        self._first = 1  # the number of the first that waits, or the next one's
        self._handed = 0  # of the last one that somebody took
        self._dropped = 0  # of those before that

    def put(self, entry: Entry) -> None:
        """One entry more; the oldest make room for it."""
        size = size_of(entry)
        with self._lock:
            self._size_bytes += size
            self._waiting.append((size, entry))
            while len(self._waiting) > MAX_ENTRIES or self._size_bytes > MAX_BYTES:
                self._forget_first()

    @property
    def dropped(self) -> int:
        """How many entries found no room so far."""
        return self._dropped + max(0, self._first - self._handed - 1)

    def batch(self) -> Records | None:
        """The next ones, as a message: they stay until they are `taken`; None: there are none."""
        chosen: list[Entry] = []
        left_bytes = BATCH_BYTES
        with self._lock:
            first, dropped = self._first, self.dropped
            for size, entry in itertools.islice(self._waiting, MAX_RECORD_ENTRIES):
                if chosen and size > left_bytes:
                    break
                chosen.append(entry)
                left_bytes -= size
        return make(Records, *self._who, self._id, first, dropped, tuple(chosen)) if chosen else None

    def taken(self, records: Records) -> None:
        """Somebody has this batch."""
        with self._lock:
            last = records.first + len(records.entries) - 1
            while self._first <= last:
                self._forget_first()
            self._dropped, self._handed = records.dropped, last

    def _forget_first(self) -> None:
        self._size_bytes -= self._waiting.popleft()[0]
        self._first += 1


def size_of(entry: Entry) -> int:
    """What an entry takes of memory, and of a message, roughly."""
    return ENTRY_BYTES + len(entry.text) + sum(16 + len(key) + _size(value) for key, value in entry.fields.items())


def in_order(living: Iterable[Instance], id: str) -> list[Instance]:
    """The recorders to try: those that are up before those that fail or stop, and each process another one first."""
    return sorted(living, key=lambda one: (one.state != UP, _rank(id, one.name), one.id))


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


def _rank(id: str, name: str) -> bytes:
    return blake2b(f"{id}:{name}".encode(), digest_size=8).digest()


def _size(value: str | float) -> int:
    return len(value) if isinstance(value, str) else 9
