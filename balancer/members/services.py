"""The services of the routes in force, and the backends that each has at the moment.

Owns who is a member: fixed backends, or the instances of a role as the Nexus shows them. Whether
a member works is its Health's word; the checks are in `balancer.members.checks`. A service lives as long
as its route stays the same, so that a change elsewhere touches none of its connections.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from gevent.lock import BoundedSemaphore

from balancer.hub.sockets import Sockets
from balancer.measures.stats import BackendStats
from balancer.members.checks import Checker
from balancer.members.health import Health
from balancer.middle.backend import NO_SUSPICION, Backend
from balancer.middle.routes import Match, RouteTable
from balancer.middle.service import Service, World
from hitmesh.config import BalancerLimits, Hold, Proxy
from hitmesh.config.hands import Hands
from hitmesh.hub.ways import best
from hitmesh.protocol.messages import Instance
from hitmesh.state.standing import DRAINED, UP

FRONT_ENDPOINT: Final = "http"  # of an instance's endpoints, the one that takes requests

log = logging.getLogger(__name__)
Members = Callable[[str], Iterable[Instance]]


class Services:
    """`members` tells the live instances of a role, `hands` what operators say; asked by `sync` and `weigh`."""

    def __init__(
        self,
        limits: BalancerLimits,
        members: Members,
        hands: Callable[[], Hands] = Hands,
        *,
        world: World | None = None,
    ) -> None:
        self._limits = limits
        self._world = world if world is not None else Sockets()
        self._members = members
        self._hands = hands
        self._services: dict[str, Service] = {}
        self._checkers: dict[Backend, Checker] = {}
        self._changing = BoundedSemaphore(1)  # to look a name up is to wait, and others run meanwhile

    def __iter__(self) -> Iterator[Service]:
        return iter(list(self._services.values()))

    @property
    def backends(self) -> Iterable[Backend]:
        """Every backend that has a connection or may get one."""
        return list(self._checkers)

    def adopt(self, table: RouteTable, put_in_force: Callable[[RouteTable], None]) -> None:
        """Give each match of a new table its service; once it is in force, those who wait at old ones go on by it."""
        with self._changing:
            before, self._services = self._services, {}
            for match in table:
                if isinstance(match.route, Proxy | Hold):
                    match.made = self._service(match, before)
                    pause = table.paused.get(match.target)
                    match.made.pause_ends = pause.until if pause is not None else None
            put_in_force(table)
            for service in before.values():
                if service not in self._services.values():
                    left, service.backends = service.backends, ()
                    for backend in left:
                        self._leave(service, backend)
                    service.dissolve(time.monotonic())

    def limit(self, limits: BalancerLimits) -> None:
        """From now on these count."""
        self._limits = limits
        for service in self:
            service.backend_idle_s = limits.backend_idle_s

    def sync(self) -> None:
        """Take over who is there now."""
        with self._changing:
            for service in self:
                if service.route.service:
                    self._set_members(service, self._members(service.route.service))
                else:
                    for backend in service.backends:
                        self._checkers[backend].drain(self._why_not(backend.name))

    def weigh(self) -> None:
        """Take over what heartbeats say of load, and operators of weights; once a second."""
        now = time.monotonic()
        for service in self:
            loads = (
                {each.id: each.load for each in self._members(service.route.service)} if service.route.service else {}
            )
            for backend in service.backends:
                backend.share = self._hands().share(backend.name)
                backend.weigh(loads.get(backend.id, {}), now, service.route.slow_start_s)

    def stop(self) -> None:
        """End all checks and close all connections."""
        for backend, checker in list(self._checkers.items()):
            checker.stop()
            for upstream in list(backend.open):
                backend.drop(upstream)

    # --- its own ----------------------------------------------------------------------------

    def _service(self, match: Match, before: Mapping[str, Service]) -> Service:
        route = match.route
        if isinstance(route, Hold):
            route = Proxy(service="", hold=route.hold, hold_s=route.hold_s)
        assert isinstance(route, Proxy)
        name = match.target
        known = self._services.get(name) or before.get(name)
        if known is not None and known.route == route:
            self._services[name] = known
            return known
        now = time.monotonic()
        service = Service(name, route, backend_idle_s=self._limits.backend_idle_s, world=self._world, now=now)
        self._services[name] = service
        if route.backends:
            service.backends = tuple(
                self._join(service, name=text, id=text, url=f"//{text}", now=now, fresh=False)
                for text in route.backends
            )
        elif route.service:
            self._set_members(service, self._members(route.service))
        return service

    def _set_members(self, service: Service, instances: Iterable[Instance]) -> None:
        now = time.monotonic()
        known = {backend.id: backend for backend in service.backends}
        members: list[Backend] = []
        for instance in instances:
            url = instance.endpoints.get(FRONT_ENDPOINT)
            if url is None:
                continue
            backend = known.pop(instance.id, None)
            if backend is None:
                if instance.state not in (UP, DRAINED):  # the second one is shown, and will be back
                    continue
                fresh = bool(service.backends)  # with nobody else there is nothing to start slowly beside
                backend = self._join(service, name=instance.name, id=instance.id, url=url, now=now, fresh=fresh)
            members.append(backend)
            why = self._why_not(instance.name) or ("" if instance.state == UP else instance.state)
            self._checkers[backend].drain(why)
        service.backends = tuple(members)
        for backend in known.values():
            self._leave(service, backend)
        service.wake(time.monotonic())

    def _why_not(self, name: str) -> str:
        """Why an operator wants it to get no requests, before it says so itself or where it can't; empty: he does not."""
        return DRAINED if name in self._hands().drained else ""

    def _join(self, service: Service, *, name: str, id: str, url: str, now: float, fresh: bool) -> Backend:
        route = service.route
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        family, address = _resolve(host, port)
        stats = service.stats.backends.get(name)
        if stats is None:
            stats = BackendStats(parts.netloc, now, sessions_limit=route.backend_connections)
            service.stats.backends[name] = stats
        stats.address = parts.netloc  # of one that was started again it may be another
        stats.become("UP", now)
        backend = Backend(
            name=name, id=id, family=family, address=address, limit=route.backend_connections, stats=stats,
            since=now if fresh else now - route.slow_start_s,
        )  # fmt: skip
        backend.share = self._hands().share(name)
        backend.weigh({}, now, route.slow_start_s)
        checker = self._checkers[backend] = Checker(
            service, backend, Health(route.rise, route.fall), host=parts.netloc
        )  # fmt: skip
        backend.suspicion = checker
        checker.drain(self._why_not(name))
        checker.start()
        log.info(
            "%s: %s (%s) joins", service.name, name, parts.netloc,
            extra={"fields": {"service": service.name, "backend": name}},
        )  # fmt: skip
        return backend

    def _leave(self, service: Service, backend: Backend) -> None:
        """It gets no more requests; those under way are finished. It is none of the service's backends any more."""
        log.info(
            "%s: %s leaves", service.name, backend.name,
            extra={"fields": {"service": service.name, "backend": backend.name}},
        )  # fmt: skip
        backend.gone = True
        if all(each.name != backend.name for each in service.backends):
            backend.stats.become("DRAIN", time.monotonic())
        self._checkers[backend].drain("it has left")
        self._checkers[backend].stop()
        backend.when_idle = lambda: self._forget(service, backend)
        if not backend.in_hand:
            backend.when_idle()

    def _forget(self, service: Service, backend: Backend) -> None:
        self._checkers.pop(backend, None)
        backend.suspicion = NO_SUSPICION
        if all(each.name != backend.name for each in service.backends) and backend.name in service.stats.backends:
            service.stats.forget(backend.name)


def _resolve(host: str, port: int) -> tuple[int, object]:
    """One address of a name. One that isn't known keeps its name: connecting will fail, and be tried again."""
    try:
        family, _, _, _, address = best(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except OSError as error:
        log.warning("%s can't be resolved: %s", host, error)
        return socket.AF_INET, ("0.0.0.0", 0)
    return family, address
