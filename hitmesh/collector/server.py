"""The collector under gunicorn: one master, one worker process that is one lane per partition.

The master only listens and restarts; everything is built in the worker, after it has patched and
forked. Scale by starting more collectors, not by workers: an instance is a process that heartbeats.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.ggevent import GeventWorker

from hitmesh.config import Config

log = logging.getLogger(__name__)

KEEPALIVE_S: Final = 75  # longer than a balancer keeps its idle connections, or they close under a request
LINE_BYTES: Final = 8190  # gunicorn's and Apache's limit of a request line
HEADERS: Final = 120  # what a balancer lets in, and the lines that it adds
BEAT_S: Final = 1.0  # the worker's sign of life to its master
STATUSES: Final = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}  # of requests that gunicorn can't parse; any other is a 400
LEAVE_S: Final = 0.5  # until everybody has heard that we leave: a heartbeat and a change, some milliseconds each
ANSWER_S: Final = 2.0  # that requests under way have to be answered when the worker stops


class CollectorWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, which also drains the collector when it stops."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = Event()

    def handle_exit(self, sig: Any, frame: Any) -> None:
        """SIGTERM: wake `run` at once."""
        super().handle_exit(sig, frame)
        self._stop.set()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """A request that can't be parsed gets our form of error, and nothing of it back."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = next((status for kind, status in STATUSES.items() if isinstance(exc, kind)), HTTPStatus.BAD_REQUEST)
        log.info("refused a request of %s: %s %s", addr[0] if addr else "?", status.value, type(exc).__name__)
        body = msgspec.json.encode(
            {"title": status.phrase, "description": f"the request isn't HTTP as we take it: {_words(exc)}"}
        )
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            util.write_nonblock(client, head.encode() + body)

    def run(self) -> None:
        """Serve until told to stop, then drain: answer what came in, commit what was accepted."""
        collector = self.app.collector
        servers = []
        for listener in self.sockets:
            listener.setblocking(1)
            server = StreamServer(listener, handle=partial(self.handle, listener), spawn=Pool(self.worker_connections))
            server.start()
            servers.append(server)
        host, port = self.sockets[0].getsockname()[:2]
        collector.start(f"http://{host}:{port}")
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

    def load_config(self) -> None:
        """Our settings in gunicorn's names."""
        config = self._config
        settings = {
            "bind": self._listen,
            "workers": 1,
            "worker_class": "hitmesh.collector.server.CollectorWorker",
            "worker_connections": config.limits.connections,
            "backlog": 2048,
            "keepalive": KEEPALIVE_S,
            "timeout": 30,
            "graceful_timeout": int(config.timing.drain_s + LEAVE_S + ANSWER_S) + 1,
            "limit_request_line": LINE_BYTES,
            "limit_request_fields": HEADERS,
            "limit_request_field_size": LINE_BYTES,
            "control_socket_disable": True,  # it is one per user, not per process
            "proc_name": f"hitmesh {self._name}",
            "loglevel": "warning",
        }
        for key, value in settings.items():
            self.cfg.set(key, value)

    def load(self) -> Any:
        """Build everything, in the worker."""
        import zmq.green  # after the worker has patched

        from hitmesh.collector.app import make_app
        from hitmesh.collector.collector import Collector
        from hitmesh.settings.open import open_settings
        from hitmesh.spool.open import open_spool
        from hitmesh.store.open import open_store

        base = self._state_dir / self._config.name
        collector = Collector(
            self._config,
            name=self._name,
            spool=open_spool(self._config, base),
            store=open_store(self._config, base),
            settings=open_settings(self._config.stores.settings, base),
            context=zmq.green.Context(),
        )
        self.collector = collector
        app = make_app(collector)
        app.add_error_handler(ParseException, _pass_on)  # the connection's framing is lost: it must be closed

        def counted(environ: Any, start_response: Any) -> Any:
            self.busy += 1
            try:
                return app(environ, start_response)
            finally:
                self.busy -= 1

        return counted


def _words(error: BaseException) -> str:
    """An exception's name as words: InvalidHeaderName is "invalid header name"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


def _pass_on(req: object, resp: object, error: ParseException, params: object) -> None:
    raise error
