"""A recorder: takes what the roles of its datacenter send, keeps it, and shows it to operators who ask.

Invariants:
- It answers nobody who sends: whether it lives, hangs or is full makes no difference to them.
- What it takes is of whoever sends it, by the key of the connection; of its own datacenter; and bounded.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gevent
import zmq

from hitmesh.config import Config, Placement
from hitmesh.hub.blocking import call_blocking
from hitmesh.hub.rest import rest
from hitmesh.mesh.client import MeshClient
from hitmesh.mesh.connecting import bind
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.network import Network, Socket
from hitmesh.mesh.room import Room
from hitmesh.mesh.sockets import MAX_REQUEST_BYTES, FrameReader, open_socket
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.protocol.messages import Read, Recorded, Records, encode, make
from hitmesh.protocol.names import bracketed
from hitmesh.recorder.blocks import MAX_RECORDS_BYTES, message_of, pack, unread
from hitmesh.recorder.keeping import Keeping
from hitmesh.recorder.rows import rows_of
from hitmesh.recorder.volumes import Found, Place, Volumes, read
from hitmesh.settings import SettingsStore
from hitmesh.settings.live import Live
from hitmesh.state.rights import Link
from hitmesh.store.consul_service import ConsulService

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hitmesh.metrics.admin import AdminListener
    from hitmesh.recorder.postgresql import Database

QUEUED: Final = 64  # messages of one sender that wait here: more of them wait at the sender, which counts what it drops
LEAVE_S: Final = 0.5  # until everybody has heard that it stops, and sends to another one
STOP_S: Final = 3.0  # to write what there is

log = logging.getLogger(__name__)


class Recorder:
    """One recorder process; its volumes are in the folder of its name in `base`. At `admin` its metrics are told."""

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        base: Path,
        settings: SettingsStore,
        network: Network,
        admin: AdminListener | None = None,
    ) -> None:
        self._config, self._name, self._settings, self._network = config, name, settings, network
        self._admin = admin
        self._id = f"{name}.{secrets.token_hex(6)}"
        self._folder = base / name
        self._live = live = Live(config, settings, self._settings_changed)
        self._watchdog = Watchdog()
        table = config.recorder
        self._keeping = Keeping(
            name, Volumes(self._folder, max_bytes=table.max_bytes, max_days=table.max_days), self._watchdog
        )
        self._database: Database | None = None
        if table.postgresql:
            from hitmesh.recorder.postgresql import Database  # with its driver, which others needn't have

            self._database = Database(table, dc=config.name, name=name, folder=self._folder)
        self._entries = 0
        place = config.placement("recorder", name)
        self._readers: list[FrameReader] = []
        self._records, records = self._bind(place, 0, zmq.PULL, "records", MAX_RECORDS_BYTES)
        self._logs, logs = self._bind(place, 1, zmq.ROUTER, "logs", MAX_REQUEST_BYTES)
        endpoints = {"records": records, "logs": logs, **({"admin": admin.url} if admin is not None else {})}
        self._room = Room(base)
        self.mesh = MeshClient(
            config,
            role="recorder",
            name=name,
            instance_id=self._id,
            endpoints=endpoints,
            network=network,
            load=self._load,
            on_change=lambda view: None,
            late=self._late,
            written=lambda: live.written,
            registered=ConsulService.of(
                config, role="recorder", name=name, instance_id=self._id, endpoints={"records": records}
            ),
        )

    def start(self) -> None:
        """Begin to take and to keep."""
        self._watchdog.start()
        self._live.start()
        self.mesh.start()
        spawn("keeping", self._keeping.run)
        spawn("records", self._take, self._readers[0])
        spawn("logs", self._show, self._readers[1])
        if self._database is not None:
            spawn("statistics", self._database.run)
        if self._admin is not None:
            self._admin.start(self._collect, self._late)

    def stop(self) -> None:
        """Write what there is, and leave."""
        self.mesh.drain()
        gevent.sleep(LEAVE_S)
        self._records.close(linger=0)
        self._logs.close(linger=0)
        if self._database is not None:
            self._database.stop()
        if self._admin is not None:
            self._admin.stop()
        self.mesh.stop()
        self._keeping.stop(STOP_S)
        self._watchdog.stop()
        self._live.stop()
        self._settings.close()

    # --- one greenlet each ----------------------------------------------------------------

    def _take(self, reader: FrameReader) -> None:
        while (message := reader.receive(Records)) is not None:
            if message.dc != self._config.name:
                reader.refuse(f"records of datacenter {message.dc}")
                continue
            self._entries += len(message.entries)
            self._keeping.take(message)
            if self._database is not None:
                self._database.put(rows_of(message))

    def _show(self, reader: FrameReader) -> None:
        while (question := reader.receive(Read)) is not None:
            place = Place(question.volume, question.offset)
            try:
                with self._watchdog.expect("a read of a volume"):
                    found = call_blocking(partial(read, self._folder, question.since_ms, question.until_ms, place))
            except OSError as error:
                log.warning("its volumes can't be read: %s", error)
                now_ms = int(time.time() * 1000)
                gap = unread(
                    self._name, question.since_ms, min(now_ms, question.until_ms), f"its volumes can't be read: {error}"
                )
                found = Found(pack([message_of(gap)]), place, more=False)
            answer = make(
                Recorded, question.request, self._id, found.place.volume, found.place.offset, found.more, found.packed
            )
            try:
                self._logs.send_multipart([*reader.envelope, encode(answer)], zmq.NOBLOCK)
            except zmq.Again:
                reader.refuse("it asks, and doesn't take the answers")

    # --- within ---------------------------------------------------------------------------

    def _bind(self, place: Placement, offset: int, kind: int, link: Link, receive_bytes: int) -> tuple[Socket, str]:
        socket = open_socket(
            self._network, kind, heartbeat_s=self._config.timing.heartbeat_s, receive_bytes=receive_bytes
        )
        if kind == zmq.PULL:
            socket.setsockopt(zmq.RCVHWM, QUEUED)
        port = "*" if place.port is None else place.port + offset
        endpoint = bind(self._network, socket, f"tcp://{bracketed(place.address)}:{port}", link)
        self._readers.append(FrameReader(self._network, socket, endpoint, link=link, clock=time.monotonic, rest=rest))
        return socket, endpoint

    def _settings_changed(self) -> None:
        self.mesh.announce()

    def _late(self) -> str:
        return self._keeping.failing or self._watchdog.late()

    def _load(self) -> dict[str, float]:
        return {
            "entries": self._entries,
            "bad_frames": sum(reader.bad for reader in self._readers),
            **self._keeping.load(),
            **(self._database.load() if self._database is not None else {}),
            **self._room.load(),
            **self._live.load(),
        }

    def _collect(self) -> Iterator[Metric]:
        from hitmesh.recorder import metrics  # with Prometheus's client, which nobody needs who isn't asked

        return metrics.collect(
            self._config.name, self._name, self.mesh.figures(), lag=self.mesh.lag(), is_failing=bool(self._late())
        )
