"""An upgraded connection: bytes pass both ways, unread, until one side is through. Pure."""

from __future__ import annotations

from balancer.middle.client_end import ClientEnd
from balancer.middle.exchange import Exchange
from balancer.middle.traffic import Traffic
from balancer.middle.upstream import Carried, Upstream


class Tunnel(Carried):
    """Between `client` and `upstream`, after the exchange that led to it; takes its place at the upstream.

    Silence of both ends it after `tunnel_s`. `now` is monotonic, everywhere.
    """

    __slots__ = ("_client", "_client_ended", "_exchange", "_over", "_traffic", "_upstream", "_upstream_ended")

    one_way = False  # what can't be sent is the end of both

    def __init__(self, client: ClientEnd, upstream: Upstream, exchange: Exchange, traffic: Traffic) -> None:
        self._client = client
        self._upstream = upstream
        self._exchange = exchange
        self._traffic = traffic
        self._client_ended = False
        self._upstream_ended = False
        self._over = False

    def start(self, now: float) -> None:
        """Pass on what has come already."""
        self._upstream.carried = self
        self._touch(now)
        self._client.wire.start_reading()
        if data := self._client.reader.rest():
            self.from_client(data, now)
        if data := self._upstream.reader.rest():
            self.answered(data, now)

    def close(self, now: float) -> None:
        """End both sides."""
        if not self._over:
            self._over = True
            self._exchange.tunnel_over(now)
            self._client.gone()

    # --- the client's calls -----------------------------------------------------------------

    def from_client(self, data: bytes, now: float) -> None:
        """Bytes for the backend."""
        self._exchange.bytes_in += len(data)
        self._touch(now)
        if not self._upstream.wire.send(data):
            self._client.wire.stop_reading()

    def client_drained(self) -> None:
        """The client is ready for more."""
        if not self._upstream_ended:
            self._upstream.wire.start_reading()
        else:
            self._client.wire.shut()

    def client_ended(self, now: float) -> None:
        """The client sends nothing more."""
        self._client_ended = True
        if self._upstream_ended:
            self.close(now)
        elif not self._upstream.wire.kept:
            self._upstream.wire.shut()

    # --- the upstream's calls ---------------------------------------------------------------

    def answered(self, data: bytes, now: float) -> None:
        """Bytes for the client."""
        self._exchange.bytes_out += len(data)
        self._touch(now)
        if not self._client.wire.send(data):
            self._upstream.wire.stop_reading()

    def backend_drained(self, now: float) -> None:
        """The backend is ready for more."""
        if not self._client_ended:
            self._client.wire.start_reading()
        else:
            self._upstream.wire.shut()

    def backend_ended(self, now: float) -> None:
        """The backend sends nothing more."""
        self._upstream_ended = True
        if self._client_ended:
            self.close(now)
        elif not self._client.wire.kept:
            self._client.wire.shut()

    def backend_lost(self, error: OSError, now: float) -> None:
        """The backend is gone."""
        self.close(now)

    def backend_timed_out(self, now: float) -> None:
        """Nothing passed for too long."""
        self.close(now)

    def _touch(self, now: float) -> None:
        self._client.deadline = self._upstream.deadline = now + self._traffic.limits.tunnel_s
