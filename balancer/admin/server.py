"""The admin listener as a server: the admin app behind gevent's WSGI server, on the master's socket.

Off the hot path, on loopback or behind a token, and nobody is behind it: it needn't have the
strictness of the traffic's side.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from gevent.lock import BoundedSemaphore
from gevent.pywsgi import WSGIServer
from gevent.socket import socket as gevent_socket

from balancer.admin.app import make_admin
from balancer.admin.merging import merge
from balancer.admin.siblings import Siblings
from balancer.admin.slices import sliced
from balancer.front import Front
from balancer.routes import RouteTable
from balancer.stats import Pause, Picture
from balancer.traffic import Traffic
from hitmesh.settings import SettingsStore

log = logging.getLogger(__name__)

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
        store: SettingsStore | None,
    ) -> None:
        self._traffic = traffic
        self._siblings = siblings
        self._showing = BoundedSemaphore(1)
        app = make_admin(self, store, token=front.balancer.admin_token)
        self._servers = [WSGIServer(_green(each), app, log=None, error_log=log) for each in listeners]

    def start(self) -> None:
        """Begin to answer."""
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        """Answer no more; the socket stays the master's."""
        for server in self._servers:
            server.close()

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

    def health(self) -> tuple[bool, str]:
        """Whether requests can be passed on, and why not."""
        if self._traffic.draining:
            return False, "draining"
        dead = [service.name for service in self._traffic.services if service.backends and not service.alive]
        if dead:
            return False, f"no backend is alive of {', '.join(dead)}"
        return True, ""


def _green(listener: socket.socket) -> Any:
    return gevent_socket(listener.family, listener.type, listener.proto, fileno=listener.detach())
