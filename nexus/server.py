"""A Nexus's sockets: heartbeats in, Changes out, lookups and control. Thin I/O around the registry.

It owns four ZeroMQ sockets: SUB, PUB and ROUTER, bound, and the PUB of its own heartbeats (a
Nexus is an instance like any other, known to itself and to the other Nexuses). One greenlet
reads each socket that is read; sends never block, so any greenlet may make them. What goes out to
other datacenters is nexus.wan's; what comes in from them comes with the heartbeats.

Invariants:
- A bad frame is counted and dropped; nothing that comes in ends the process.
- A Change is on its way before anything that builds on it is answered.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import gevent
import zmq

from hitmesh import compiled, output
from hitmesh.compiled import COMPILED
from hitmesh.config import Config, nexus_endpoints
from hitmesh.config.outside import REACHED, outside
from hitmesh.errors import MeshError
from hitmesh.hub.rest import rest
from hitmesh.mesh.connecting import bind
from hitmesh.mesh.duty import LagMeter, spawn
from hitmesh.mesh.network import Network, Socket, nexus_keys
from hitmesh.mesh.outside import Outside, listen
from hitmesh.mesh.pulse import Pulse, sendable
from hitmesh.mesh.recording import of_config
from hitmesh.mesh.sockets import COMPLAINT_S, MAX_REQUEST_BYTES, FrameReader, open_socket
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.protocol import formats
from hitmesh.protocol.formats import Written
from hitmesh.protocol.messages import (
    Change,
    Control,
    Heartbeat,
    Instance,
    Leave,
    Lookup,
    Message,
    Neighbours,
    Seen,
    encode,
)
from hitmesh.settings import SettingsStore
from hitmesh.state.ages import AGE_PREFIX, UPTIME
from hitmesh.state.dues import state_of
from hitmesh.state.keylist import Peer
from hitmesh.state.peers import UNHEARD
from hitmesh.state.rights import SHUT_OUT, Link
from hitmesh.state.view import RIVALS
from hitmesh.store.consul_service import ConsulService
from nexus import exchange
from nexus.catalogue import ConsulCatalogue
from nexus.exchange import SettingsExchange
from nexus.federation import MAX_NEIGHBOURS_BYTES, Catalogue, Federation
from nexus.registry import Registry
from nexus.wan import Wan

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from hitmesh.metrics.admin import AdminListener

TICKS: Final = 5  # per interval: how closely a death is noticed
HEARD: Final[tuple[type[Message], ...]] = (Heartbeat, Leave, Neighbours)
FAREWELL_S: Final = 0.05  # for the last words to reach the wire; a lost one costs the others three heartbeats
STOP_S: Final = 1.0  # that the greenlets have to end

_log = logging.getLogger("hitmesh.nexus")


class Server:
    """One Nexus: `start`, and it serves until `stop`. `name` must be configured.

    `settings` is exchanged with the other datacenters' where it is given; the store is closed with the
    Nexus. `retired` names the datacenters that nobody misses, `written` the formats in force. At `admin` its metrics
    are told. `room` says how full its disk is.
    """

    def __init__(
        self,
        config: Config,
        *,
        name: str,
        id: str,
        network: Network,
        settings: SettingsStore | None = None,
        retired: Callable[[], Collection[str]] = tuple,
        written: Callable[[], Written] = Written,
        admin: AdminListener | None = None,
        room: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._admin, self._room = admin, room
        placement = config.placement("nexus", name)
        self._endpoints = nexus_endpoints(placement)
        nexuses = config.instances("nexus")
        self._peers = [nexus_endpoints(one).heartbeats for one in nexuses]
        self._placement, self._outside = placement, Outside(config)
        timing = config.timing
        self._heartbeat_s = timing.heartbeat_s
        self._dc, self._name, self._id = config.name, name, id
        self._network = network
        self._keys = nexus_keys(network.keyring, config)
        self._retired, self._written = retired, written
        self._lag = LagMeter()
        self._watchdog = Watchdog()
        self._started_ms = int(time.time() * 1000)
        self._began = time.monotonic()
        self._stopping = False
        self._greenlets: list[gevent.Greenlet[[], None]] = []
        self._bound: list[Socket] = []
        self._complained = float("-inf")
        self._numeric: dict[str, str] = {}  # of the endpoints: as the others are told
        self._readers: list[FrameReader] = []
        self.registry = Registry(
            id,
            dc=config.name,
            interval_s=self._heartbeat_s,
            missed=timing.missed_heartbeats,
            wan_missed=timing.wan_missed_heartbeats,
            now=time.monotonic(),
            wire=lambda: written().wire,
        )
        self.federation = Federation(
            config.name,
            id,
            here=[outside(one, nexus_endpoints(one).heartbeats) for one in nexuses],
            inside=self._peers,
            configured={dc: [f"tcp://{address}" for address in peers] for dc, peers in config.peers.items()},
            partitions=config.partitions,
            interval_s=timing.wan_heartbeat_s,
            missed=timing.wan_missed_heartbeats,
        )
        self._recording = of_config(
            config,
            network,
            Peer(config.name, "nexus", name),
            id,
            living=lambda: self.registry.living("recorder"),
            figures=lambda: {UPTIME: int(time.monotonic() - self._began), **self._figures(time.monotonic())},
        )
        self._exchange = SettingsExchange(settings, config.name, network, self.announce) if settings else None
        told = outside(placement, self._endpoints.heartbeats)
        self._catalogue = ConsulCatalogue.of(config, name, told, self._found)
        heartbeats = {"heartbeats": self._endpoints.heartbeats}
        self._service = ConsulService.of(config, role="nexus", name=name, instance_id=id, endpoints=heartbeats)

    def start(self) -> None:
        """Bind and begin. Raises MeshError when an address can't be bound; nothing is left open then."""
        try:
            heartbeats = self._bind(zmq.SUB, "heartbeats", MAX_NEIGHBOURS_BYTES)
            self._changes = self._bind(zmq.PUB, "changes", MAX_REQUEST_BYTES)
            requests = self._bind(zmq.ROUTER, "lookups", MAX_REQUEST_BYTES)
        except MeshError:
            self._close()
            raise
        if self._admin is not None:
            self._numeric["admin"] = self._admin.url
        heartbeats.setsockopt(zmq.SUBSCRIBE, b"")
        self.registry.opened(time.monotonic())
        self._pulse = Pulse(
            self._network, self._peers, keys=self._keys, heartbeat_s=self._heartbeat_s, describe=self._describe
        )
        digest = self._exchange.digest if self._exchange else lambda: exchange.NOT_KNOWN
        self._wan = Wan(self.federation, self._network, picture=self._picture_outside, settings=digest)
        self._outside.start()
        self._spawn("heartbeats", partial(self._listen, self._reader(heartbeats, "heartbeats")))
        self._spawn("lookups", partial(self._serve, requests, self._reader(requests, "lookups")))
        self._spawn("clock", self._tick)
        self._spawn("own heartbeats", self._beat)
        self._spawn("words to other datacenters", self._wan.run)
        self._spawn("greetings of other datacenters", self._wan.greet)
        if self._catalogue is not None:
            self._spawn("catalogue", self._catalogue.run)
        if self._service is not None:
            gevent.spawn(self._service.run, self._state)
        if self._exchange is not None:
            self._exchange.start()
        if self._admin is not None:
            self._admin.start(self._collect, self._late)
        if self._recording is not None:
            self._recording.start()
        self._lag.start()
        self._watchdog.start()

    def announce(self) -> None:
        """Something of this Nexus has changed: tell everybody, here and in the other datacenters."""
        if not self._stopping:
            self._wan.wake()
            self._pulse.beat()

    def stop(self) -> None:
        """Say goodbye to the other Nexuses, and close."""
        self._stopping = True  # not one heartbeat more after the last words
        self._pulse.leave(self._id)
        if self._recording is not None:
            self._recording.stop()
        if self._service is not None:
            self._service.stop()
        if self._catalogue is not None:
            self._catalogue.stop()
        gevent.sleep(FAREWELL_S)
        if self._admin is not None:
            self._admin.stop()
        self._lag.stop()
        self._watchdog.stop()
        if self._exchange is not None:
            self._exchange.stop()
        self._outside.stop()
        self._wan.close()
        self._close()
        gevent.joinall(self._greenlets, timeout=STOP_S)
        self._pulse.close()

    # --- one greenlet each ----------------------------------------------------------------

    def _listen(self, reader: FrameReader) -> None:
        while (message := reader.receive(*HEARD)) is not None:
            now = time.monotonic()
            if isinstance(message, Heartbeat):
                self._publish(self.registry.heartbeat(message, now))
            elif isinstance(message, Leave):
                self._publish(self.registry.leave(message.id, now))
            elif isinstance(message, Neighbours):
                self._hear(message, now)

    def _serve(self, router: Socket, reader: FrameReader) -> None:
        while (request := reader.receive(Lookup, Control)) is not None:
            now = time.monotonic()
            answer: Message
            if isinstance(request, Lookup) and request.what == exchange.WHAT and self._exchange is not None:
                answer = self._exchange.answer(request)
            elif isinstance(request, Lookup):
                answer = self.registry.answer(request, now)
            elif isinstance(request, Control):
                answer, change = self.registry.control(request, now)
                self._publish(change)
            else:
                continue
            try:
                router.send_multipart([*reader.envelope, encode(answer)], zmq.NOBLOCK)
            except zmq.Again:
                reader.refuse("it asks, and doesn't take the answers")

    def _tick(self) -> None:
        while not self._stopping:
            with self._watchdog.expect("the telling of who is alive"):
                known_as = self.registry.id
                self._publish(self.registry.tick(time.monotonic()))
                if self.registry.id != known_as:
                    _log.warning("was stopped for too long to judge who is alive; starts over")
                self._complain(time.monotonic())
                gevent.sleep(self._heartbeat_s / TICKS)

    def _complain(self, now: float) -> None:
        """Say what was refused, now and then: whoever floods a Nexus mustn't flood its log."""
        if now - self._complained >= COMPLAINT_S and (said := self.registry.complaints()):
            self._complained = now
            _log.warning("refused (%d so far): %s", self.registry.refused, "; ".join(said))

    def _beat(self) -> None:
        while not self._stopping:
            self._pulse.beat()
            gevent.sleep(self._heartbeat_s)

    # --- within ---------------------------------------------------------------------------

    def _publish(self, change: Change | None) -> None:
        if change is not None and not self._stopping:
            self._changes.send(encode(change), zmq.NOBLOCK)  # a PUB drops rather than block
            self._wan.wake()

    def _hear(self, message: Neighbours, now: float) -> None:
        """A word of another datacenter."""
        here = self._picture()
        siblings = None if here is None else [one.instance.id for one in here if one.instance.role == "nexus"]
        for one in here or ():
            if one.instance.role == "processor" and one.alive:
                self.federation.root(
                    key.removeprefix(AGE_PREFIX) for key in one.instance.load if key.startswith(AGE_PREFIX)
                )
        refusal = self.federation.hear(message, now, siblings=siblings)
        if refusal is not None:
            if refusal:
                _log.error("%s", refusal)
            return
        self._publish(self.registry.relay(message, self.federation.listed(message.dc), now))
        self._wan.wake()
        speaker = next((one.instance for one in message.seen if one.instance.id == message.nexus), None)
        if self._exchange is not None and speaker is not None:
            self._exchange.heard(message.dc, message.nexus, message.settings, speaker.endpoints.get("lookups", ""))

    def _found(self, catalogue: Catalogue) -> None:
        self.federation.find(catalogue)
        self._wan.wake()

    def _picture(self) -> tuple[Seen, ...] | None:
        """This datacenter, as soon as everybody here has been heard."""
        now = time.monotonic()
        return self.registry.neighbourhood(now) if self.registry.warm(now) else None

    def _picture_outside(self) -> tuple[Seen, ...] | None:
        """The same, with the addresses that other datacenters reach."""
        here = self._picture()
        return None if here is None else self._outside.seen(here)

    def _describe(self) -> Instance:
        now, written = time.monotonic(), self._written()
        load, release = formats.telling(
            {
                UPTIME: int(now - self._began),
                "hub_lag_s": self._lag.read(),
                **self._figures(now),
            },
            written.wire,
        )
        return Instance(
            self._dc, "nexus", self._name, self._id, self._state(), os.getpid(), self._started_ms, self._numeric, sendable(load), {},
            release,
        )  # fmt: skip

    def _figures(self, now: float) -> dict[str, float]:
        return {
            COMPILED: compiled.is_compiled(),
            "log_lost": output.lost(),
            "instances": len(self.registry),
            "bad_frames": sum(reader.bad for reader in self._readers),
            "refused": self.registry.refused,
            RIVALS: self.registry.rivals(now),
            SHUT_OUT: self._pulse.failing + self._wan.failing,
            "peers": len(self.federation.heard(now)),
            UNHEARD: self.federation.unheard(self._retired(), now),
            "peers_refused": self.federation.refused(now),
            **(self._exchange.load() if self._exchange else {}),
            **self._room(),
            **(self._recording.load() if self._recording else {}),
            **self._network.load(),  # at the end: what strangers do pushes nothing else out
        }

    def _late(self) -> str:
        return self._watchdog.late() or self._written().unreadable

    def _collect(self) -> Iterator[Metric]:
        from nexus import metrics  # with Prometheus's client, which nobody needs who isn't asked

        figures = self._figures(time.monotonic())
        return metrics.collect(
            self._dc, self._name, figures, self._lag.histogram.snapshot(), is_failing=bool(self._late())
        )

    def _state(self) -> str:
        return state_of("up", self._late())

    def _bind(self, kind: int, link: Link, receive_bytes: int) -> Socket:
        one = open_socket(
            self._network,
            kind,
            heartbeat_s=self._heartbeat_s,
            receive_bytes=receive_bytes,
        )
        self._bound.append(one)
        self._numeric[link] = bind(self._network, one, getattr(self._endpoints, link), link)
        if link in REACHED["nexus"]:
            listen(one, self._placement, self._numeric[link])
        return one

    def _reader(self, one: Socket, link: Link) -> FrameReader:
        endpoint = getattr(self._endpoints, link)
        reader = FrameReader(self._network, one, endpoint, link=link, clock=time.monotonic, rest=rest)
        self._readers.append(reader)
        return reader

    def _spawn(self, what: str, run: Callable[[], None]) -> None:
        self._greenlets.append(spawn(f"the Nexus's {what}", self._lasting, run))

    def _lasting(self, run: Callable[[], None]) -> None:
        run()
        assert self._stopping, "it ended by itself"

    def _close(self) -> None:
        for one in self._bound:
            one.close(linger=0)
