"""What a route that is paused with a text answers, by the second; without a process."""

from __future__ import annotations

import json
import time

import pytest

from balancer.members.live_routes import LiveRoutes
from balancer.middle.routes import RouteTable
from hitmesh.config.routes import Proxy
from hitmesh.settings import Setting

NAME = "sold.example"


def test_retry_after_is_what_is_left_of_the_pause_and_sixty_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[RouteTable] = []
    routes = LiveRoutes({NAME: Proxy(service="collector")}, tables.append)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    pause = json.dumps({"until": 1100.0, "text": "back soon"}).encode()
    routes.take({f"pauses/{NAME}": Setting(f"pauses/{NAME}", pause, 1, "anna", 1000.0)})
    [match] = [each for each in tables[-1] if each.name == NAME]
    said = []
    for wall in (1000.0, 1060.0, 1099.5):
        routes.look(wall)
        said.append(match.made.headers)
    assert said == [((b"Retry-After", value),) for value in (b"60", b"40", b"1")]
    assert len(tables) == 1
    routes.look(1100.0)
    assert len(tables) == 2
