"""The routes in force: those of the configuration, over them the live ones of the settings store, and over all pauses.

Makes a table of what the store has, and gives it to `adopt`. What stands in the store and is no
route is said once, and left out: one wrong entry must not stop the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from balancer.middle.answers import PAUSE_RETRY_S, Answer, retry_after
from balancer.middle.routes import KEYS, Match, RouteTable, read_static
from hitmesh.config import Empty, Route, Static, parse_stored
from hitmesh.config.pauses import PAUSES, RoutePause, parse_pause
from hitmesh.errors import ConfigError
from hitmesh.settings import Setting

log = logging.getLogger(__name__)


class LiveRoutes:
    """The `configured` routes and the live ones, kept in force by `adopt`, which is called at least once by `start`."""

    def __init__(self, configured: Mapping[str, Route], adopt: Callable[[RouteTable], None]) -> None:
        self._configured = configured
        self._adopt = adopt
        # Of the configured routes, as they were at the start: a file that has gone since stops no change.
        self._pages: dict[Static, Answer] = {}
        self._taken: dict[str, bytes] = {}
        self._live: Mapping[str, Route] = {}
        self._pauses: Mapping[str, RoutePause] = {}
        self._answering: list[tuple[Match, Answer, float]] = []  # those that are paused with a text, and until when

    def start(self) -> None:
        """Put the configured routes in force. Raises ConfigError."""
        self._pages = {
            route: read_static(route, Path.cwd()) for route in self._configured.values() if isinstance(route, Static)
        }
        self._use()

    def take(self, settings: Mapping[str, Setting]) -> None:
        """Put the live ones among these in force, unless they are."""
        stored = {key: each.value for key, each in settings.items() if key.startswith((KEYS, PAUSES))}
        if stored == self._taken:
            return
        live: dict[str, Route] = {}
        pauses: dict[str, RoutePause] = {}
        for key, value in stored.items():
            try:
                if key.startswith(KEYS):
                    live[key.removeprefix(KEYS)] = parse_stored(key.removeprefix(KEYS), value)
                else:
                    pauses[key.removeprefix(PAUSES)] = parse_pause(key, value)
            except ConfigError as error:
                if self._taken.get(key) != value:
                    log.error("a live route is left out: %s", error)
        self._taken, self._live, self._pauses = stored, live, pauses
        self._use()

    def look(self, wall: float) -> None:
        """End the pauses whose time is over; once a second."""
        if any(pause.until <= wall for pause in self._pauses.values()):
            log.info("a pause is over")
            self._pauses = {name: pause for name, pause in self._pauses.items() if pause.until > wall}
            self._use()
        self._say_when(wall)

    def _use(self) -> None:
        now = time.time()
        pauses = {name: pause for name, pause in self._pauses.items() if pause.until > now}
        table = RouteTable(self._configured, self._live, pauses)
        self._answering = []
        for match in table:
            if isinstance(match.route, Static) and match.target in table.paused:
                answer = read_static(match.route, Path.cwd())
                self._answering.append((match, answer, table.paused[match.target].until))
                continue
            if isinstance(match.route, Static):
                match.made = self._pages.get(match.route) or read_static(match.route, Path.cwd())
            elif isinstance(match.route, Empty):
                match.made = Answer(match.route.status)
        self._say_when(now)
        self._adopt(table)
        if self._live:
            log.info("live routes in force: %s", ", ".join(self._live))
        if table.paused:
            log.info("routes that are paused: %s", ", ".join(table.paused))

    def _say_when(self, wall: float) -> None:
        """When who finds a route paused may come again: what is left of the pause, within bounds."""
        for match, answer, until in self._answering:
            match.made = replace(answer, headers=retry_after(min(max(until - wall, 1.0), PAUSE_RETRY_S)))
