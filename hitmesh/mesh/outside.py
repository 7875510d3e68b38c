"""A datacenter as the others see it: its nodes' addresses there. What those are called is hitmesh.config.outside's.

A name (of a router whose address changes, say) is looked up by a greenlet, again and again. Until it is known
nobody elsewhere is told anything of who is there: what is told inside may be somebody else's there.
"""

from __future__ import annotations

import logging
from functools import partial

import zmq
from msgspec.structs import replace

from hitmesh.config import Config, Placement
from hitmesh.config.outside import REACHED, outside
from hitmesh.errors import MeshError
from hitmesh.mesh.connecting import bind_also
from hitmesh.mesh.network import Socket
from hitmesh.mesh.resolving import follow
from hitmesh.protocol.messages import Seen
from hitmesh.protocol.names import bracketed, is_numeric, split_key

log = logging.getLogger("hitmesh.mesh")


class Outside:
    """What one process knows of it. `start` looks names up, until `stop`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._placements = {(role, one.name): one for role in REACHED for one in config.instances(role)}
        names = {node.wan_address for node in config.nodes.values() if node.wan_address}
        self._hosts = {name: name if is_numeric(_endpoint(name)) else "" for name in names}
        self._stopped = False

    def start(self) -> None:
        """Begin to look names up; returns at once."""
        for name in [name for name, host in self._hosts.items() if not host]:
            follow(_endpoint(name), lambda: not self._stopped, partial(self._found, name))

    def stop(self) -> None:
        """Look nothing up any more."""
        self._stopped = True

    def endpoint(self, placement: Placement, inside: str) -> str:
        """Where other datacenters reach an endpoint of this instance; empty while that isn't known."""
        host = self._hosts.get(placement.wan_address, "")
        return outside(placement, inside, host) if host or not placement.wan_address else ""

    def seen(self, picture: tuple[Seen, ...]) -> tuple[Seen, ...]:
        """A picture of this datacenter as others are told it."""
        return tuple(map(self._seen, picture)) if self._hosts else picture

    def _seen(self, one: Seen) -> Seen:
        instance = one.instance
        role = next((role for role in REACHED if role == instance.role), None)
        if role is None:
            return one
        placement = self._placements.get((role, instance.name)) or self._config.placement(role, instance.name)
        if not placement.wan_address:
            return one
        reached = {key: self.endpoint(placement, instance.endpoints.get(key, "")) for key in REACHED[role]}
        endpoints = {key: endpoint for key, endpoint in reached.items() if endpoint}
        return replace(one, instance=replace(instance, endpoints=endpoints))

    def _found(self, name: str, numeric: str) -> None:
        found = numeric.removeprefix("tcp://").rpartition(":")[0]
        if found != self._hosts[name]:
            log.info("other datacenters are told %s, which is %s", name, found)
            self._hosts[name] = found


def listen(socket: Socket, placement: Placement, bound: str) -> None:
    """Listen also at the node's address for other datacenters, where this host has it: a router's is no host's.

    `bound` is where the socket is bound already. A name isn't looked up for this. Raises MeshError.
    """
    here = split_key(bound)[0]
    there = outside(placement, here)
    if placement.wan_shift or there == here or not is_numeric(there):
        return
    try:
        bind_also(socket, there)
    except MeshError as error:
        if not isinstance(error.__cause__, zmq.ZMQError) or error.__cause__.errno != zmq.EADDRNOTAVAIL:
            raise


def _endpoint(host: str) -> str:
    return f"tcp://{bracketed(host)}:1"
