"""A listening socket on the hub: takes connections, and waits while there is no room for more.

Who is let in, and what becomes of a connection, is a subclass's to say. Nothing that goes wrong reaches the hub.
"""

from __future__ import annotations

import _socket
import logging
import socket
from typing import Any, Final

from gevent.hub import get_hub

from hitmesh.hub.link import READ

AT_ONCE: Final = 64  # connections taken before the hub gets round to those that are there
PAUSE_S: Final = 0.2  # without a free descriptor or a place

log = logging.getLogger(__name__)


class Acceptor:
    """Takes connections from `listener`, which is its own from now on, until stopped; `at_once` of them in a row."""

    def __init__(self, listener: socket.socket | _socket.socket, *, at_once: int = AT_ONCE) -> None:
        self._listener = listener
        self._accept: Any = getattr(listener, "_accept")  # noqa: B009 - a descriptor alone, in any kind of socket
        self._at_once = at_once
        self._stopped = False
        loop: Any = get_hub().loop
        self._watcher = loop.io(listener.fileno(), READ)
        self._pause = loop.timer(0.0, PAUSE_S)  # `again` starts it; one without a repeat fires at once next time

    def start(self) -> None:
        """Begin to take connections."""
        self._watcher.start(self.take)

    def stop(self) -> None:
        """Take no more."""
        if not self._stopped:
            self._stopped = True
            for watcher in (self._watcher, self._pause):
                watcher.stop()
                watcher.close()
            self._listener.close()

    def take(self) -> None:
        """Take those that the kernel has queued, as many as there is room for now."""
        for _ in range(self._at_once):
            if self.is_full():
                self._wait()  # they queue in the kernel
                return
            try:
                descriptor, address = self._accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # most often no descriptor is left
                log.error("can't take connections: %s", error.strerror)
                self._wait()
                return
            stream = _socket.socket(self._listener.family, socket.SOCK_STREAM, 0, descriptor)
            try:
                stream.setblocking(False)
                self.begin(stream, address)
            except OSError as error:
                self.failed(error)
                stream.close()
            except Exception:
                # A fault of ours. Perhaps somebody has the connection already, who ends it in time; else it ends here.
                log.exception("a fault at the beginning of a connection")

    # --- a subclass's -------------------------------------------------------------------------

    def is_full(self) -> bool:
        """Whether there is no place for one more."""
        raise NotImplementedError

    def begin(self, stream: _socket.socket, address: Any) -> None:
        """Serve a connection, which doesn't block; the address is as its family has it. OSError ends it."""
        raise NotImplementedError

    def failed(self, error: OSError) -> None:
        """One ended before it began: gone, or not what it should be."""

    # --- within -------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._watcher.stop()
        self._pause.again(self._go_on)

    def _go_on(self) -> None:
        self._pause.stop()
        self._watcher.start(self.take)
