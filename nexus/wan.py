"""A Nexus's voice in the other datacenters: one socket, connected to every Nexus there. Thin I/O around
the federation.

It is an XPUB, which to the others is a PUB: it hears each subscription arrive, and so knows the
moment from which a Nexus that is new, or whose link has healed, can be told. What it hears in
return comes in by the Nexus's own heartbeats socket, as all heartbeats do.

Invariants: nothing is queued for a Nexus that is away, and none of them can make another wait.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import gevent
import zmq
from gevent.event import Event

from hitmesh.hub.rest import rest
from hitmesh.mesh.connecting import Connections
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import MAX_REQUEST_BYTES, FrameReader, open_socket
from hitmesh.protocol.messages import Seen
from nexus.federation import Federation

PING_S: Final = 1.0  # a link that is cut is noticed after three, and tried again about every second
SHARE: Final = 4  # times as long as a look took, others have the hub before the next
COLD_S: Final = 0.1  # between two looks whether this Nexus knows its own datacenter yet

_log = logging.getLogger("hitmesh.nexus")


class Wan:
    """`run` and `greet` are greenlets of the Nexus; both end with `close`.

    `picture` is what the Nexus knows of its own datacenter, None as long as it may not know everybody;
    `settings` the digest of the live settings there.
    """

    def __init__(
        self,
        federation: Federation,
        network: Network,
        *,
        picture: Callable[[], tuple[Seen, ...] | None],
        settings: Callable[[], str],
    ) -> None:
        self._federation = federation
        self._picture, self._settings = picture, settings
        self._wake = Event()
        self._heard: frozenset[str] = frozenset()
        self._closed = False
        self._network = network
        self._socket = open_socket(
            network,
            zmq.XPUB,
            heartbeat_s=PING_S,
            receive_bytes=MAX_REQUEST_BYTES,
        )
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscription is told, not only the first
        self._connections = Connections(network, self._socket, what="other datacenters", keys=self._keys)

    def wake(self) -> None:
        """Look whether there is something to say: something may have changed. It is cheap."""
        self._wake.set()

    def run(self) -> None:
        """Say what is due, to all that are known."""
        took_s = 0.0
        while not self._closed:
            self._wake.clear()
            gevent.sleep(min(SHARE * took_s, COLD_S))
            now = time.monotonic()
            self._connections.want(self._federation.endpoints(now))
            self._note(self._federation.heard(now))
            picture = self._picture()
            if picture is None:
                pause_s = COLD_S
            else:
                if words := self._federation.speak(picture, self._settings(), now):
                    self._socket.send(words, zmq.NOBLOCK)  # drops rather than block
                pause_s = self._federation.pause_s(now)
            took_s = time.monotonic() - now
            self._wake.wait(pause_s)

    def greet(self) -> None:
        """Notice who has just connected."""
        reader = FrameReader(self._network, self._socket, "other datacenters", clock=time.monotonic, rest=rest)
        while (frames := reader.read()) is not None:
            if frames[0][:1] == b"\x01":  # a subscription
                self._federation.greet()
                self._wake.set()

    @property
    def failing(self) -> int:
        """Nexuses of other datacenters that were reached, and let us not in."""
        return self._connections.failing

    def close(self) -> None:
        """Close the socket."""
        self._closed = True
        self._wake.set()
        self._connections.close()
        self._socket.close(linger=0)

    def _keys(self, endpoint: str) -> tuple[str, ...]:
        """The keys that may be at an address which a configuration or a catalogue has: it doesn't say whose it is."""
        if self._network.keyring is None:
            return ()
        keys: list[str] = []
        for dc, index in self._federation.places_of(endpoint).items():
            there = self._network.keyring.keys.nexus_keys([dc])
            first = index % max(1, len(there))  # they are likely written in the order of their names
            keys += [*there[first:], *there[:first]]
        return tuple(keys)

    def _note(self, heard: frozenset[str]) -> None:
        for dc in sorted(heard - self._heard):
            _log.info("hears datacenter %s", dc, extra={"fields": {"peer": dc}})
        for dc in sorted(self._heard - heard):
            _log.warning("datacenter %s is out of reach", dc, extra={"fields": {"peer": dc}})
        self._heard = heard
