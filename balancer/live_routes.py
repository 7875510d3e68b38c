"""The routes in force: those of the configuration, and over them the live ones of the settings store.

Makes a table of what the store has, and gives it to `adopt`. What stands in the store and is no
route is said once, and left out: one wrong entry must not stop the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from balancer.answers import Answer
from balancer.front import Front
from balancer.routes import KEYS, RouteTable, read_static
from hitmesh.config import Empty, Route, Static, parse_stored
from hitmesh.errors import ConfigError
from hitmesh.settings import Setting

log = logging.getLogger(__name__)


class LiveRoutes:
    """The routes of `front`, kept in force by `adopt`, which is called at least once by `start`."""

    def __init__(self, front: Front, adopt: Callable[[RouteTable], None]) -> None:
        self._front = front
        self._adopt = adopt
        # Of the configured routes, as they were at the start: a file that has gone since stops no change.
        self._pages: dict[Static, Answer] = {}
        self._taken: dict[str, bytes] = {}

    def start(self) -> None:
        """Put the configured routes in force. Raises ConfigError."""
        self._pages = {
            route: read_static(route, Path.cwd()) for route in self._front.routes.values() if isinstance(route, Static)
        }
        self._use({})

    def take(self, settings: Mapping[str, Setting]) -> None:
        """Put the live ones among these in force, unless they are."""
        stored = {key.removeprefix(KEYS): each.value for key, each in settings.items() if key.startswith(KEYS)}
        if stored == self._taken:
            return
        live: dict[str, Route] = {}
        for pattern, value in stored.items():
            try:
                live[pattern] = parse_stored(pattern, value)
            except ConfigError as error:
                if self._taken.get(pattern) != value:
                    log.error("a live route is left out: %s", error)
        self._taken = stored
        self._use(live)

    def _use(self, live: Mapping[str, Route]) -> None:
        table = RouteTable(self._front.routes, live)
        for match in table:
            if isinstance(match.route, Static):
                match.made = self._pages.get(match.route) or read_static(match.route, Path.cwd())
            elif isinstance(match.route, Empty):
                match.made = Answer(match.route.status)
        self._adopt(table)
        if live:
            log.info("live routes in force: %s", ", ".join(live))
