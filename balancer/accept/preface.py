"""What a proxy in front of us says before the client's own bytes: the PROXY protocol's header.

Owns the socket until the header is whole, then hands it on with what came behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from gevent.hub import get_hub

from balancer.accept.proxy_protocol import ProxyHeader, ProxyProtocolError
from balancer.measures.stats import FrontStats
from hitmesh.hub.link import LATER, READ
from hitmesh.logs import Complaints

HEADER_READ_BYTES: Final = 4096

_complaints = Complaints(logging.getLogger(__name__))


class Preface:
    """Reads the header from `stream`, then calls `begin(stream, client's address, bytes behind the header)`."""

    def __init__(self, stream: Any, peer: str, timeout_s: float, stats: FrontStats, begin: Callable[..., None]) -> None:
        self._stream = stream
        self._peer = peer
        self._stats = stats
        self._begin = begin
        self._header = ProxyHeader()
        loop = get_hub().loop
        self._watcher: Any = loop.io(stream.fileno(), READ)
        self._timer: Any = loop.timer(timeout_s)
        self._watcher.start(self._on_readable)
        self._timer.start(self._fail, "no whole PROXY header in time")

    def _on_readable(self) -> None:
        try:
            data = self._stream.recv(HEADER_READ_BYTES)
            if not data:
                self._fail("the connection ended before its PROXY header")
                return
            found = self._header.feed(data)
        except LATER:
            return
        except (OSError, ProxyProtocolError) as error:
            self._fail(str(error))
            return
        if found is None:
            return
        self._leave()
        self._begin(self._stream, found.client or self._peer, found.rest)

    def _fail(self, reason: str) -> None:
        _complaints.warn("PROXY", "%s: %s", self._peer, reason)
        self._stats.handshake_failures += 1
        self._leave()
        self._stream.close()

    def _leave(self) -> None:
        for watcher in (self._watcher, self._timer):
            watcher.stop()
            watcher.close()
