"""All connections of a collector: how many there may be, and who has to go.

Owns the deadlines' enforcement and the choice among those that the client keeps waiting; knows a connection by
`deadline`, `since`, `idle` and `expire` alone.

Invariant: a request that is being answered is never cut. When all places are taken, one of those goes who keep us
waiting. They are of two kinds, idle ones and those within a request; of the kind that has more places the one that
keeps us waiting for the longest goes. So whoever takes many places loses his own, and whoever asks keeps his.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import nsmallest
from http import HTTPStatus
from typing import Final, Protocol

NEVER: Final = math.inf
SHARE: Final = 100  # of all places this part is made free at once, so that looking for them costs little


class Waiting(Protocol):
    """What is to be known of a connection."""

    deadline: float
    since: float
    idle: bool

    def expire(self, status: int) -> None: ...


class Connections:
    """Those that are open, `most` at the same time. `now` is monotonic."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Waiting] = set()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether there may be no more."""
        return len(self._open) >= self._most

    def opened(self, connection: Waiting) -> None:
        """One more."""
        self._open.add(connection)
        self._make_room()

    def closed(self, connection: Waiting) -> None:
        """One less."""
        self._open.discard(connection)

    def sweep(self, now: float) -> None:
        """End what has taken too long. To be called every second or so."""
        for connection in [each for each in self._open if each.deadline < now]:
            connection.expire(HTTPStatus.REQUEST_TIMEOUT)
        self._make_room()

    def _make_room(self) -> None:
        if self.is_full:
            for connection in _first_to_go(self._open, max(1, self._most // SHARE)):
                connection.expire(HTTPStatus.SERVICE_UNAVAILABLE)


def _first_to_go(connections: Iterable[Waiting], count: int) -> list[Waiting]:
    waiting = [connection for connection in connections if connection.deadline < NEVER]
    mostly_idle = 2 * sum(connection.idle for connection in waiting) > len(waiting)
    of_that_kind = (connection for connection in waiting if connection.idle == mostly_idle)
    return nsmallest(count, of_that_kind, key=lambda connection: connection.since)
