"""Clients of a datacenter of whole hosts."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Sequence
from typing import Any, Final

from tests.system.visitors import PAUSE_S, Visitor
from tests.wan.host import Host as Place

ANSWER_S: Final = 10.0


class Guest(Visitor):
    """Hits pages through a virtual IP, from a client's host."""

    def __init__(self, place: Place, url: str, pages: Sequence[str], *, pause_s: float = PAUSE_S) -> None:
        super().__init__(url, pages, pause_s=pause_s)
        self._place = place

    def run(self) -> None:
        self._place.enter()
        super().run()

    def saw(self, page: str, total: int | None, *, more: int = 0) -> None:
        """Behind a balancer one answer may be of another collector than the one before, which has heard less."""


def asked(place: Place, address: str, method: str, path: str, *, patience_s: float = ANSWER_S) -> dict[str, Any] | None:
    """The JSON of a 200 to one request from a place; None for whatever else."""
    connection = http.client.HTTPConnection(address, timeout=patience_s)
    with place.inside(), contextlib.closing(connection):
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return None
    return json.loads(body) if answer.status == http.client.OK else None


def total(place: Place, address: str, page: str) -> int | None:
    """A page's total as it is seen from a place; None when nobody says."""
    answer = asked(place, address, "GET", f"/total/{page}")
    return None if answer is None else int(answer["total"])
