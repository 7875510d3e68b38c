"""A dashboard: puts together what it watches, what others tell it, who looks, and who is told when something isn't well.
It changes nothing anywhere, but for its memory of alerts.

Invariants:
- Whoever looks costs the mesh nothing: what is shown is made twice a second, whoever asks.
- Its end is at once: nobody waits for a dashboard.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
from gevent.event import Event
from prometheus_client.core import Metric

from hitmesh.config import Config, host_port_text
from hitmesh.dashboard import metrics, shelf
from hitmesh.dashboard.alerts.alerting import Alerting
from hitmesh.dashboard.app import HEADERS, make_app
from hitmesh.dashboard.audience import MAX_SEATS, Audience, Seat
from hitmesh.dashboard.exchange import Exchange
from hitmesh.dashboard.pacing import STEP_S, Telling
from hitmesh.dashboard.status import Status
from hitmesh.dashboard.stream import RETRY, Stream, tick
from hitmesh.dashboard.watching import Watch
from hitmesh.http.access import Access, MetricsAccess
from hitmesh.hub.listener import Listener
from hitmesh.mesh.client import MeshClient
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.network import Network
from hitmesh.mesh.room import Room
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.metrics.admin import hosts_of
from hitmesh.metrics.text import Answer, encoded, registry
from hitmesh.settings import SettingsStore
from hitmesh.settings.live import Live
from hitmesh.state.view import MeshView
from hitmesh.store.consul_service import ConsulService

SHARE: Final = 4  # times as long as a look took, others have the hub before the next

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Dashboard:
    """One dashboard process. `listen` is where HTTP is served: host and port, 0 for any."""

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        state_dir: Path,
        listen: tuple[str, int],
        settings: SettingsStore,
        network: Network,
    ) -> None:
        self._config, self._settings, self._network = config, settings, network
        self._name = name
        self._id = f"{name}.{secrets.token_hex(6)}"
        self._live = live = Live(config, settings, self._settings_changed)
        self._watchdog = Watchdog()
        self._listener = Listener(*listen, headers=HEADERS, streams=MAX_SEATS)
        host, port = self._listener.own
        self.url = f"http://{host_port_text(host, port)}"
        reading = MetricsAccess(config.metrics.token, is_open=config.metrics.open)
        self._app = make_app(self, shelf.read(), Access(config.dashboard.token, hosts_of(config), reading))
        self._registry = registry(self._collect)
        self._exchange = Exchange(config, name=name, id=self._id, network=network)
        self._room = Room(state_dir)
        self._watch = Watch(config, state_dir=state_dir, name=name, live=live, room=self._room, id=self._id)
        self._alerts = Alerting(config, who=self._id, store=settings, live=live)
        self._status: Status | None = None
        self._encoded = b""
        self._stream = Stream()
        self._audience = Audience(self._stream.whole, self._listener.streams)
        self._stopping = False
        endpoints = {"http": self.url, "news": self._exchange.endpoint}
        self.mesh = MeshClient(
            config,
            role="dashboard",
            name=name,
            instance_id=self._id,
            endpoints=endpoints,
            network=network,
            load=self._load,
            on_change=self._mesh_changed,
            late=self._watchdog.late,
            written=lambda: live.written,
            drained=lambda: live.is_drained(name),
            registered=ConsulService.of(
                config, role="dashboard", name=name, instance_id=self._id, endpoints={"http": self.url}
            ),
        )

    def start(self) -> None:
        """Begin to watch, to tell and to answer."""
        self._watchdog.start()
        self._live.start()
        self.mesh.start()
        self._watch.start()
        self._look()
        self._alerts.start()
        spawn("looking", self._run)
        self._listener.start(self._app)

    def stop(self) -> None:
        """Send everybody away, and leave."""
        self.mesh.drain()
        self._stopping = True
        self._alerts.stop()
        self._audience.wake_all()
        self._listener.stop()
        self.mesh.stop()
        self._exchange.stop()
        self._watch.stop()
        self._watchdog.stop()
        self._live.stop()
        self._settings.close()

    # --- what the app asks -------------------------------------------------------------------

    def health(self) -> str:
        """Why it can't do its work; empty when it can."""
        return "it stops" if self._stopping else self._watchdog.late()

    def status(self) -> bytes:
        """The status as JSON."""
        if not self._encoded and self._status is not None:
            self._encoded = _encode(self._status)
        return self._encoded

    def events(self) -> Iterable[bytes] | None:
        """The stream of one more."""
        if not len(self._audience) and self._status is not None:
            self._stream.advance(self._status)  # nobody has listened for a while
        woken = Event()
        seat = self._audience.sit(woken.set)
        return None if seat is None else _Events(self, seat, woken)

    def history(self, dc: str, name: str) -> Any | None:
        """The reasons behind an instance's bars; in words why they aren't known."""
        if dc != self._config.name and self._status is not None and dc in self._status.dcs:
            return f"only the dashboards of {dc} know what {name} went through"
        return self._watch.history(dc, name)

    def page(self, page: str) -> Any | None:
        """One page."""
        return self._watch.page(page)

    def metrics(self, accept: str) -> Answer:
        """What Prometheus is told."""
        return encoded(self._registry.collect(), accept)

    # --- what a stream asks ------------------------------------------------------------------

    def next_event(self, seat: Seat, woken: Event) -> bytes:
        """What is to be sent next, waited for; nothing when it is to end."""
        while not self._stopping:
            woken.clear()
            if data := self._audience.take(seat):
                return data
            woken.wait()
        return b""

    def leave(self, seat: Seat) -> None:
        """It has ended."""
        self._audience.leave(seat)

    # --- greenlets ---------------------------------------------------------------------------

    def _run(self) -> None:
        telling = Telling(time.monotonic())
        while not self._stopping:
            began = time.monotonic()
            ticks = telling.ticks(began)
            self._look(ticks=ticks)
            if ticks:
                self.mesh.refresh()
            if telling.is_due((problem.key for problem in self._part.problems), began):
                self._exchange.tell(self._part)
            took_s = time.monotonic() - began
            gevent.sleep(max(STEP_S - took_s, SHARE * took_s))

    def _look(self, *, ticks: bool = False) -> None:
        now, wall = time.monotonic(), time.time()
        self._watch.alerted(self._alerts.turns(), wall)
        self._part = self._watch.part(
            self.mesh.view, now, wall, self._alerts.shown(now), offsets=self._exchange.board.offsets(now)
        )
        others = self._exchange.board.parts(now, wall, self._live.retired)
        self._status = self._watch.status(others, now, wall)
        self._encoded = b""
        self._alerts.look(self._part, self._status.dcs, self.mesh.view, now, wall)
        if not len(self._audience):
            return
        patch, moment = self._stream.advance(self._status), tick(wall) if ticks else b""
        if patch:
            self._audience.tell(patch + moment)
        elif moment:
            self._audience.tick(moment)

    # --- within ------------------------------------------------------------------------------

    def _mesh_changed(self, view: MeshView) -> None:
        self._exchange.follow(view)

    def _settings_changed(self) -> None:
        self.mesh.announce()

    def _collect(self) -> Iterator[Metric]:
        return metrics.collect(
            self._part, self._name, self.mesh.figures(), lag=self.mesh.lag(), is_failing=bool(self._watchdog.late())
        )

    def _load(self) -> dict[str, float]:
        return {"clients": len(self._audience), **self._room.load(), **self._exchange.load(), **self._live.load()}


class _Events:
    """One client's stream, as WSGI wants it; `close` is called whether or not anything was taken of it."""

    def __init__(self, dashboard: Dashboard, seat: Seat, woken: Event) -> None:
        self._next = partial(dashboard.next_event, seat, woken)
        self.close = partial(dashboard.leave, seat)
        self._is_over = False

    def __iter__(self) -> _Events:
        return self

    def __next__(self) -> bytes:
        if self._is_over:
            raise StopIteration
        if data := self._next():
            return data
        self._is_over = True
        return RETRY
