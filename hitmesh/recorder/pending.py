"""What a recorder has taken and not yet kept, within a bound. Pure: `now` comes in.

Invariants:
- What is being written stays until it is `kept`: a write that fails loses nothing.
- Past the bound the oldest goes, and how many entries of which while went is a `Gap`, which is written with what follows.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hitmesh.protocol.messages import Gap, make
from hitmesh.recorder.blocks import LENGTH, MAX_RAW_BYTES, Recorded, message_of

MAX_BYTES: Final = 8 * 1024 * 1024  # minutes of what a datacenter says; a disk is seldom full for less
GAP_BYTES: Final = 2048  # room for a Gap in a block

Item = tuple[bytes, int, int]  # a message, and the times of its entries


class Pending:
    """Of the recorder `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._items: deque[tuple[Item, int]] = deque()  # with its number of entries
        self._size_bytes = 0
        self._writing = 0  # of these, at the left
        self._gap: tuple[int, int, int] | None = None  # since, until, entries
        self._told: tuple[int, int, int] | None = None  # what of the gap is being written
        self._why = ""
        self.dropped = 0
        """Entries that found no room so far."""

    def __len__(self) -> int:
        return len(self._items) + (self._gap is not None)

    @property
    def size_bytes(self) -> int:
        """Of what waits."""
        return self._size_bytes

    def add(self, message: Recorded, data: bytes = b"") -> None:
        """One message more."""
        item = message_of(message, data)
        self._items.append((item, 0 if isinstance(message, Gap) else len(message.entries)))
        self._size_bytes += len(item[0])
        while self._size_bytes > MAX_BYTES and len(self._items) > self._writing:
            self._drop()

    def batch(self) -> list[Item]:
        """What the next block is to hold, the gap before it first; it stays until `kept` or `failed`."""
        items: list[Item] = []
        self._told = self._gap
        if self._gap is not None:
            since_ms, until_ms, entries = self._gap
            items.append(message_of(make(Gap, self._name, since_ms, until_ms, entries, self._why)))
        room = MAX_RAW_BYTES - GAP_BYTES
        self._writing = 0
        for (data, first_ms, last_ms), _ in self._items:
            room -= len(data) + LENGTH.size
            if room < 0:
                break
            items.append((data, first_ms, last_ms))
            self._writing += 1
        return items

    def kept(self) -> None:
        """The last batch is on the disk."""
        for _ in range(self._writing):
            self._size_bytes -= len(self._items.popleft()[0][0])
        self._writing = 0
        if self._gap == self._told:
            self._gap = None
        elif self._gap is not None and self._told is not None:  # more went meanwhile
            self._gap = self._told[1], self._gap[1], self._gap[2] - self._told[2]
        self._told = None

    def failed(self, why: str) -> None:
        """The last batch isn't; what goes from now on, goes for this."""
        self._writing, self._told, self._why = 0, None, why[:512]

    def _drop(self) -> None:
        (data, first_ms, last_ms), entries = self._items[self._writing]
        del self._items[self._writing]
        self._size_bytes -= len(data)
        self.dropped += entries
        since_ms, until_ms, count = self._gap or (first_ms, last_ms, 0)
        self._gap = min(since_ms, first_ms), max(until_ms, last_ms), count + entries
