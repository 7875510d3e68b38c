"""One listening socket of a worker: takes connections and makes them clients. Knows nothing of what they say."""

from __future__ import annotations

import _socket
import logging
import os
import socket
from typing import Any, Final

from gevent.hub import get_hub

from hitmesh.collector.client import Client
from hitmesh.collector.front import Front
from hitmesh.hub.link import READ

AT_ONCE: Final = 64  # connections taken before the hub gets round to those that are there
PAUSE_S: Final = 0.2  # without a free descriptor, or with all places taken by requests that are being carried out

log = logging.getLogger(__name__)


class Acceptor:
    """Takes connections from `listener` until stopped; `at_once` of them when several processes have the socket."""

    def __init__(self, front: Front, listener: socket.socket, *, at_once: int = AT_ONCE) -> None:
        self._front = front
        # The kernel's own, whether gevent has patched or not: it never waits.
        self._listener = _socket.socket(listener.family, listener.type, 0, os.dup(listener.fileno()))
        self._listener.setblocking(False)
        self._accept: Any = getattr(self._listener, "_accept")  # noqa: B009
        self._at_once = at_once
        loop: Any = get_hub().loop
        self._watcher = loop.io(self._listener.fileno(), READ)
        self._pause = loop.timer(0.0, PAUSE_S)  # `again` starts it; one without a repeat fires at once next time

    def start(self) -> None:
        """Begin to take connections."""
        self._watcher.start(self._on_readable)

    def stop(self) -> None:
        """Take no more."""
        for watcher in (self._watcher, self._pause):
            watcher.stop()
            watcher.close()
        self._listener.close()

    def _on_readable(self) -> None:
        for _ in range(self._at_once):
            if self._front.connections.is_full:
                self._wait()  # they queue in the kernel
                return
            try:
                descriptor, address = self._accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("can't take connections: %s", error.strerror)
                self._wait()
                return
            self._begin(_socket.socket(self._listener.family, socket.SOCK_STREAM, 0, descriptor), address)

    def _begin(self, stream: _socket.socket, address: Any) -> None:
        try:
            stream.setblocking(False)
            peer = (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
            client = Client(self._front, stream, peer)
        except Exception:
            log.exception("a connection ended before it began")
            stream.close()
            return
        self._front.connections.opened(client)
        client.start_reading()

    def _wait(self) -> None:
        self._watcher.stop()
        self._pause.again(self._go_on)

    def _go_on(self) -> None:
        self._pause.stop()
        self._watcher.start(self._on_readable)
