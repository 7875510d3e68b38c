"""An upgraded connection: bytes pass both ways, unread, until one side is through."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balancer.client import Client
    from balancer.exchange import Exchange
    from balancer.upstream import Upstream

_monotonic = time.monotonic


class Tunnel:
    """Between `client` and `upstream`, after the exchange that led to it. Takes its place at the upstream."""

    one_way = False  # what can't be sent is the end of both
    __slots__ = ("_client", "_client_ended", "_exchange", "_over", "_upstream", "_upstream_ended")

    def __init__(self, client: Client, upstream: Upstream, exchange: Exchange) -> None:
        self._client = client
        self._upstream = upstream
        self._exchange = exchange
        self._client_ended = self._upstream_ended = self._over = False

    def start(self) -> None:
        """Pass on what has come already."""
        self._upstream.exchange = self
        self._touch()
        self._client.start_reading()
        if data := self._client.reader.rest():
            self.from_client(data)
        if data := self._upstream.reader.rest():
            self.answered(data)

    # --- the client's calls -----------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        """Bytes for the backend."""
        self._exchange.bytes_in += len(data)
        self._touch()
        if not self._upstream.send(data) and not self._over:
            self._client.stop_reading()

    def client_drained(self) -> None:
        """The client is ready for more."""
        if not self._upstream_ended:
            self._upstream.start_reading()
        else:
            self._client.shut()

    def client_ended(self) -> None:
        """The client sends nothing more, or is gone."""
        self._client_ended = True
        if self._upstream_ended or self._client.closed:
            self.close()
        elif not self._upstream.kept:
            self._upstream.shut()

    # --- the upstream's calls, as an exchange gets them -------------------------------------

    def answered(self, data: bytes) -> None:
        """Bytes for the client."""
        self._exchange.bytes_out += len(data)
        self._touch()
        if not self._client.send(data) and not self._over:
            self._upstream.stop_reading()

    def backend_drained(self) -> None:
        """The backend is ready for more."""
        if not self._client_ended:
            self._client.start_reading()
        else:
            self._upstream.shut()

    def backend_ended(self) -> None:
        """The backend sends nothing more."""
        self._upstream_ended = True
        if self._client_ended:
            self.close()
        elif not self._client.kept:
            self._client.shut()

    def backend_lost(self, error: OSError) -> None:
        """The backend is gone."""
        self.close()

    def connected(self) -> None:
        """It is connected already."""

    def not_connected(self, error: OSError) -> None:
        """It was connected already."""

    def backend_timed_out(self) -> None:
        """Nothing passed for too long."""
        self.close()

    def close(self) -> None:
        """End both sides."""
        if self._over:
            return
        self._over = True
        exchange, client = self._exchange, self._client
        client.tunnelled = None
        client.exchange = None
        exchange.tunnel_over()
        client.traffic.exchange_over(client, exchange)
        client.gone()

    def _touch(self) -> None:
        self._client.deadline = _monotonic() + self._client.traffic.limits.tunnel_s
        self._upstream.deadline = self._client.deadline
