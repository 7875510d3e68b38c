"""A gunicorn worker class whose connections are hub callbacks: no greenlet for a connection, nor for each request.

It serves any WSGI app, alone or as one of several workers, and keeps gunicorn's contract: a sign of life to the master,
`max_requests`, `worker_connections`, a graceful stop and reload. It differs from gunicorn's own gevent worker in three
things. Requests are read by `hitmesh.http`, with its bounds and time-outs (docs/http.md). An app that has
`never_waits(path)` is called in the hub for the paths of which it says so; what it can't answer at once it holds
(`hitmesh.http.held_answer`); and one that has a `shortcut` is asked that before. And answers go out whole: one without a length gets it, where gunicorn would send it in
chunks, so an app's answer must have an end. gunicorn's hooks for each request and its access log are not called.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys
import time
from typing import Any, Final

import gevent
import gunicorn
from gevent.event import Event
from gunicorn.workers.ggevent import GeventWorker

from hitmesh.collector.acceptor import ClientAcceptor
from hitmesh.collector.bounds import Bounds
from hitmesh.collector.connections import Connections
from hitmesh.collector.front import Asked, Front
from hitmesh.config.balancer import BalancerLimits
from hitmesh.http.heads import Heads
from hitmesh.http.wsgi import Environ
from hitmesh.hub.acceptor import AT_ONCE
from hitmesh.mesh.duty import spawn
from hitmesh.startup import forgo_plugins

BEAT_S: Final = 1.0  # the worker's sign of life to its master; and between two looks at who takes too long
LEAVE_S: Final = 0.5  # in which whoever keeps a connection is told that it ends, and others that we leave
LOOK_S: Final = 0.01  # between two looks whether all requests under way have been answered
SEND_BYTES: Final = (
    128 * 1024
)  # that the kernel keeps of an answer, twice: it would grow to megabytes of a slow taker's
COLLECT_AFTER: Final = 50_000  # new objects: a request leaves no cycles behind, so there is little to be found
STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class HubWorker(GeventWorker):  # type: ignore[misc]
    """A worker of any app. `begin` and `end` are what a subclass does around serving."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = Event()
        self._front: Front
        self._acceptors: list[ClientAcceptor] = []

    def init_signals(self) -> None:
        """From here on a signal is this worker's: what came since the fork comes now."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)

    def patch(self) -> None:
        """As gunicorn does, but faster."""
        forgo_plugins()
        super().patch()

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """SIGTERM: wake `run` at once."""
        super().handle_exit(sig, frame)
        self._leave()

    def run(self) -> None:
        """Serve until told to stop, then answer what came in."""
        self._front = self._open()
        spawn("connections", self._watch_connections)
        single = self.cfg.workers == 1
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)  # its connections have it, too
            acceptor = ClientAcceptor(self._front, listener, at_once=AT_ONCE if single else 1)
            acceptor.start()
            self._acceptors.append(acceptor)
        self.begin()
        gc.collect()
        gc.freeze()  # what is here now stays, and needn't be looked at again
        gc.set_threshold(COLLECT_AFTER, 20, 100)
        while self.alive and not self._stop.is_set():
            self.notify()
            self._stop.wait(BEAT_S)
        self.end()

    # --- what a subclass may do in its own way ------------------------------------------------

    def limits(self) -> BalancerLimits:
        """Those in force."""
        return BalancerLimits()

    def begin(self) -> None:
        """It serves."""

    def end(self) -> None:
        """It is to stop, and serves still."""
        self.close_listeners()
        self.serve_on(LEAVE_S)
        self.await_answers(self.cfg.graceful_timeout)

    def observe(self, asked: Asked, status: str, began_s: float, took_s: float) -> None:
        """A request was answered; monotonic seconds."""

    def refused(self) -> None:
        """A request couldn't be read."""

    # --- what it may call ---------------------------------------------------------------------

    def close_listeners(self) -> None:
        """Take no more connections."""
        for acceptor in self._acceptors:
            acceptor.stop()
        for listener in self.sockets:
            listener.close()

    def serve_on(self, for_s: float) -> None:
        """Answer who asks within this time: each answer is its connection's last, and nobody asks a closed one."""
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            self.notify()
            gevent.sleep(min(for_s, BEAT_S))

    def await_answers(self, for_s: float) -> None:
        """Return when no request is under way, or after this time."""
        deadline = time.monotonic() + for_s
        while self._front.busy and time.monotonic() < deadline:
            self.notify()
            gevent.sleep(LOOK_S)

    # --- within -------------------------------------------------------------------------------

    def _open(self) -> Front:
        host, port = self.sockets[0].getsockname()[:2]
        base: Environ = {
            "wsgi.errors": sys.stderr,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": self.cfg.workers > 1,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": gunicorn.SERVER_SOFTWARE,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SCRIPT_NAME": "",
        }
        return Front(
            self.wsgi,
            base,
            bounds=Bounds(self.limits()),
            connections=Connections(self.worker_connections),
            heads=Heads(gunicorn.SERVER),
            observe=self.observe,
            refused=self.refused,
            used_up=self._used_up,
            most_requests=self.max_requests,
        )

    def _used_up(self) -> None:
        self.log.info("Autorestarting worker after current request.")
        self.alive = False
        self._leave()

    def _leave(self) -> None:
        """From now on each answer is the last of its connection."""
        if hasattr(self, "_front"):
            self._front.leaving = True
        self._stop.set()

    def _watch_connections(self) -> None:
        """Nobody is waited for too long, and live limits are in force."""
        front = self._front
        while True:
            front.bounds.follow(self.limits())
            front.connections.sweep(time.monotonic())
            gevent.sleep(BEAT_S)
