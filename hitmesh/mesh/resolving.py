"""Names to addresses, beside the work: nobody waits for a name server for long.

libzmq looks names up in the thread that carries every message of the process: one name server that is
silent stops them all. So names, which only a configuration or a catalogue has, are looked up here, in
threads of their own, within NAME_S, and again now and then: a host may move.
"""

from __future__ import annotations

import _socket  # gevent's own getaddrinfo would make a hub in the thread that calls it
import functools
import logging
import socket as sockets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from hitmesh.config.addresses import host_port
from hitmesh.errors import MeshError
from hitmesh.hub.blocking import call_blocking, current_hub
from hitmesh.hub.ways import best
from hitmesh.protocol.names import bracketed, is_numeric

NAME_S: Final = 2.0  # that a look-up may take: the resolver's own tries take 10 s and more
NAMES: Final = 4  # look-ups at a time, each of which may hold a thread for as long as the resolver tries
AGAIN_S: Final = 2.0  # to the next try, after one that failed
REFRESH_S: Final = 60.0  # for which an answer is good

log = logging.getLogger("hitmesh.mesh")

_found: dict[str, tuple[str, float]] = {}  # by endpoint of a configuration: numeric, and when that was


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


def follow(endpoint: str, is_wanted: Callable[[], bool], found: Callable[[str], None]) -> None:
    """Look a name up now and again, in a greenlet, as long as it is wanted; `found` is called with each answer."""
    import gevent  # commands look names up too, and have none

    from hitmesh.mesh.duty import spawn

    def run() -> None:
        told = ""
        while is_wanted():
            try:
                numeric = resolve(endpoint)
                pause_s, told = REFRESH_S, ""
                if is_wanted():  # by now
                    found(numeric)
            except MeshError as error:
                pause_s = AGAIN_S
                if str(error) != told:
                    told = str(error)
                    log.warning("%s", told)
            gevent.sleep(pause_s)

    spawn(f"the addresses of {endpoint}", run)


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


@functools.cache
def _pool() -> Any:
    # Not the hub's: name servers that are silent would hold the threads in which stores are written.
    from gevent.threadpool import ThreadPool

    return ThreadPool(NAMES)
