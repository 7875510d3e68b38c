"""What takes long goes on in slices: others have their turn while a page of a thousand backends is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import gevent
import pytest

from balancer.admin.columns import csv
from balancer.admin.merging import merge
from balancer.admin.metrics import families
from balancer.admin.page import page
from balancer.admin.slices import sliced
from balancer.measures.stats import BackendStats, Pause, Picture, ServiceStats, picture
from balancer.middle.routes import RouteTable
from hitmesh.config import Empty
from hitmesh.metrics.text import encoded

BACKENDS: Final = 1000
TURNS: Final = 3  # that another greenlet has meanwhile, at least; on the fastest machine there are more
ROUTES: Final = RouteTable({f"host-{number}.example": Empty(status=204) for number in range(BACKENDS)}, {})


def service() -> ServiceStats:
    stats = ServiceStats(0.0)
    for number in range(BACKENDS):
        stats.backends[f"backend-{number}"] = BackendStats(f"10.0.0.1:{number}", 0.0)
    return stats


def large(pause: Pause = lambda: None) -> Picture:
    return picture(1.0, about={"name": "b"}, fronts={}, services={"default": service()}, pause=pause)


LONG: dict[str, Callable[[Picture, Pause], Any]] = {
    "a worker's own picture": lambda _, pause: large(pause),
    "several pictures put together": lambda whole, pause: merge([whole] * 4, pause),
    "the page": lambda whole, pause: page(whole, ROUTES, pause=pause),
    "the metrics": lambda whole, pause: encoded(families(whole, why_not=""), "", pause),
    "the CSV": csv,
}


@pytest.mark.parametrize("name", LONG)
def test_others_have_their_turn_meanwhile(name: str) -> None:
    whole, turns = large(), 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0.0005)

    greenlet = gevent.spawn(other)
    gevent.sleep(0.005)
    before = turns
    LONG[name](whole, sliced())
    after = turns
    greenlet.kill()
    assert after - before >= TURNS


def test_a_backend_that_leaves_meanwhile_is_no_trouble() -> None:
    stats = service()

    def leave() -> None:
        if "backend-7" in stats.backends:
            stats.forget("backend-7")

    told = stats.snapshot(1.0, leave)
    assert len(told["backends"]) >= BACKENDS - 1
