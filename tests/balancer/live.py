"""Limits that are set while a balancer runs, for all its connections, and waited for."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from hitmesh.settings import SettingsStore
from hitmesh.settings.sqlite import SqliteSettings
from tests.balancer.caller import Caller
from tests.balancer.stage import said
from tests.services import wait_for

HOSTS = (f"{number}.in-force.example" for number in itertools.count(1))
# One of its own for each look: whatever a client may have of, these have enough.
ADDRESSES = (f"127.9.{number // 250}.{number % 250 + 1}" for number in itertools.count())


class LiveLimits:
    """Sets limits of the balancer with one worker at `port`, whose settings are in `file`."""

    def __init__(self, file: Path, port: int) -> None:
        self.store: SettingsStore = SqliteSettings(file)
        self._port = port

    def set(self, **limits: float) -> None:
        """They are in force afterwards."""
        for name, value in limits.items():
            self.store.set(f"balancer.limits.{name}", str(value).encode(), author="anna")
        self._in_force()

    def unset(self) -> None:
        """Those of the file are in force afterwards."""
        for key in self.store.list("balancer.limits."):
            self.store.delete(key, author="anna")
        self._in_force()

    @contextlib.contextmanager
    def of(self, **limits: float) -> Iterator[None]:
        """They are in force meanwhile."""
        self.set(**limits)
        try:
            yield
        finally:
            self.unset()

    def _in_force(self) -> None:
        # A route that is set after them comes with them or later.
        host = next(HOSTS)
        self.store.set(f"routes/{host}", b'{"action": "empty", "status": 410}', author="anna")
        wait_for(lambda: self._status(host) == 410, what="the limits in force")
        self.store.delete(f"routes/{host}", author="anna")

    def _status(self, host: str) -> int:
        with Caller(self._port, next(ADDRESSES)) as caller:
            answer = caller.ask(said("/", host))
            return 0 if answer is None else answer.status
