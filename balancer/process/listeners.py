"""The listening sockets of an instance: made, shared out among its workers, closed.

Each worker slot has a socket of its own on the same port (SO_REUSEPORT), which outlives the worker:
a client that the kernel has queued on it waits for the next one. Knows nothing of processes.

Invariants: nothing that is held is closed here but by `close`; a failed `bind` leaves no socket
behind; a socket takes no connections before `open_up`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from hitmesh.config.addresses import host_port_text

Kind = Literal["http", "tls", "admin", "vip", "vip_tls"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
# Of a virtual IP, which this host may get later: they are bound all the same.
MOVING: Final[Mapping[Kind, Kind]] = {"vip": "http", "vip_tls": "tls"}
"""What is served on them."""
Given = Mapping[Kind, list[socket.socket]]  # the sockets of one worker

# Connections that the kernel queues on a socket: what comes in while a worker restarts. The kernel's own
# limit (net.core.somaxconn) is 4096 since Linux 5.4.
BACKLOG: Final = 4096
# Python has no names for them: linux/in.h, linux/in6.h.
_FREEBIND: Final = {socket.AF_INET: (socket.SOL_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}


class ListenError(Exception):
    """An address that can't be listened on; the message says why, for an operator."""


class Address(Struct, frozen=True):
    """A host, without brackets, and a port; 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_port_text(self.host, self.port)


class Bound(Struct, frozen=True):
    """The sockets of one address."""

    wanted: Address  # as it was asked for: its port may be 0, and its host a name
    sockets: tuple[socket.socket, ...]

    @property
    def address(self) -> Address:
        """Where it really is."""
        return _address(self.sockets[0])


def bind(
    wanted: Mapping[Kind, Address], *, workers: int, held: Mapping[Kind, Bound] | None = None
) -> dict[Kind, Bound]:
    """The sockets for `wanted`: those that are held, and new ones for what is missing. Raises ListenError.

    One socket per worker, and one for the admin pages. More than that are kept if they are held: a
    client may be queued on them.
    """
    held = held or {}
    # Beside sockets of our own the kernel can't tell us whether there are others'.
    own_ports = {bound.address.port for bound in held.values()}
    made: list[socket.socket] = []
    result: dict[Kind, Bound] = {}
    try:
        for kind, address in wanted.items():
            before = held.get(kind)
            sockets = list(before.sockets) if before is not None and before.wanted == address else []
            place = _address(sockets[0]) if sockets else address
            if not sockets and address.port not in own_ports:
                _check_free(address, moving=kind in MOVING)
            while len(sockets) < (1 if kind == "admin" else workers):
                made.append(_bound(place, shared=True, moving=kind in MOVING))
                sockets.append(made[-1])
                place = Address(address.host, made[-1].getsockname()[1])
            result[kind] = Bound(address, tuple(sockets))
    except ListenError:
        for sock in made:
            sock.close()
        raise
    return result


def open_up(bounds: Mapping[Kind, Bound]) -> None:
    """Take connections on all of them; again is harmless. Raises ListenError."""
    for bound in bounds.values():
        try:
            for sock in bound.sockets:
                sock.listen(BACKLOG)
        except OSError as error:
            raise _translated(error, bound.address) from error


def close(bounds: Mapping[Kind, Bound], *, but: Mapping[Kind, Bound] | None = None) -> None:
    """Close all sockets that aren't also in `but`. Whoever inherited them still has them."""
    kept = {id(sock) for sock in _all(but or {})}
    for sock in _all(bounds):
        if id(sock) not in kept:
            sock.close()


def share(bounds: Mapping[Kind, Bound], workers: int) -> list[Given]:
    """The sockets of each worker: each has its own, and surplus ones are everybody's. The admin socket is worker 0's.

    The kernel gives each socket as many clients as any other, so one worker with two of them would have twice the load.
    """
    return [
        {
            kind: mine
            for kind, bound in bounds.items()
            if (mine := [sock for number, sock in enumerate(bound.sockets) if number == index or number >= workers])
        }
        for index in range(workers)
    ]


def describe(bounds: Mapping[Kind, Bound]) -> str:
    """Where they are, for people."""
    return ", ".join(f"{kind} on {bound.address}" for kind, bound in bounds.items())


def _all(bounds: Mapping[Kind, Bound]) -> Iterable[socket.socket]:
    return (sock for bound in bounds.values() for sock in bound.sockets)


def _address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def _check_free(address: Address, *, moving: bool) -> None:
    # SO_REUSEPORT lets any process of this user in: a second balancer on the port would take half of
    # the connections, and nobody would know. Without it, the kernel refuses what somebody listens on.
    _bound(address, shared=False, moving=moving).close()


def _bound(address: Address, *, shared: bool, moving: bool) -> socket.socket:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(f"{address.host} can't be resolved") from error
    family, kind, protocol, _, place = found[0]
    with contextlib.ExitStack() as failed:
        try:
            sock = socket.socket(family, kind, protocol)
            failed.callback(sock.close)
            # Connections of our predecessor that are in TIME_WAIT don't keep us from the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if moving:
                sock.setsockopt(*_FREEBIND[family], 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
            sock.setblocking(False)
            sock.bind(place)
        except OSError as error:
            raise _translated(error, address) from error
        failed.pop_all()
    return sock


def _translated(error: OSError, address: Address) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return ListenError(f"port {address.port} of {address.host} is in use")
    if error.errno == errno.EACCES:
        return ListenError(f"port {address.port} of {address.host} is for privileged users only")
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(f"{address.host} is not an address of this machine")
    return ListenError(f"{address} can't be listened on: {os.strerror(error.errno or 0)}")
