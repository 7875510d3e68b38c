"""Who has said that it stops, as the mesh has shown it. Pure.

Owns the memory of that, for a while longer than the mesh: a worker that a reload replaces isn't shown to its
end, since the one after it has its name by then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from hitmesh.protocol.messages import Instance

MAX_LEAVERS: Final = 1000  # remembered; more than a datacenter has at a time
DRAINING: Final = "draining"


class Leavers:
    """Of one role."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def look(self, live: Collection[Instance]) -> None:
        """The living instances have changed."""
        for one in live:
            if one.state == DRAINING:
                self._ids[one.id] = None
        while len(self._ids) > MAX_LEAVERS:
            self._ids.popitem(last=False)

    def has_said_so(self, id: str, live: Collection[Instance]) -> bool:
        """Whether this instance stops: by what is shown of it now, or was shown last."""
        for one in live:
            if one.id == id:
                return one.state == DRAINING
        return id in self._ids
