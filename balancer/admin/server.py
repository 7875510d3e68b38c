"""The admin listener: the admin app, on the master's socket, and what it is told from.

Off the hot path, but in a process that has traffic: what takes long is done in slices.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from gevent.lock import BoundedSemaphore

from balancer.accept.tls import TlsContexts
from balancer.admin.access import Access
from balancer.admin.app import make_admin
from balancer.admin.listener import MAX_CONNECTIONS, Listener
from balancer.admin.merging import merge
from balancer.admin.siblings import Siblings
from balancer.admin.slices import sliced
from balancer.front import Front
from balancer.measures.stats import FrontStats, Pause, Picture
from balancer.middle.routes import RouteTable
from balancer.middle.traffic import Traffic
from hitmesh.config import Metrics
from hitmesh.config.hands import Hands
from hitmesh.http.access import MetricsAccess
from hitmesh.http.wsgi import Environ
from hitmesh.protocol.messages import Instance
from hitmesh.settings import SettingsStore
from hitmesh.state.handling import Known, known

T = TypeVar("T")


class AdminServer:
    """Shows what an instance does, and changes its live routes."""

    def __init__(
        self,
        front: Front,
        listeners: Sequence[socket.socket],
        *,
        traffic: Traffic,
        siblings: Siblings,
        living: Callable[[], Iterable[Instance]],
        hands: Callable[[], Hands],
        store: SettingsStore | None,
        tls: TlsContexts | None,
    ) -> None:
        self._traffic = traffic
        self._siblings = siblings
        self._living, self._config = living, front.config
        self.hands = hands
        self._showing = BoundedSemaphore(1)
        self.stats = FrontStats(time.monotonic(), sessions_limit=MAX_CONNECTIONS)
        access = Access(front.balancer.admin_token)
        reading = front.config.metrics if front.config is not None else Metrics()
        metrics = MetricsAccess(reading.token, is_open=reading.open)
        dc = front.config.name if front.config is not None else ""
        app = make_admin(self, store, dc=dc, token=front.balancer.admin_token, metrics=metrics)

        def takes_body(environ: Environ) -> bool:
            return environ["REQUEST_METHOD"] == "PUT" and access.refusal(environ) is None

        self._listeners = [
            Listener(each, app, traffic=traffic, stats=self.stats, takes_body=takes_body, tls=tls) for each in listeners
        ]

    def start(self) -> None:
        """Begin to answer."""
        for each in self._listeners:
            each.start()

    def stop(self) -> None:
        """Answer no more; the socket stays the master's."""
        for each in self._listeners:
            each.stop()

    def shown(self, form: Callable[[Picture, Pause], T]) -> T:
        """What `form` makes of the picture of all workers. One at a time: each page has its slice in every turn."""
        with self._showing:
            pause = sliced()
            return form(merge(self._siblings.pictures(), pause), pause)

    def pause(self) -> Pause:
        """The pause of other work that may be long."""
        return sliced()

    def table(self) -> RouteTable:
        """The routes in force."""
        return self._traffic.table

    def known(self) -> Sequence[Known]:
        """Whom the datacenter has."""
        table = self._traffic.table
        return known(self._config, self._living(), ((match.name, table.route(match.name)) for match in table))

    def health(self) -> tuple[bool, str]:
        """Whether requests can be passed on, and why not."""
        if self._traffic.draining:
            return False, "draining"
        dead = [service.name for service in self._traffic.services if service.backends and not service.alive]
        if dead:
            return False, f"no backend is alive of {', '.join(dead)}"
        return True, ""
