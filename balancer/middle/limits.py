"""How much one client may ask of a worker: open connections, and requests a second. Pure.

Owns the counts by client. It must not know what a refusal looks like. A client is an IPv4 address,
or the /64 of an IPv6 one: that is what one customer is given (RFC 6177), who has 2^64 addresses in it.

What is kept is bounded. Connections: by those that are open. Requests: a client is forgotten once
a burst is free for it again, as if it had never come; and past `max_clients` the one that asked the longest
ago is forgotten early, for under a flood of addresses a stranger's limit must not shut out others.

Each worker counts for itself: an instance with several lets a client have that many times as much.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

MAX_CLIENTS: Final = 100_000  # that rates are kept of: 18 MB
FORGOTTEN_AT_ONCE: Final = 2  # for each that is new: so what is idle goes faster than others come
SLACK_S: Final = 1e-6  # what sums of floats may be wrong by: one who comes when told to is let in
_NETWORK_BITS: Final = 64
_REMEMBERED: Final = 8192  # IPv6 addresses whose network needn't be found again


class ClientLimits:
    """Limits for each client; 0 is none. `burst` requests may come at once; 0: as many as `rps`.

    Nothing needs to be asked where `enabled` is false. `opened` and `closed` count connections,
    and belong together: only one that was allowed is closed.
    """

    def __init__(self, connections: int, rps: float, burst: int, max_clients: int = MAX_CLIENTS) -> None:
        self.enabled = connections > 0 or rps > 0
        self._connections = connections
        self._open: dict[str, int] = {}
        # A token bucket, kept as the time at which it will be full again (the "virtual scheduling" of
        # ITU-T I.371): one number a client, and nothing to fill up meanwhile.
        self._interval_s = 1.0 / rps if rps > 0 else 0.0
        self._span_s = self._interval_s * (max(burst or round(rps), 1) - 1)
        self._full_at: OrderedDict[str, float] = OrderedDict()  # the one that asked the longest ago first
        self._max_clients = max_clients

    def __len__(self) -> int:
        """How many clients something is kept of, of either kind."""
        return len(self._open) + len(self._full_at)

    def opened(self, address: str) -> bool:
        """Whether `address` may have one more connection, which is counted then."""
        if not self._connections:
            return True
        client = client_of(address)
        count = self._open.get(client, 0)
        if count >= self._connections:
            return False
        self._open[client] = count + 1
        return True

    def count(self, address: str) -> None:
        """One that is open already counts too, allowed or not."""
        client = client_of(address)
        self._open[client] = self._open.get(client, 0) + 1

    def closed(self, address: str) -> None:
        """A connection that `opened` allowed is no more."""
        if not self._connections:
            return
        client = client_of(address)
        count = self._open[client] - 1
        if count:
            self._open[client] = count
        else:
            del self._open[client]

    def request(self, address: str, now: float) -> float:
        """0.0: go on. Else it is too much, and in so many seconds it won't be; nothing is counted."""
        if not self._interval_s:
            return 0.0
        client = client_of(address)
        full_at = self._full_at.get(client, 0.0)
        wait_s = full_at - self._span_s - now
        if wait_s > SLACK_S:
            return wait_s
        if full_at:
            self._full_at.move_to_end(client)
        else:
            self._forget(now)
        self._full_at[client] = max(full_at, now) + self._interval_s
        return 0.0

    def _forget(self, now: float) -> None:
        kept = self._full_at
        for _ in range(FORGOTTEN_AT_ONCE):
            oldest = next(iter(kept), None)
            if oldest is None or (kept[oldest] > now and len(kept) < self._max_clients):
                return
            kept.popitem(last=False)


def client_of(address: str) -> str:
    """Whom `address` counts for."""
    return address if ":" not in address else _network(address)


@lru_cache(_REMEMBERED)
def _network(address: str) -> str:
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address  # nothing that a socket says; it counts for itself
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{int(parsed) >> _NETWORK_BITS:x}::/64"
