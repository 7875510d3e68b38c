"""Where sockets bind and connect: the one place. ZeroMQ gets numeric addresses only, and, in a mesh with keys, no
connection without them.

Whose key belongs to which endpoint is said by the endpoint, or by whoever names it; whom a bound socket hears is the
guard's (hitmesh.mesh.guard).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import zmq

from hitmesh.errors import MeshError
from hitmesh.mesh.keyring import SHORT
from hitmesh.mesh.monitor import Event, events_of, monitor_of
from hitmesh.mesh.resolving import follow, resolve
from hitmesh.protocol.names import is_numeric, split_key, with_key

if TYPE_CHECKING:
    from hitmesh.mesh.keyring import Keyring
    from hitmesh.mesh.network import Network, Socket
    from hitmesh.state.rights import Link

AFTER_FAILURE_S: Final = 0.2  # to the next try of a connection that wasn't let in, where it is ours to try

_FAILED: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
)
_WATCHED: Final = functools.reduce(operator.or_, _FAILED, zmq.EVENT_HANDSHAKE_SUCCEEDED)
_HINT: Final = "`hitmesh keys list` shows who is known"

log = logging.getLogger("hitmesh.mesh")


def connect(network: Network, socket: Socket, endpoint: str, keys: Sequence[str] = ()) -> None:
    """Connect to a numeric endpoint, under the key that it says, or the first of `keys`.

    Raises MeshError for any other endpoint, for one whose key isn't in our list, and when ZeroMQ refuses.
    """
    place, key = split_key(endpoint)
    _present(network, socket, place, key or next(iter(keys), ""))
    _call(socket, "connect", place)


def bind(network: Network, socket: Socket, endpoint: str, link: Link) -> str:
    """Bind to an endpoint of the configuration, with * for a port of the kernel's choice; what others are to be told.

    That is numeric, and has our key where there are keys. Raises MeshError.
    """
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    numeric = resolve(f"tcp://{host}:{1 if port == '*' else port}")
    guard = network.door
    if guard is not None and network.keyring is not None:
        socket.curve_server = True
        _take_pair(socket, network.keyring)
        socket.zap_domain = link.encode()  # with one, nobody is let in whom the guard hasn't seen
        guard.watch(socket, link)
    _call(socket, "bind", numeric if port != "*" else f"{numeric.removesuffix(':1')}:*", checked=numeric)
    bound = socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
    if guard is None:
        return bound
    if socket.type == zmq.PUB:
        guard.speaks_only(socket, link, bound)
    return with_key(bound, guard.me)


def bind_also(socket: Socket, endpoint: str) -> None:
    """Bind a socket that is bound already at another numeric endpoint too, under the same key. Raises MeshError."""
    _call(socket, "bind", endpoint)


class _Link:
    """A connection to one place."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys  # under which whoever is there may be: one, but while a new one takes the place of the old
        self.trying = 0
        self.fails = False

    @property
    def key(self) -> str:
        return self.keys[self.trying % len(self.keys)] if self.keys else ""


class Connections:
    """What one socket of this process is connected to: endpoints of a configuration or catalogue, names too.

    Names are looked up by a greenlet for each. Where an endpoint says no key, `keys` tells which ones may be there;
    of several the next is tried when one fails. `close` before the socket, which must be a green one.
    """

    def __init__(
        self,
        network: Network,
        socket: Socket,
        endpoints: Iterable[str] = (),
        *,
        what: str,
        keys: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        self._network = network
        self._socket = socket
        self._what = what  # for the log
        self._keys = keys
        self._wanted: dict[str, str] = {}  # endpoint -> numeric, with its key if it says one; empty: not found yet
        self._links: dict[str, _Link] = {}  # by place, without its key
        self._left_out: set[str] = set()
        self._closed = False
        from hitmesh.mesh.duty import spawn  # commands connect too, and have no gevent

        monitor = monitor_of(network.context, socket, _WATCHED)
        self._follower = spawn(f"the connections of {what}", self._follow_events, monitor)
        if network.guard is not None:
            network.guard.on_change(self._sort_out)
        self.want(frozenset(endpoints))

    def want(self, endpoints: Collection[str]) -> None:
        """Be connected to these, and to no others."""
        before = set(self._wanted)
        for endpoint in before.difference(endpoints):
            del self._wanted[endpoint]
        for endpoint in set(endpoints) - before:
            found = is_numeric(endpoint)
            self._wanted[endpoint] = endpoint if found else ""
            if not found:
                follow(endpoint, partial(self._wanted.__contains__, endpoint), partial(self._found, endpoint))
        if before != set(endpoints):
            self._sort_out()

    @property
    def numeric(self) -> frozenset[str]:
        """Where the socket is connected, or tries to be."""
        return frozenset(self._links)

    @property
    def failing(self) -> int:
        """Places that were reached, and let us not in, or to which we have no key."""
        return sum(link.fails for link in self._links.values()) + len(self._left_out)

    def close(self) -> None:
        """Follow no names any more; the socket closes its connections itself."""
        self._closed = True
        self._wanted.clear()
        if self._network.guard is not None:
            self._network.guard.forget(self._sort_out)
        if not self._socket.closed:
            self._socket.disable_monitor()
        self._follower.kill()

    def _found(self, endpoint: str, numeric: str) -> None:
        if self._wanted[endpoint] != numeric:
            self._wanted[endpoint] = numeric
            self._sort_out()

    def _sort_out(self) -> None:
        """Have one connection for each place that is wanted, under a key that may be there."""
        if self._closed:
            return
        wanted: dict[str, tuple[str, ...]] = {}
        for endpoint, numeric in self._wanted.items():
            if numeric:
                place, key = split_key(numeric)
                known = self._network.known(key) if key else self._network.ways(self._keys(endpoint))
                # Of several words about one place whoever is there decides; where somebody was told, comes first.
                first, then = (known, wanted.get(place, ())) if key else (wanted.get(place, ()), known)
                wanted[place] = tuple(dict.fromkeys((*first, *then)))
        if self._network.keyring is not None:
            self._leave_out({place for place, keys in wanted.items() if not keys})
            wanted = {place: keys for place, keys in wanted.items() if keys}
        for place in [one for one in self._links if one not in wanted]:
            del self._links[place]
            self._disconnect(place)
        for place, keys in wanted.items():
            link = self._links.get(place)
            if link is None:
                self._links[place] = _Link(keys)
                self._connect(place)
            elif keys != link.keys:
                before, link.keys = link.key, keys
                link.trying = keys.index(before) if before in keys else 0
                if link.key != before:
                    self._disconnect(place)
                    self._connect(place)

    def _leave_out(self, places: set[str]) -> None:
        """These aren't connected to: nobody who may be there has a key that we know."""
        for place in places - self._left_out:
            log.warning("%s: whoever is at %s has no key in our list, and isn't connected to", self._what, place)
        self._left_out = places

    def _connect(self, place: str) -> None:
        try:
            connect(self._network, self._socket, with_key(place, self._links[place].key))
        except MeshError as error:
            log.warning("%s: %s", self._what, error)  # said once: it counts as connected

    def _disconnect(self, place: str) -> None:
        with contextlib.suppress(zmq.ZMQError):  # it never was connected
            self._socket.disconnect(place)

    def _follow_events(self, monitor: Socket) -> None:
        import gevent

        for event in events_of(monitor):
            link = self._links.get(event.place)
            if link is None or event.kind not in (*_FAILED, zmq.EVENT_HANDSHAKE_SUCCEEDED):
                continue
            if event.kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                link.fails = False
                continue
            if not link.fails:
                link.fails = True
                log.warning("%s: %s doesn't let us in: %s", self._what, event.place, _reason(event))
            # ZeroMQ tries again by itself, with the same key, and not at all when the other side speaks otherwise.
            # Who has another key breaks off at once; who is silent is slow, or doesn't know us, whatever its key.
            is_otherwise = event.kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            if is_otherwise or (len(link.keys) > 1 and event.value != errno.EAGAIN):
                link.trying += 1
                self._disconnect(event.place)
                gevent.spawn_later(AFTER_FAILURE_S, self._reconnect, event.place, link)

    def _reconnect(self, place: str, link: _Link) -> None:
        if not self._closed and self._links.get(place) is link:
            self._connect(place)


def _reason(event: Event) -> str:
    if event.kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        return "one of us has keys and the other hasn't"
    if event.value == errno.EAGAIN:
        return "it is silent: it may not have our key in its list"
    return "it has another key than our list says, or broke off"


def _present(network: Network, socket: Socket, place: str, key: str) -> None:
    """Prepare a socket for its next connection: it is to whoever has `key`."""
    keyring = network.keyring
    if keyring is None:
        if key:
            raise MeshError("it has a key, and we have none", op="connect", endpoint=place, hint=_HINT)
        return
    if not key and keyring.takes_plain:
        socket.plain_server = 0  # which makes it neither CURVE's nor PLAIN's any more
        return
    if not key:
        raise MeshError("nobody has said its key, and we speak with nobody without", op="connect", endpoint=place)
    if key not in keyring.keys:
        raise MeshError(f"its key {key[:SHORT]} isn't in our list", op="connect", endpoint=place, hint=_HINT)
    _take_pair(socket, keyring)
    socket.curve_serverkey = bytes.fromhex(key)


def _take_pair(socket: Socket, keyring: Keyring) -> None:
    socket.curve_publickey, socket.curve_secretkey = keyring.pair


def _call(socket: Socket, op: str, endpoint: str, checked: str = "") -> None:
    if not is_numeric(checked or endpoint):
        raise MeshError("isn't a numeric address", op=op, endpoint=repr(endpoint))
    try:
        # Before each: ZeroMQ takes the option as it is then, and with it would speak IPv4 in IPv6's clothes.
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        getattr(socket, op)(endpoint)
    except zmq.ZMQError as error:
        hint = "another process listens there" if error.errno == zmq.EADDRINUSE else ""
        # Not its own words, which repeat the endpoint.
        raise MeshError(zmq.strerror(error.errno or 0), op=op, endpoint=endpoint, hint=hint) from error
