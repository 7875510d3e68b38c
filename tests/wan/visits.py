"""Clients of the bed that ask all the time, from one host, and what became of it."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from types import TracebackType
from typing import Any, Final

from tests.services import wait_for
from tests.wan.host import Host

TRY_S: Final = 0.25  # of a client that retries, before it tries again
PAUSE_S: Final = 0.005
ANSWER_S: Final = 60.0  # of one that doesn't
SOME: Final = 20
LONGEST_S: Final = 30.0  # that a hole may have


class _Visits:
    """A context manager; threads on a host."""

    threads = 1

    def __init__(self, host: Host, address: str, port: int, path: str) -> None:
        self._host, self._address, self._port, self._path = host, address, port, path
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.threads)]

    def __enter__(self) -> Any:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        for each in self._threads:
            each.join()

    def _run(self) -> None:
        self._host.enter()
        while not self._end.wait(PAUSE_S):
            self._visit()
        self._leave()

    def _visit(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        """The thread's end."""

    def _connect(self, within_s: float) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._address, self._port, timeout=within_s)
        connection.connect()
        return connection


class Retrying(_Visits):
    """A client that tries until it is served, on a new connection each time."""

    def __init__(self, host: Host, address: str, port: int, path: str = "/health") -> None:
        super().__init__(host, address, port, path)
        self.failed = 0
        self._served = [time.monotonic()]

    def _visit(self) -> None:
        began = time.monotonic()
        try:
            connection = self._connect(TRY_S)
            try:
                connection.request("GET", self._path)
                if connection.getresponse().status == http.client.OK:
                    self._served.append(time.monotonic())
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            self.failed += 1
            time.sleep(max(0.0, PAUSE_S - (time.monotonic() - began)))

    def is_served(self) -> None:
        """Wait for some more answers."""
        reached = len(self._served)
        wait_for(lambda: len(self._served) > reached + SOME, what="more answers")

    def hole_s(self, since: float, *, quiet_s: float = 1.5) -> float:
        """The longest time without an answer from `since` on, once there have been answers for `quiet_s`."""
        deadline = since + LONGEST_S
        while time.monotonic() < deadline:
            time.sleep(0.05)
            served = [since, *(at for at in self._served if at >= since)]
            longest_s, end = max((b - a, b) for a, b in itertools.pairwise([*served, time.monotonic()]))
            if len(served) > 1 and time.monotonic() - max(end, since + quiet_s) >= quiet_s:
                return longest_s
        raise AssertionError(f"nobody was served for {LONGEST_S} s")


class Steady(_Visits):
    """Clients with a connection each, kept as long as it may be, that try nothing twice: hits, and what failed."""

    threads = 4

    def __init__(self, host: Host, address: str, port: int, page: str) -> None:
        super().__init__(host, address, port, f"/hit/{page}")
        self.answered = 0
        self.failed: list[str] = []
        self.slowest_s = 0.0
        self._local = threading.local()
        self._lock = threading.Lock()

    def goes_on(self) -> None:
        """Wait for some more answers."""
        reached = self.answered
        wait_for(lambda: self.answered > reached + SOME, what="more answers")

    def _visit(self) -> None:
        began = time.monotonic()
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                connection = self._connect(ANSWER_S)
            connection.request("POST", self._path)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != http.client.OK:
                raise http.client.HTTPException(f"{answer.status} {body!r}")
            json.loads(body)
            if answer.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            with self._lock:
                self.failed.append(f"{type(error).__name__} {error} after {time.monotonic() - began:.3f} s")
            if connection is not None:
                connection.close()
                connection = None
        else:
            with self._lock:
                self.answered += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self._local.connection = connection

    def _leave(self) -> None:
        if self._local.connection is not None:
            self._local.connection.close()
