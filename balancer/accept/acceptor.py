"""Connections become clients: who is let in, and what comes before HTTP, a PROXY header and TLS."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

from balancer.accept.preface import Preface
from balancer.accept.tls import TlsContexts
from balancer.hub.sockets import ClientLink
from balancer.measures.stats import FrontStats
from balancer.middle.client import Client
from balancer.middle.networks import Networks
from balancer.middle.traffic import Traffic
from balancer.vip import door
from hitmesh.config.addresses import host_port_text
from hitmesh.hub.acceptor import Acceptor
from hitmesh.logs import Complaints

_complaints = Complaints(logging.getLogger(__name__))


class ClientAcceptor(Acceptor):
    """Makes the connections of `listener` clients of `traffic`."""

    def __init__(
        self,
        traffic: Traffic,
        listener: socket.socket,
        *,
        stats: FrontStats,
        proxied: Networks,
        tls: TlsContexts | None = None,
    ) -> None:
        super().__init__(listener)
        self._traffic = traffic
        self._stats = stats
        self._proxied = proxied
        self._tls = tls
        self._scheme = "https" if tls is not None else "http"
        host, port = listener.getsockname()[:2]
        self._local = host_port_text(host, port)

    def stop(self) -> None:
        """Take those that the kernel has queued, and no more: perhaps nobody else has the socket."""
        if not self._stopped:
            self.take()
        super().stop()

    def is_full(self) -> bool:
        """Whether there are as many clients as may be."""
        return len(self._traffic.clients) >= self._traffic.limits.connections

    def begin(self, stream: Any, address: Any) -> None:
        """A client, or who says for whom it comes."""
        if self._traffic.draining:
            door.welcome(stream)
        peer = address[0] if isinstance(address, tuple) else "unix"
        peer = peer.removeprefix("::ffff:")  # an IPv4 client of a socket that takes both
        if self._proxied.contains(peer):
            Preface(stream, peer, self._traffic.limits.head_s, self._stats, self._serve)
        else:
            self._serve(stream, peer)

    def failed(self, error: OSError) -> None:
        """One ended before it began: gone, or not what it should be."""
        _complaints.warn("early end", "a connection ended before it began: %s", error)

    def _serve(self, stream: Any, address: str, received: bytes = b"") -> None:
        """A client at `address`, perhaps behind whoever sent the PROXY header; `received` came from it already."""
        traffic, now = self._traffic, time.monotonic()
        if traffic.client_limits is not None and not traffic.client_limits.opened(address):
            self._stats.denied_connections += 1
            stream.close()
            return
        try:
            carried = stream
            if self._tls is not None:
                carried, received = self._tls.wrap(stream, received), b""
            link = ClientLink(carried)
            link.client = client = Client(
                traffic, link, stats=self._stats, address=address, scheme=self._scheme, local=self._local, now=now
            )
        except BaseException:
            if traffic.client_limits is not None:
                traffic.client_limits.closed(address)
            raise
        link.start_reading()
        if received:
            client.received(received, now)
