"""The routes in force: those of the configuration, and over them the live ones of the settings store.

Follows the store, and gives every new table to `adopt`. What stands in the store and is no route is
said once, and left out: one wrong entry must not stop the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from balancer.answers import Answer
from balancer.front import Front
from balancer.routes import RouteTable, parse_stored, read_static
from hitmesh.config import Empty, Route, Static
from hitmesh.errors import ConfigError
from hitmesh.mesh.duty import spawn
from hitmesh.settings import SettingsStore

PREFIX: Final = "routes/"  # of the settings that are routes; the rest of the key is the host pattern

log = logging.getLogger(__name__)


class LiveRoutes:
    """The routes of `front`, kept in force by `adopt`, which is called at least once by `start`."""

    def __init__(self, front: Front, adopt: Callable[[RouteTable], None]) -> None:
        self._front = front
        self._adopt = adopt
        self._watch: Any = None
        # Of the configured routes, as they were at the start: a file that has gone since stops no change.
        self._pages: dict[Static, Answer] = {}
        self.store: SettingsStore | None = None
        if front.config is not None:
            from hitmesh.settings.open import open_settings

            assert front.state_dir is not None
            self.store = open_settings(front.config.stores.settings, front.state_dir / front.config.name)

    def start(self) -> None:
        """Put the configured routes in force, and the live ones as soon as the store answers. Raises ConfigError."""
        self._pages = {
            route: read_static(route, Path.cwd()) for route in self._front.routes.values() if isinstance(route, Static)
        }
        self._use({})
        if self.store is not None:
            self._watch = self.store.watch(PREFIX)
            spawn("live routes", self._follow)

    def stop(self) -> None:
        """Follow no more."""
        if self._watch is not None:
            self._watch.stop()

    def _follow(self) -> None:
        for settings in self._watch:
            live: dict[str, Route] = {}
            for key, setting in settings.items():
                pattern = key.removeprefix(PREFIX)
                try:
                    live[pattern] = parse_stored(pattern, setting.value)
                except ConfigError as error:
                    log.error("a live route is left out: %s", error)
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
