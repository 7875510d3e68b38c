"""The active checks of one backend: asks it again and again whether it can serve.

The application is asked (`GET check_path`, 2xx or 3xx is well), or, without a path, only whether it
takes connections, and that only while it is under suspicion. What follows from an outcome is the
backend's Health; this carries it out.
"""

from __future__ import annotations

import errno
import http.client
import logging
import random
import socket
import time
from typing import Final

import gevent
from gevent.event import Event

from balancer.measures.stats import Status
from balancer.members.health import Health
from balancer.middle.backend import Backend, Suspicion
from balancer.middle.service import Service

USER_AGENT: Final = "hitmesh-balancer check"
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # what we lack, and no backend

log = logging.getLogger(__name__)


class Outcome:
    """What a check found; `code` is the HTTP status, 0 without an answer."""

    __slots__ = ("code", "duration_s", "ok", "text")

    def __init__(self, ok: bool, text: str, code: int, duration_s: float) -> None:
        self.ok = ok
        self.text = text
        self.code = code
        self.duration_s = duration_s


class Checker(Suspicion):
    """Checks `backend` for `service`, in a greenlet of its own."""

    def __init__(self, service: Service, backend: Backend, health: Health, *, host: str) -> None:
        self._service = service
        self._backend = backend
        self._health = health
        self._host = host
        self._draining = ""  # why
        self._stopped = False
        self._hurry = Event()

    def start(self) -> None:
        """Begin to check."""
        gevent.spawn(self._run)

    def stop(self) -> None:
        """Check no more."""
        self._stopped = True
        self._hurry.set()

    def drain(self, why: str) -> None:
        """Why the backend is to get no more requests; empty when it wants some."""
        was, self._draining = self._draining, why
        if bool(was) != bool(why):
            self._settle()

    def unreachable(self, reason: str) -> None:
        """A request found that nobody listens: no other is sent there before a check has passed."""
        if self._health.unreachable(reason):
            self._settle()
            self._hurry.set()

    def suspect(self, reason: str) -> None:
        """A request got no answer, or no good one."""
        if self._health.failed(reason):
            self._settle()
            self._hurry.set()

    def _run(self) -> None:
        route = self._service.route
        while not self._stopped:
            self._hurry.clear()
            if not route.check_path and self._health.up:
                self._hurry.wait()
            else:
                self._hurry.wait(self._health.pause_s(route.check_s, random.random()))
            if self._stopped:
                return
            outcome = probe(self._backend, route.check_path, self._host, route.check_timeout_s)
            if self._stopped:
                return
            if outcome is None:
                continue
            stats = self._backend.stats
            stats.checked(outcome.text, ok=outcome.ok, duration_s=outcome.duration_s, code=outcome.code)
            if outcome.ok:
                self._health.passed(outcome.text)
            else:
                self._health.failed(outcome.text)
            self._settle()

    def _about(self) -> dict[str, object]:
        return {"fields": {"service": self._service.name, "backend": self._backend.name}}

    def _settle(self) -> None:
        """Make the backend what its health says."""
        backend = self._backend
        now = time.monotonic()
        usable = self._health.up and not self._draining and not backend.gone
        was = backend.usable
        backend.usable = usable
        status: Status = "DRAIN" if self._draining else "UP" if self._health.up else "DOWN"
        if not backend.gone:  # or another one of its name may have what is counted
            backend.stats.become(status, now)
        if was and not usable:
            why = self._draining or self._health.reason
            level = logging.INFO if self._draining else logging.WARNING
            log.log(level, "%s: %s is %s: %s", self._service.name, backend.name, status, why, extra=self._about())
            backend.forget()
        elif usable and not was:
            log.info("%s: %s is UP", self._service.name, backend.name, extra=self._about())
            backend.since = now
            backend.weigh({}, now, self._service.route.slow_start_s)
            self._service.wake(now)


def probe(backend: Backend, path: str, host: str, timeout_s: float) -> Outcome | None:
    """One check; blocks the calling greenlet for at most about `timeout_s`. None: there was no file for it."""
    began = time.monotonic()
    code = 0
    try:
        with (
            socket.socket(backend.family, socket.SOCK_STREAM) as sock,
            gevent.Timeout(timeout_s, TimeoutError("no answer in time")),
        ):
            sock.connect(backend.address)
            if path:
                code = _ask(sock, path, host)
    except (OSError, http.client.HTTPException, ValueError) as error:  # the last one for a negative chunk size
        if isinstance(error, OSError) and error.errno in _OURS:
            log.error("no check of %s: %s", backend.name, error.strerror)
            return None
        return Outcome(False, str(error) or type(error).__name__, code, time.monotonic() - began)
    ok = not path or 200 <= code < 400
    text = f"{path} answers {code}" if path else "takes connections"
    return Outcome(ok, text, code, time.monotonic() - began)


def _ask(sock: socket.socket, path: str, host: str) -> int:
    connection = http.client.HTTPConnection("unused")
    connection.sock = sock
    connection.request("GET", path, headers={"Host": host, "User-Agent": USER_AGENT, "Connection": "close"})
    response = connection.getresponse()
    response.read(64 * 1024)
    return response.status
