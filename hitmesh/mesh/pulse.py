"""The sending side of an instance's heartbeats: one PUB socket connected to every Nexus.

It owns the numbers of the heartbeats. It must not know when one is due. Nothing here blocks: a
heartbeat that can't be sent now is worth nothing later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import zmq

from hitmesh.mesh.connecting import Connections
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import MAX_REQUEST_BYTES, open_socket
from hitmesh.protocol.messages import MAX_LOAD, MAX_LOADS, Heartbeat, Instance, Leave, encode, make


class Pulse:
    """Heartbeats of one instance, which `describe` describes, to the Nexuses at `endpoints`."""

    def __init__(
        self,
        network: Network,
        endpoints: Iterable[str],
        *,
        keys: Callable[[str], Sequence[str]] = lambda _: (),
        heartbeat_s: float,
        describe: Callable[[], Instance],
    ) -> None:
        self._describe = describe
        self._interval_ms = int(heartbeat_s * 1000)
        self._number = 0
        self._socket = open_socket(network, zmq.PUB, heartbeat_s=heartbeat_s, receive_bytes=MAX_REQUEST_BYTES)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a Nexus that is away
        self._connections = Connections(network, self._socket, endpoints, what="heartbeats", keys=keys)

    def beat(self) -> None:
        """Send a heartbeat now."""
        self._number += 1
        message = make(Heartbeat, self._number, self._interval_ms, self._describe())
        self._socket.send(encode(message), zmq.NOBLOCK)

    def leave(self, id: str) -> None:
        """Send the last words of this instance."""
        self._socket.send(encode(make(Leave, id)), zmq.NOBLOCK)

    @property
    def failing(self) -> int:
        """Nexuses that were reached, and let us not in."""
        return self._connections.failing

    def close(self) -> None:
        """Close the socket."""
        self._connections.close()
        self._socket.close(linger=0)


def sendable(load: Mapping[str, float]) -> dict[str, float]:
    """`load` without what no Nexus would accept, and with it the whole heartbeat: NaN, infinities, too many."""
    fit = {name: float(value) for name, value in load.items() if math.isfinite(value) and abs(value) <= MAX_LOAD}
    return dict(list(fit.items())[:MAX_LOADS])
