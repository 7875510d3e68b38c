"""The collector under gunicorn: one master, one worker process that is one lane per partition.

The master only listens and restarts; everything is built in the worker, after it has patched and
forked. Scale by starting more collectors, not by workers: an instance is a process that heartbeats.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import time
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger
from gunicorn.workers.ggevent import GeventWorker

from hitmesh.collector.answers import refusal
from hitmesh.collector.bounds import Bounds
from hitmesh.collector.connection import Connection
from hitmesh.collector.connections import Connections
from hitmesh.config import Config, host_port_text
from hitmesh.errors import ConfigError
from hitmesh.http.errors import BadMessage
from hitmesh.logs import form_in_use
from hitmesh.mesh.duty import spawn
from hitmesh.settings.live import Live
from hitmesh.startup import forgo_plugins

log = logging.getLogger(__name__)

BEAT_S: Final = 1.0  # the worker's sign of life to its master; and between two looks at who takes too long
REFUSALS_S: Final = 10.0  # between two lines in the log about requests that can't be read
SEND_BYTES: Final = (
    128 * 1024
)  # that the kernel keeps of an answer, twice: it would grow to megabytes of a slow taker's
OTHER_FILES: Final = 1000  # sockets to the other roles, stores: at most half of those that the system allows
LEAVE_S: Final = 0.5  # until everybody has heard that we leave: a heartbeat and a change, some milliseconds each
ANSWER_S: Final = 2.0  # that requests under way have to be answered when the worker stops
STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own log, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(form_in_use())


class CollectorWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, which also drains the collector when it stops."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = Event()
        self._connections = Connections(self.worker_connections)
        self._bounds: Bounds
        self._refused = 0  # since the log said so
        self._refusals_at = 0.0  # when the log may say so again

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
        self._stop.set()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """The requests of one connection. gunicorn reads none of it: its parser and its draining know no end."""
        connection = Connection(client, self._bounds)
        self._connections.opened(connection)
        try:
            while (request := connection.next()) is not None:
                self.handle_request(listener, request, connection, addr)
        except StopIteration:
            pass  # gunicorn's way to say that the answer was the connection's last
        except BadMessage as error:
            self._refuse(connection, addr, error)
        except OSError:
            pass  # the client is gone
        except Exception:
            log.exception("a fault in a request of %s", addr[0])
            connection.refuse(refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "this is a fault of the server's"))
        finally:
            connection.close()
            self._connections.closed(connection)

    def _refuse(self, connection: Connection, addr: Any, error: BadMessage) -> None:
        """Our form of error for a request that can't be read, and nothing of it back."""
        connection.refuse(refusal(HTTPStatus(error.status), str(error)))
        self.app.collector.refusals["unreadable"] += 1
        self._refused += 1
        now = time.monotonic()
        if now >= self._refusals_at:
            log.warning("refused %d requests, the last of %s: %s %s", self._refused, addr[0], error.status, error)
            self._refused, self._refusals_at = 0, now + REFUSALS_S

    def _watch_connections(self, live: Live) -> None:
        """Nobody is waited for too long, and live limits are in force."""
        while True:
            self._bounds.follow(live.config)
            self._connections.sweep(time.monotonic())
            gevent.sleep(BEAT_S)

    def run(self) -> None:
        """Serve until told to stop, then drain: answer what came in, commit what was accepted."""
        collector = self.app.collector
        self._bounds = Bounds(collector.live.config)
        spawn("connections", self._watch_connections, collector.live)
        servers = []
        host, port = self.sockets[0].getsockname()[:2]
        for listener in self.sockets:
            listener.setblocking(1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)  # its connections have it, too
            handle = partial(self.handle, listener.getsockname())
            server = StreamServer(listener, handle=handle, spawn=Pool(self.worker_connections))
            server.start()
            servers.append(server)
        collector.start(f"http://{host_port_text(host, port)}")
        while self.alive and not self._stop.is_set():
            self.notify()
            self._stop.wait(BEAT_S)
        collector.leave()
        self._keep_on(LEAVE_S)
        for server in servers:
            server.close()
        deadline = time.monotonic() + ANSWER_S
        while self.app.busy and time.monotonic() < deadline:
            gevent.sleep(0.01)
        collector.drain()
        stopper = gevent.spawn(collector.stop)
        while not stopper.ready():
            self.notify()
            stopper.join(BEAT_S)

    def _keep_on(self, for_s: float) -> None:
        """Serve on, each answer the last of its connection: gunicorn sees to that once it is to stop."""
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            self.notify()
            gevent.sleep(min(for_s, BEAT_S))


class CollectorApplication(BaseApplication):  # type: ignore[misc]
    """gunicorn, set up by our configuration; reads no gunicorn file and no command line."""

    def __init__(self, config: Config, *, name: str, state_dir: Path, listen: str) -> None:
        self._config = config
        self._name = name
        self._state_dir = state_dir
        self._listen = listen
        self.busy = 0  # requests being answered
        super().__init__()

    def run(self) -> None:
        """Run the master. A worker is forked with its handlers, which would take its first signals and do nothing."""
        os.register_at_fork(
            before=partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOPPING),
            after_in_parent=partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOPPING),
        )
        super().run()

    def load_config(self) -> None:
        """Our settings in gunicorn's names."""
        config = self._config
        settings = {
            "bind": self._listen,
            "workers": 1,
            "worker_class": "hitmesh.collector.server.CollectorWorker",
            "worker_connections": _places(config.limits.connections),
            "backlog": 2048,
            "keepalive": 1,  # any: for how long is the connection's to say
            "timeout": 30,
            "graceful_timeout": int(config.timing.drain_s + LEAVE_S + ANSWER_S) + 1,
            "control_socket_disable": True,  # it is one per user, not per process
            "proc_name": f"hitmesh {self._name}",
            "loglevel": "warning",
            "logger_class": _Log,
        }
        for key, value in settings.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """Build everything, in the worker."""
        import zmq.green  # after the worker has patched

        from hitmesh.collector.app import make_app
        from hitmesh.collector.collector import Collector
        from hitmesh.mesh.network import open_network
        from hitmesh.mesh.room import Room
        from hitmesh.metrics.opening import open_admin
        from hitmesh.settings.open import open_settings
        from hitmesh.spool.open import open_spool
        from hitmesh.store.open import open_store

        base = self._state_dir / self._config.name
        try:
            spool = open_spool(self._config, base)
            store = open_store(self._config, base, "collector")
            settings = open_settings(self._config.stores.settings, base, "collector")
            network = open_network(zmq.green.Context(), self._config, "collector", self._name)
            admin = open_admin(self._config, "collector", self._name)
        except ConfigError as error:  # gunicorn shows what it says, without a traceback, and ends
            raise AppImportError(f"hitmesh: {error}") from error
        collector = Collector(
            self._config,
            name=self._name,
            spool=spool,
            store=store,
            settings=settings,
            network=network,
            admin=admin,
            room=Room(base).load,
        )
        self.collector = collector
        app = make_app(collector)
        slow = collector.slow
        monotonic, observe = time.monotonic, collector.answers.observe

        def counted(environ: Any, start_response: Any) -> Any:
            self.busy += 1
            began_s = monotonic()
            try:
                return app(environ, start_response)
            finally:
                self.busy -= 1
                took_s = monotonic() - began_s
                if environ["PATH_INFO"].startswith("/hit"):  # /hit/<page> and /hits
                    observe(took_s)
                if took_s >= slow.from_s:
                    slow.say(environ, start_response, began_s, took_s)

        return counted


def _places(connections: int) -> int:
    """For how many connections there are files, of so many that are configured; raises the system's limit first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = connections + OTHER_FILES
    most = max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(connections, most - min(OTHER_FILES, most // 2))
