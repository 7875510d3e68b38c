"""A client of a datacenter of whole hosts."""

from __future__ import annotations

from collections.abc import Sequence

from tests.system.visitors import Visitor
from tests.wan.host import Host as Place


class Guest(Visitor):
    """Hits pages through a virtual IP, from a client's host."""

    def __init__(self, place: Place, url: str, pages: Sequence[str]) -> None:
        super().__init__(url, pages)
        self._place = place

    def run(self) -> None:
        self._place.enter()
        super().run()

    def saw(self, page: str, total: int | None, *, more: int = 0) -> None:
        """Behind a balancer one answer may be of another collector than the one before, which has heard less."""
