"""A link between two processes on loopback that can be cut and healed: a TCP relay. Plain threads.

Cut, it behaves as a router that drops everything: what is connected hears nothing any more, not
even an end, and who connects gets no answer (the queue of the listening socket is kept full, so that
the kernel drops the SYNs). Or it is cut a moment later: who connects is connected, and then hears
nothing. Healed, it passes on new connections, and those from before stay as dead as they were.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536


class Relay:
    """Listens on a free loopback port and passes on to `upstream_port`."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._cut = threading.Event()
        self._accepts = True  # also while it is cut
        self._closed = False
        self._fillers: list[socket.socket] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.bind((HOST, 0))
        self._listener.listen(0)
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def cut(self, *, accepts: bool = False) -> None:
        """Drop everything from now on; `accepts`: only after a connection was made."""
        self._accepts = accepts
        self._cut.set()
        for _ in range(0 if accepts else 4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((HOST, self.port))
            self._fillers.append(filler)

    def heal(self) -> None:
        """Pass on new connections again."""
        for one in self._fillers:
            one.close()
        self._fillers = []
        self._cut.clear()

    def close(self) -> None:
        """End it all."""
        self._closed = True
        self._acceptor.join()
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._fillers, *self._open):
            one.close()

    def _accept(self) -> None:
        while not self._closed:
            if self._cut.is_set() and not self._accepts:
                time.sleep(0.01)
                continue
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._open.append(client)
            if self._cut.is_set():
                continue
            upstream = socket.socket()
            self._open.append(upstream)
            with contextlib.suppress(OSError):
                upstream.connect((HOST, self._upstream_port))
            for pair in ((client, upstream), (upstream, client)):
                thread = threading.Thread(target=self._pass_on, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        source.settimeout(0.05)
        while not self._closed and not self._cut.is_set():
            try:
                data = source.recv(CHUNK_BYTES)
                if not data:
                    break
                if not self._cut.is_set():
                    target.sendall(data)
            except TimeoutError:
                continue
            except OSError:
                break
        if not self._cut.is_set():
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
