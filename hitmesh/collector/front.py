"""What all clients of a worker share: the app, the bounds, the connections, and what is counted.

Owns the numbers; knows nothing of sockets. `leaving` makes every answer its connection's last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, Final, Protocol

from hitmesh.collector.bounds import Bounds
from hitmesh.collector.connections import Connections
from hitmesh.http.errors import BadMessage
from hitmesh.http.heads import Heads
from hitmesh.http.held_answer import HeldAnswer
from hitmesh.http.wsgi import App, Environ

REFUSALS_S: Final = 10.0  # between two lines in the log about requests that can't be read


class Asked(Protocol):
    """A request, to whoever wants to know more of it."""

    held: HeldAnswer | None
    """What the app answered it with, if that."""

    def entry(self, name: str) -> str:
        """What its field lines have in its environment under a name, or nothing."""

    def environ(self) -> Environ:
        """Its whole environment."""


Observer = Callable[[Asked, str, float, float], None]
Shortcut = Callable[[bytes, bytes, Asked, Any], HeldAnswer | None]

log = logging.getLogger(__name__)
_monotonic = time.monotonic


class Front:
    """One worker's. `most_requests` are as many as it may begin, and then it has `used_up` called."""

    __slots__ = (
        "_date", "_date_s", "_refusals_s", "_refused", "_used_up", "app", "base", "bounds", "busy", "connections",
        "heads", "leaving", "most_requests", "never_waits", "observe", "refused", "requests", "shortcut",
    )  # fmt: skip

    def __init__(
        self,
        app: App,
        base: Environ,
        *,
        bounds: Bounds,
        connections: Connections,
        heads: Heads,
        observe: Observer,
        refused: Callable[[], None],
        used_up: Callable[[], None],
        most_requests: int,
    ) -> None:
        self.app = app
        self.never_waits: Callable[[str], bool] = getattr(app, "never_waits", _always_waits)
        """Whether the app waits for nothing but its request's body when it is asked for a path, as it holds answers."""
        self.shortcut: Shortcut | None = getattr(app, "shortcut", None)
        """Asked before the app, in the hub, by method and target: a held answer, or None, and then the app is asked."""
        self.base = base
        self.bounds = bounds
        self.connections = connections
        self.heads = heads
        self.observe = observe
        """Called with each answer: its request, the status, when that began, and how long it took."""
        self.refused = refused
        """Called for each request that can't be read."""
        self.busy = 0  # requests that are being carried out
        self.requests = 0
        self.most_requests = most_requests
        self.leaving = False
        self._used_up = used_up
        self._refused = 0  # since the log said so
        self._refusals_s = 0.0  # when the log may say so again
        self._date_s = 0
        self._date = b""

    def began(self) -> None:
        """One request more is being carried out."""
        self.busy += 1
        self.requests += 1
        if self.requests >= self.most_requests and not self.leaving:
            self.leaving = True
            self._used_up()

    def date(self) -> bytes:
        """The line that says what time it is."""
        now_s = int(time.time())
        if now_s != self._date_s:
            self._date_s = now_s
            self._date = b"Date: %b\r\n" % formatdate(now_s, usegmt=True).encode("ascii")
        return self._date

    def refuse(self, peer: str, error: BadMessage) -> None:
        """Count a request that can't be read, and say so now and then."""
        self.refused()
        self._refused += 1
        now_s = _monotonic()
        if now_s >= self._refusals_s:
            log.warning("refused %d requests, the last of %s: %s %s", self._refused, peer, error.status, error)
            self._refused, self._refusals_s = 0, now_s + REFUSALS_S


def _always_waits(path: str) -> bool:
    return False
