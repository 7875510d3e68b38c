"""The statistics of a minute as rows of a table. Pure.

Whatever an entry says, its row is one that PostgreSQL takes: names as the wire has them, a minute that there is, numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from hitmesh.protocol.messages import Gap, Records
from hitmesh.protocol.names import is_name
from hitmesh.state.outgoing import STATISTICS

MINUTE_MS: Final = 60_000
LAST_MS: Final = 4_102_444_800_000  # 2100-01-01: what is later is no time of anybody's

_encode = msgspec.json.Encoder().encode


class Row(NamedTuple):
    """One minute of one instance."""

    minute_s: int
    datacenter: str
    role: str
    instance: str
    process: str
    figures: str  # JSON


def rows_of(message: Records | Gap) -> Iterator[Row]:
    """The statistics in a message."""
    if isinstance(message, Gap):
        return
    for entry in message.entries:
        if entry.level != STATISTICS or entry.at_ms >= LAST_MS:
            continue
        figures = {
            key: value
            for key, value in entry.fields.items()
            if is_name(key) and isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        minute_s = entry.at_ms // MINUTE_MS * 60
        yield Row(minute_s, message.dc, message.role, message.name, message.id, _encode(figures).decode())
