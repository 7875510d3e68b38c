"""One listening socket: takes connections and makes them clients.

Owns the limits on how many there may be, and what comes before HTTP: a PROXY header and TLS.
"""

from __future__ import annotations

import _socket
import errno
import logging
import socket
import time
from typing import Any, Final

from gevent.hub import get_hub

from balancer.accept.preface import Preface
from balancer.accept.tls import TlsContexts
from balancer.hub.sockets import ClientLink
from balancer.measures.stats import FrontStats
from balancer.middle.client import Client
from balancer.middle.networks import Networks
from balancer.middle.traffic import Traffic
from balancer.vip import door
from hitmesh.config.addresses import host_port_text
from hitmesh.hub.link import READ
from hitmesh.logs import Complaints

AT_ONCE: Final = 64  # connections taken before the hub gets round to those that are there
PAUSE_S: Final = 0.2  # without a free descriptor, or over the limit of connections
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger(__name__)
_complaints = Complaints(log)


class Acceptor:
    """Takes connections from `listener` until stopped."""

    def __init__(
        self,
        traffic: Traffic,
        listener: socket.socket,
        *,
        stats: FrontStats,
        proxied: Networks,
        tls: TlsContexts | None = None,
    ) -> None:
        self._traffic = traffic
        self._listener = listener
        self._accept: Any = getattr(listener, "_accept")  # noqa: B009
        self._family = listener.family
        self._stats = stats
        self._proxied = proxied
        self._tls = tls
        self._scheme = "https" if tls is not None else "http"
        host, port = listener.getsockname()[:2]
        self._local = host_port_text(host, port)
        loop = get_hub().loop
        self._watcher: Any = loop.io(listener.fileno(), READ)
        self._pause: Any = loop.timer(0.0, PAUSE_S)  # `again` starts it; one without a repeat fires at once next time
        self._stopped = False

    def start(self) -> None:
        """Begin to take connections."""
        self._watcher.start(self._on_readable)

    def stop(self) -> None:
        """Take those that the kernel has queued, and no more: perhaps nobody else has the socket."""
        if not self._stopped:
            self._on_readable()
            self._stopped = True
            for watcher in (self._watcher, self._pause):
                watcher.stop()
                watcher.close()
            self._listener.close()

    def _on_readable(self) -> None:
        traffic = self._traffic
        for _ in range(AT_ONCE):
            if len(traffic.clients) >= traffic.limits.connections:
                self._wait()  # they queue in the kernel
                return
            try:
                descriptor, address = self._accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR:
                    raise
                log.error("can't take connections: %s", error.strerror)
                self._wait()
                return
            stream = _socket.socket(self._family, socket.SOCK_STREAM, 0, descriptor)
            stream.setblocking(False)
            try:
                if traffic.draining:
                    door.welcome(stream)
                self._begin(stream, address[0] if isinstance(address, tuple) else "unix")
            except OSError as error:
                _complaints.warn("early end", "a connection ended before it began: %s", error)
                stream.close()

    def _wait(self) -> None:
        self._watcher.stop()
        self._pause.again(self._go_on)

    def _go_on(self) -> None:
        self._pause.stop()
        if not self._stopped:
            self._watcher.start(self._on_readable)

    def _begin(self, stream: Any, peer: str) -> None:
        peer = peer.removeprefix("::ffff:")  # an IPv4 client of a socket that takes both
        if self._proxied.contains(peer):
            Preface(stream, peer, self._traffic.limits.head_s, self._stats, self._serve)
        else:
            self._serve(stream, peer)

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
