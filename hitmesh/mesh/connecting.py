"""Where sockets bind and connect: the one place, and ZeroMQ gets numeric addresses only.

libzmq looks names up in the thread that carries every message of the process: one name server that is
silent stops them all. So names, which only a configuration or a catalogue has, are looked up here, in
threads of their own, within NAME_S, and again now and then: a host may move.
"""

from __future__ import annotations

import _socket  # gevent's own getaddrinfo would make a hub in the thread that calls it
import contextlib
import logging
import socket as sockets
import threading
import time
from collections.abc import Callable, Collection, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import zmq

from hitmesh.config.addresses import host_port
from hitmesh.errors import MeshError
from hitmesh.hub.blocking import call_blocking, current_hub
from hitmesh.hub.ways import best
from hitmesh.protocol.names import bracketed, is_numeric

if TYPE_CHECKING:
    from hitmesh.mesh.sockets import Socket

NAME_S: Final = 2.0  # that a look-up may take: the resolver's own tries take 10 s and more
NAMES: Final = 4  # look-ups at a time, each of which may hold a thread for as long as the resolver tries
AGAIN_S: Final = 2.0  # to the next try, after one that failed
REFRESH_S: Final = 60.0  # for which an answer is good

log = logging.getLogger("hitmesh.mesh")

_found: dict[str, tuple[str, float]] = {}  # by endpoint of a configuration: numeric, and when that was


def connect(socket: Socket, endpoint: str) -> None:
    """Connect to a numeric endpoint. Raises MeshError for any other, and when ZeroMQ refuses."""
    _call(socket, "connect", endpoint)


def bind(socket: Socket, endpoint: str) -> str:
    """Bind to an endpoint of the configuration, with * for a port of the kernel's choice; where it is bound, numeric.

    Raises MeshError.
    """
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    numeric = resolve(f"tcp://{host}:{1 if port == '*' else port}")
    _call(socket, "bind", numeric if port != "*" else f"{numeric.removesuffix(':1')}:*", checked=numeric)
    return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")


def resolve(endpoint: str) -> str:
    """The endpoint, numeric; waits for a name server, but not for long. Raises MeshError."""
    if is_numeric(endpoint):
        return endpoint
    known, at = _found.get(endpoint, ("", 0.0))
    if known and time.monotonic() - at < REFRESH_S:
        return known
    try:
        numeric = _look_up(endpoint)
    except MeshError:
        if known:
            return known  # better than nothing
        raise
    _found[endpoint] = numeric, time.monotonic()
    return numeric


class Connections:
    """What one socket of this process is connected to: endpoints of a configuration or catalogue, names too.

    Names are looked up by a greenlet for each. `close` before the socket.
    """

    def __init__(self, socket: Socket, endpoints: Iterable[str] = ()) -> None:
        self._socket = socket
        self._wanted: dict[str, str] = {}  # endpoint -> the numeric one that it is connected to, empty: none yet
        self.want(frozenset(endpoints))

    def want(self, endpoints: Collection[str]) -> None:
        """Be connected to these, and to no others."""
        for endpoint in [one for one in self._wanted if one not in endpoints]:
            self._disconnect(self._wanted.pop(endpoint))
        for endpoint in endpoints:
            if endpoint in self._wanted:
                continue
            self._wanted[endpoint] = ""
            if is_numeric(endpoint):
                self._use(endpoint, endpoint)
            else:
                self._follow(endpoint)

    @property
    def numeric(self) -> frozenset[str]:
        """Where the socket is connected, or tries to be."""
        return frozenset(self._wanted.values()) - {""}

    def close(self) -> None:
        """Follow no names any more; the socket closes its connections itself."""
        self._wanted.clear()

    def _follow(self, endpoint: str) -> None:
        import gevent  # commands connect too, and do without

        from hitmesh.mesh.duty import spawn

        def run() -> None:
            told = ""
            while endpoint in self._wanted:
                try:
                    self._use(endpoint, resolve(endpoint))
                    pause_s, told = REFRESH_S, ""
                except MeshError as error:
                    pause_s = AGAIN_S
                    if str(error) != told:
                        told = str(error)
                        log.warning("%s", told)
                gevent.sleep(pause_s)

        spawn(f"connections to {endpoint}", run)

    def _use(self, endpoint: str, numeric: str) -> None:
        before = self._wanted.get(endpoint)
        if before is None or before == numeric:
            return  # nobody wants it any more, or nothing has changed
        self._wanted[endpoint] = numeric
        try:
            connect(self._socket, numeric)
        except MeshError as error:
            log.warning("%s", error)  # said once: it counts as connected
        self._disconnect(before)

    def _disconnect(self, numeric: str) -> None:
        if numeric and numeric not in self._wanted.values():
            with contextlib.suppress(zmq.ZMQError):  # it never was connected
                self._socket.disconnect(numeric)


def _call(socket: Socket, op: str, endpoint: str, checked: str = "") -> None:
    if not is_numeric(checked or endpoint):
        raise MeshError("isn't a numeric address", op=op, endpoint=repr(endpoint))
    try:
        # Before each: ZeroMQ takes the option as it is then, and with it would speak IPv4 in IPv6's clothes.
        socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        getattr(socket, op)(endpoint)
    except zmq.ZMQError as error:
        hint = "another process listens there" if error.errno == zmq.EADDRINUSE else ""
        raise MeshError(error.strerror or str(error), op=op, endpoint=endpoint, hint=hint) from error


def _look_up(endpoint: str) -> str:
    scheme, _, rest = endpoint.partition("://")
    try:
        host, port = host_port(rest)
    except ValueError as error:
        raise MeshError(f"an address {error}", op="look up", endpoint=repr(endpoint)) from error
    answers = _in_time(lambda: _socket.getaddrinfo(host, port, 0, sockets.SOCK_STREAM))
    if isinstance(answers, OSError):
        raise MeshError(answers.strerror or str(answers), op="look up", endpoint=endpoint)
    if not answers:
        raise MeshError(f"no answer of a name server within {NAME_S:g} s", op="look up", endpoint=endpoint)
    return f"{scheme}://{bracketed(best(answers)[4][0].partition('%')[0])}:{port}"


def _in_time(work: Callable[[], Any]) -> Any:
    """What `work` returns, or its OSError; None when it takes longer than NAME_S. It never stops the hub."""

    def guarded() -> Any:
        try:
            return work()
        except (OSError, UnicodeError) as error:  # a label of a name may be too long for its encoding
            return error if isinstance(error, OSError) else OSError(0, str(error))

    if current_hub() is not None:
        import gevent

        with gevent.Timeout(NAME_S, False):  # type: ignore[arg-type]
            return call_blocking(guarded, _pool)
        return None
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(guarded()), daemon=True)
    thread.start()
    thread.join(NAME_S)
    return answers[0] if answers else None


@cache
def _pool() -> Any:
    # Not the hub's: name servers that are silent would hold the threads in which stores are written.
    from gevent.threadpool import ThreadPool

    return ThreadPool(NAMES)
