"""The collector under gunicorn: one master, one worker process that is one lane per partition.

The master only listens and restarts; everything is built in the worker, after it has patched and
forked. Scale by starting more collectors, not by workers: an instance is a process that heartbeats.
"""

from __future__ import annotations

import os
import resource
import signal
from functools import partial
from pathlib import Path
from typing import Any, Final

import gevent
from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger

from hitmesh.collector.front import Asked
from hitmesh.collector.held_hit import HeldHit
from hitmesh.collector.slow import FORMING
from hitmesh.collector.worker import BEAT_S, LEAVE_S, STOPPING, HubWorker
from hitmesh.config import Config, host_port_text
from hitmesh.config.balancer import BalancerLimits
from hitmesh.errors import ConfigError
from hitmesh.logs import form_in_use

OTHER_FILES: Final = 1000  # sockets to the other roles, stores: at most half of those that the system allows
ANSWER_S: Final = 2.0  # that requests under way have to be answered when the worker stops


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own log, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(form_in_use())


class CollectorWorker(HubWorker):
    """A worker that is a collector, and drains it when it stops."""

    def limits(self) -> BalancerLimits:
        """Those of the live settings."""
        limits: BalancerLimits = self.app.collector.live.config.balancer.limits
        return limits

    def refused(self) -> None:
        """Count it."""
        self.app.collector.refusals["unreadable"] += 1

    def observe(self, asked: Asked, status: str, began_s: float, took_s: float) -> None:
        """How long hits take is told, and what took long is said."""
        collector = self.app.collector
        held = asked.held
        if held is not None or asked.environ()["PATH_INFO"].startswith("/hit"):  # /hit/<page> and /hits
            collector.answers.observe(took_s)
        if took_s >= collector.slow.from_s:
            environ = asked.environ()
            if isinstance(held, HeldHit):
                environ[FORMING] = held.forming
            collector.slow.say(environ, status, began_s, took_s)

    def begin(self) -> None:
        """Say to everybody that it serves."""
        host, port = self.sockets[0].getsockname()[:2]
        self.app.collector.start(f"http://{host_port_text(host, port)}")

    def end(self) -> None:
        """Answer what came in, commit what was accepted."""
        collector = self.app.collector
        collector.leave()
        self.serve_on(LEAVE_S)
        self.close_listeners()
        self.await_answers(ANSWER_S)
        collector.drain()
        stopper = gevent.spawn(collector.stop)
        while not stopper.ready():
            self.notify()
            stopper.join(BEAT_S)


class CollectorApplication(BaseApplication):  # type: ignore[misc]
    """gunicorn, set up by our configuration; reads no gunicorn file and no command line."""

    def __init__(self, config: Config, *, name: str, state_dir: Path, listen: str) -> None:
        self._config = config
        self._name = name
        self._state_dir = state_dir
        self._listen = listen
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
        return make_app(collector)


def _places(connections: int) -> int:
    """For how many connections there are files, of so many that are configured; raises the system's limit first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = connections + OTHER_FILES
    most = max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(connections, most - min(OTHER_FILES, most // 2))
