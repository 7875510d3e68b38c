"""What a process opens its sockets in: a ZeroMQ context, and who the process is there.

Without keys whoever reaches a port is heard; with them the guard says who is (hitmesh.mesh.guard).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import zmq

from hitmesh.config import Config, nexus_endpoints
from hitmesh.mesh.keyring import Keyring, open_keyring
from hitmesh.protocol.names import split_key
from hitmesh.state.keylist import OPERATOR, Peer

if TYPE_CHECKING:
    from hitmesh.mesh.guard import Guard

Socket = zmq.Socket[Any]
Context = zmq.Context[Any]


class Network:
    """A context and its keys. `close` it at the end, after its sockets."""

    def __init__(self, context: Context, keyring: Keyring | None = None) -> None:
        self.context = context
        self.keyring = keyring
        self._guard: Guard | None = None

    @property
    def guard(self) -> Guard | None:
        """Who decides whom this process hears; None without keys. The context must be a green one."""
        if self._guard is None and self.keyring is not None:
            from hitmesh.mesh.guard import Guard  # commands have no gevent, and nobody to hear

            self._guard = Guard(self.context, self.keyring)
        return self._guard

    @property
    def door(self) -> Guard | None:
        """The guard of bound sockets; None where those take everybody: without keys, and before a mesh has them all."""
        return self.guard if self.keyring is not None and self.keyring.is_served else None

    def known(self, key: str) -> tuple[str, ...]:
        """The key, if it may be connected to: who was taken off the list is nobody any more."""
        return (key,) if self.keyring is None or key in self.keyring.keys else ()

    def is_good(self, endpoint: str) -> bool:
        """Whether a connection to an endpoint under the key that it says may go on."""
        key = split_key(endpoint)[1]
        if self.keyring is None:
            return True
        return key in self.keyring.keys if key else self.keyring.takes_plain

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called when somebody else may be connected to than before. It must not block."""
        if self.guard is not None:
            self.guard.on_change(call)

    def ways(self, keys: Sequence[str]) -> tuple[str, ...]:
        """The keys to try with somebody whose endpoint says none; the empty one is none."""
        return (*keys, "") if self.keyring is not None and self.keyring.takes_plain else tuple(keys)

    def shadow(self) -> Network:
        """The same, with plain sockets: for those that never wait."""
        return Network(zmq.Context.shadow(self.context.underlying), self.keyring)

    def load(self) -> dict[str, float]:
        """What a heartbeat says of those who weren't heard."""
        return self._guard.load() if self._guard is not None else {}

    def close(self) -> None:
        """Close what is left, and the context."""
        if self._guard is not None:
            self._guard.close()
        self.context.destroy(linger=0)


def nexus_keys(keyring: Keyring | None, config: Config) -> Callable[[str], tuple[str, ...]]:
    """What tells the keys of a datacenter's Nexuses, by any of their endpoints as they are configured."""
    if keyring is None:
        return lambda _: ()
    names = {endpoint: one.name for one in config.instances("nexus") for endpoint in nexus_endpoints(one)}
    return lambda endpoint: keyring.keys.keys_of(Peer(config.name, "nexus", names.get(endpoint, "")))


def operator_keyring(config: Config) -> Keyring | None:
    """The keys of whoever runs commands; None where the mesh has none. Raises ConfigError."""
    return open_keyring(config, OPERATOR, OPERATOR)


def open_network(context: Context, config: Config, role: str, name: str) -> Network:
    """The network of one instance, with its keys when its datacenter has some. Raises ConfigError."""
    return Network(context, open_keyring(config, role, name))
