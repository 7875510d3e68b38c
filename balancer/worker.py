"""One worker process: everything put together, begun in order, drained and ended.

Owns the process's life and nothing else. It is started by the master, on sockets that the master
keeps; gevent has patched the process before this is imported.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import gevent
from gevent.event import Event

from balancer.accept.acceptor import ClientAcceptor
from balancer.accept.tls import TlsContexts
from balancer.admin.siblings import Siblings
from balancer.admin.slices import sliced
from balancer.front import Front
from balancer.hub.sweeper import Sweeper
from balancer.measures.accesslog import FLUSH_S, STDOUT, AccessLog
from balancer.measures.stats import FrontStats, Picture, picture
from balancer.members.live_routes import LiveRoutes
from balancer.members.services import Services
from balancer.middle.networks import Networks
from balancer.middle.reporter import Reporter
from balancer.middle.routes import RouteTable
from balancer.middle.traffic import Traffic
from balancer.process.listeners import MOVING
from balancer.vip.behind import Behind
from balancer.vip.place import is_here
from hitmesh import __version__
from hitmesh.config import ROLES
from hitmesh.config.addresses import host_port_text
from hitmesh.config.hands import Hands
from hitmesh.mesh.duty import spawn
from hitmesh.protocol.messages import Instance
from hitmesh.settings.wanted import wanted_workers
from hitmesh.state.standing import CERTIFICATE_ENDS, GENERATION, VIRTUAL_IP

if TYPE_CHECKING:
    from balancer.admin.server import AdminServer
    from hitmesh.config import Config
    from hitmesh.mesh.client import MeshClient
    from hitmesh.mesh.room import Room
    from hitmesh.settings import SettingsStore
    from hitmesh.settings.live import Live
    from hitmesh.store.consul_service import ConsulService

PICTURE_S: Final = 2.0  # that a worker waits for its first picture of the mesh, and for the live settings
KNOWN_S: Final = 5.0  # until those Nexuses that it hears show it: a full one never does
STEP_S: Final = 0.05  # between two looks at something that is awaited
COLLECT_AFTER: Final = 50_000  # allocations between two garbage collections: almost nothing here is cyclic

log = logging.getLogger(__name__)


class Worker:
    """The parts of one worker. `index` is 0 for the one that also answers for the instance."""

    def __init__(
        self,
        front: Front,
        *,
        index: int,
        sockets: Mapping[str, Sequence[socket.socket]],
        hung: Callable[[], int],
        tell_wanted: Callable[[int], None],
        generation: int,
    ) -> None:
        self._front = front
        self._index = index
        self._hung, self._tell_wanted, self._generation = hung, tell_wanted, generation
        settings = front.balancer
        self.name = front.name if index == 0 else f"{front.name}-w{index}"
        self._began = time.monotonic()
        self._mesh: MeshClient | None = None
        self._room: Room | None = None
        self._services = Services(settings.limits, self._members, self._hands)
        self._access_log = _access_log(front)
        self._reporter = Reporter(self._access_log.add if self._access_log is not None else None, wall=time.time)
        self._reporter.say_slow(front.log.slow_ms)
        https = sockets.get("tls")
        self.traffic = Traffic(
            settings,
            services=self._services,
            reporter=self._reporter,
            wall=time.time,
            id_prefix=os.urandom(6).hex().encode(),
            https_port=https[0].getsockname()[1] if https else None,
        )
        self._sweeper = Sweeper(self.traffic, lambda: self._services.backends)
        self._fronts: dict[str, FrontStats] = {}
        self._acceptors: list[ClientAcceptor] = []
        encrypted = {kind for kind in ("tls", *(["admin"] if settings.tls.admin else ())) if sockets.get(kind)}
        tls = TlsContexts([Path(file) for file in settings.tls.certificates]) if encrypted else None
        for warning in tls.warnings if tls is not None else ():
            log.warning("%s", warning)
        self._certificates = {CERTIFICATE_ENDS: min(one.ends_s for one in tls.certificates)} if tls is not None else {}
        self._endpoints = {
            kind: f"{'https' if kind in encrypted else 'http'}://{_place(listeners[0])}"
            for kind, listeners in sockets.items()
            if listeners and kind not in MOVING
        }
        proxied = Networks(settings.proxy_protocol)
        for kind in ("http", "tls"):
            moving = [sock for moved, served in MOVING.items() if served == kind for sock in sockets.get(moved, ())]
            listeners = [*sockets.get(kind, ()), *moving]
            if listeners:
                stats = self._fronts[kind] = FrontStats(self._began, sessions_limit=settings.limits.connections)
                self._acceptors += [
                    ClientAcceptor(
                        self.traffic, listener, stats=stats, proxied=proxied, tls=tls if kind in encrypted else None
                    )
                    for listener in listeners
                ]
        self._routes = LiveRoutes(front.routes, self._adopt)
        self._live: Live | None = None
        store: SettingsStore | None = None
        if front.config is not None:
            from hitmesh.settings.live import Live
            from hitmesh.settings.open import open_settings

            assert front.state_dir is not None
            store = open_settings(front.config.stores.settings, front.state_dir / front.config.name, "balancer")
            self._live = Live(front.config, store, self._settings_changed)
        self._vip: Behind | None = None
        if front.vip is not None:
            assert front.config is not None
            own_host = urlsplit(self._endpoints["http"]).hostname if len(front.config.nodes) > 1 else None
            self._vip = Behind(front.vip, index, own_host=own_host or "", services=self._services, living=self._members)
        self._siblings = Siblings(self.snapshot)
        self._admin: AdminServer | None = None
        if sockets.get("admin"):
            from balancer.admin.server import AdminServer  # with falcon and asyncio, a third of what a start costs

            self._admin = AdminServer(
                front,
                sockets["admin"],
                traffic=self.traffic,
                siblings=self._siblings,
                living=lambda: [one for role in ROLES for one in self._members(role)],
                hands=self._hands,
                store=store,
                tls=tls if "admin" in encrypted else None,
            )
        # What is shown: the admin listener counts too, but is no part of the load.
        self._shown = self._fronts if self._admin is None else {**self._fronts, "admin": self._admin.stats}

    def start(self) -> None:
        """Do all that can fail or takes time; clients are taken from `open_up` on. Raises HitmeshError."""
        self._routes.start()
        if self._live is not None:
            self._live.start()
        self._join_mesh()
        self._sweeper.start()
        spawn("second hand", self._tick)
        gc.collect()
        gc.freeze()  # what is here now stays, and needn't be looked at again
        gc.set_threshold(COLLECT_AFTER, 20, 100)

    def open_up(self) -> None:
        """Take clients."""
        self._siblings.start()
        if self._admin is not None:
            self._admin.start()
        for acceptor in self._acceptors:
            acceptor.start()
        if self._vip is not None:
            self._vip.start(self._drain_traffic)

    def drain(self, within_s: float) -> None:
        """Take no more clients, and let those who are here finish; what was said of that before counts."""
        if self._vip is not None:
            within_s -= self._vip.stop()
        if self._mesh is not None:
            self._mesh.drain()
        for acceptor in self._acceptors:
            acceptor.stop()
        if self._admin is not None:
            self._admin.stop()
        self._drain_traffic()
        deadline = time.monotonic() + within_s
        while self.traffic.clients and time.monotonic() < deadline:
            gevent.sleep(STEP_S)
        if self.traffic.clients:
            log.warning(
                "%d connections are cut: they didn't end within %g s", len(self.traffic.clients), within_s,
                extra={"fields": {"connections": len(self.traffic.clients)}},
            )  # fmt: skip

    def stop(self) -> None:
        """End what is left."""
        self._sweeper.stop()
        self.traffic.stop(time.monotonic())
        self._services.stop()
        self._siblings.stop()
        if self._live is not None:
            self._live.stop()
        if self._mesh is not None:
            self._mesh.stop()
        if self._access_log is not None:
            self._access_log.close()

    def snapshot(self) -> Picture:
        """What this worker has counted. Lets others go on meanwhile."""
        now = time.monotonic()
        for service in self._services:
            waiting, alive = service.queued, service.alive
            service.stats.queue, service.stats.held = (waiting, 0) if alive else (0, waiting)
        for backend in self._services.backends:
            backend.stats.sessions = backend.in_hand
            backend.stats.idle = len(backend.idle)
            backend.stats.weight = backend.weight
        about = {
            "name": self.name,
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(now - self._began, 3),
            "state": "draining" if self.traffic.draining else "up",
            "workers_hung": self._hung(),
        }
        if self._mesh is not None:
            about |= {"dc": self._front.config.name if self._front.config else "", "hub_lag": self._mesh.lag()}
            about["figures"] = self._mesh.figures()
        return picture(
            now,
            about=about,
            fronts=self._shown,
            services={service.name: service.stats for service in self._services},
            pause=sliced(),
        )

    # --- its own ----------------------------------------------------------------------------

    def _adopt(self, table: RouteTable) -> None:
        self._services.adopt(table, self._put_in_force)

    def _drain_traffic(self) -> None:
        self.traffic.drain(time.monotonic())

    def _put_in_force(self, table: RouteTable) -> None:
        self.traffic.table = table

    def _settings_changed(self) -> None:
        assert self._live is not None
        limits = self._live.config.balancer.limits
        if limits != self.traffic.limits:
            self.traffic.limit(limits)
            self._services.limit(limits)
            for front in self._fronts.values():
                front.sessions_limit = limits.connections
        self._reporter.say_slow(self._live.config.log.slow_ms)
        if not self._index:
            self._tell_wanted(wanted_workers(self._live.config, self._live.settings))
        self._routes.take(self._live.settings)
        self._services.sync()
        self._services.weigh()
        if self._mesh is not None:
            self._mesh.announce()  # so that everybody sees at once that they are in force here

    def _hands(self) -> Hands:
        return self._live.hands if self._live is not None else Hands()

    def _members(self, role: str) -> Iterable[Instance]:
        return self._mesh.view.live(role) if self._mesh is not None else ()

    def _join_mesh(self) -> None:
        config = self._front.config
        if config is None:
            return
        import zmq.green

        from hitmesh.mesh.client import MeshClient
        from hitmesh.mesh.network import open_network
        from hitmesh.mesh.room import Room

        live = self._live
        assert live is not None
        if not self._index:  # the others have the same disk
            assert self._front.state_dir is not None
            self._room = Room(self._front.state_dir)
        instance_id = f"{self.name}-{os.urandom(8).hex()}"
        self._mesh = MeshClient(
            config,
            role="balancer",
            name=self.name,
            instance_id=instance_id,
            endpoints=self._endpoints,
            network=open_network(zmq.green.Context(), config, "balancer", self._front.name),
            load=self._load,
            on_change=lambda view: self._services.sync(),
            written=lambda: live.written,
            registered=self._registered(config, instance_id),
            statistics=self._answers,
        )
        self._mesh.start()
        began, view = time.monotonic(), self._mesh.view
        needs_mesh = any(service.route.service for service in self._services)
        while time.monotonic() < began + PICTURE_S and not (live.known and (view.connected or not needs_mesh)):
            gevent.sleep(STEP_S)
        # The worker before leaves when this one is ready: the instance is known all the while.
        while time.monotonic() < began + KNOWN_S and view.connected and view.lacks(self._mesh.instance_id):
            gevent.sleep(STEP_S)
        self._services.sync()

    def _registered(self, config: Config, instance_id: str) -> ConsulService | None:
        """The balancer's entry, which its first worker keeps: all of them share its port."""
        from hitmesh.store.consul_service import ConsulService

        if self._index or not {"http", "tls"} & self._endpoints.keys():
            return None
        return ConsulService.of(
            config, role="balancer", name=self.name, instance_id=instance_id, endpoints=self._endpoints
        )

    def _load(self) -> dict[str, float]:
        fronts = self._fronts.values()
        return {
            "requests": sum(front.requests for front in fronts),
            "failed": sum(front.classes[5] for front in fronts),
            "connections": len(self.traffic.clients),
            "waiting": sum(service.queued for service in self._services),
            **({GENERATION: self._generation} if self._generation else {}),
            **self._virtual_ip(),
            **self._certificates,
            **(self._room.load() if self._room is not None else {}),
            **(self._live.load() if self._live is not None else {}),
        }

    def _answers(self) -> dict[str, float]:
        """How many answers of each class there were, for the statistics of each minute."""
        fronts = self._fronts.values()
        return {f"answers_{number}xx": sum(front.classes[number] for front in fronts) for number in range(1, 6)}

    def _virtual_ip(self) -> dict[str, float]:
        """Whether the virtual IP is this host's now: the kernel says so at once."""
        vip = self._front.vip
        return {VIRTUAL_IP: float(is_here(vip.address))} if vip is not None and not self._index else {}

    def _tick(self) -> None:
        while True:
            gevent.sleep(FLUSH_S)
            now = time.monotonic()
            self._services.weigh()
            self._routes.look(time.time())
            for front in self._shown.values():
                front.sample(now)
            for service in self._services:
                service.stats.sample(now)
            if self._access_log is not None:
                self._access_log.flush()


def run(
    front: Front,
    *,
    index: int,
    sockets: Mapping[str, Sequence[socket.socket]],
    ready: Callable[[], None],
    hung: Callable[[], int],
    tell_wanted: Callable[[int], None],
    generation: int,
) -> int:
    """Serve until SIGTERM, then drain; the exit status.

    `ready` blocks until clients may be taken; `hung` is how many workers of this instance were killed because
    they hung; the first worker calls `tell_wanted` with how many workers are wanted, 0: as many as its file says;
    `generation` is the how manieth of its instance it is of, 0: nobody says.
    """
    stop = Event()
    watcher = gevent.signal_handler(signal.SIGTERM, stop.set)
    worker = Worker(front, index=index, sockets=sockets, hung=hung, tell_wanted=tell_wanted, generation=generation)
    worker.start()
    try:
        ready()
    except SystemExit:  # it isn't wanted: the one before it has its name again at once
        worker.stop()
        raise
    worker.open_up()
    stop.wait()
    worker.drain(front.drain_s)
    worker.stop()
    watcher.cancel()
    return 0


def _access_log(front: Front) -> AccessLog | None:
    target = front.balancer.access_log
    if not target or target == STDOUT:
        return AccessLog(target) if target else None
    return AccessLog((front.state_dir or Path()) / target)


def _place(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return host_port_text(host, port)
