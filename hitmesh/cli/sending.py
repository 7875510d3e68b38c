"""Hits over HTTP, each sent at most once: the way of `hitmesh replay`.

A hit goes to another URL only when no byte of it was sent, that is when the connection could not
be made. After that its fate is the server's answer, or unknown: it is never sent again, because
a GET or POST here counts. Where nobody takes a connection, as while a balancer restarts, hits wait for a
while. Runs on gevent with a patched socket.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hitmesh.cli.stderr import show
from hitmesh.config import host_port_text
from hitmesh.errors import CommandError

CONNECT_TIMEOUT_S = 5.0
WAIT_S = 30.0  # for somebody who takes connections: a balancer or a collector is back within seconds
WAIT_PAUSE_S = 0.25  # between two tries
ANSWER_TIMEOUT_S = 30.0  # a collector answers within one sync of its spool, a balancer within its own limits
# Of a balancer that has sent a hit and has no answer to it: nobody here knows whether it counts.
UNKNOWN = (http.client.BAD_GATEWAY, http.client.GATEWAY_TIMEOUT)
MAX_REASONS = 5  # kinds of failure that are shown
MAX_REASON_CHARS = 200
_END = None


@dataclass
class Outcome:
    """What became of the hits; sent = accepted + refused + unanswered."""

    accepted: int = 0
    refused: int = 0  # answered with an error: not counted
    unanswered: int = 0  # no connection, none any more, or a balancer has none: counted at most once
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        """Hits that were tried."""
        return self.accepted + self.failed

    @property
    def failed(self) -> int:
        """Hits that nobody promised to count."""
        return self.refused + self.unanswered


class Sender:
    """Sends hits to some URLs in turn, over `concurrency` connections to each.

    When none of them takes a connection, hits wait for it `wait_s`, counted from the first one that found nobody.
    """

    def __init__(self, urls: Sequence[str], concurrency: int, *, wait_s: float = WAIT_S) -> None:
        self._targets = [_target(url) for url in urls]
        self._turn = itertools.cycle(range(len(self._targets)))
        self._concurrency = concurrency
        self._wait_s = wait_s
        self._away_s: float | None = None  # since when nobody takes connections
        self.outcome = Outcome()

    def send(self, paths: Iterable[str]) -> None:
        """Send each page of `paths` as a hit and wait for all the answers."""
        import gevent
        from gevent.queue import Queue

        # One greenlet reads, so that reading may wait; a few pages ahead of the senders are enough.
        queue: Queue[str | None] = Queue(maxsize=self._concurrency * 4)
        workers = [gevent.spawn(self._work, iter(queue.get, _END)) for _ in range(self._concurrency)]
        try:
            for path in paths:
                queue.put(path)
        except BaseException:
            self._wait_s = 0.0
            raise
        finally:
            for _ in workers:
                queue.put(_END)
            gevent.joinall(workers, raise_error=True)

    def _work(self, paths: Iterator[str]) -> None:
        connections = [_Connection(host, port) for host, port, _ in self._targets]
        try:
            for path in paths:
                self._send_one(path, connections)
        finally:
            for connection in connections:
                connection.close()

    def _send_one(self, path: str, connections: Sequence[_Connection]) -> None:
        first = next(self._turn)
        while True:
            reason = ""
            for offset in range(len(connections)):
                index = (first + offset) % len(connections)
                try:
                    connections[index].ready()
                except OSError as error:
                    # No byte was sent: the next one may have it.
                    reason = f"no connection to {connections[index]}: {error.strerror or error}"
                    continue
                self._is_back(connections[index])
                self._exchange(connections[index], f"{self._targets[index][2]}/hit/{path}")
                return
            if not self._may_wait(reason):
                self._unanswered(reason)
                return
            time.sleep(WAIT_PAUSE_S)

    def _may_wait(self, reason: str) -> bool:
        now_s = time.monotonic()
        if self._away_s is None:
            self._away_s = now_s
            if self._wait_s:
                show(f"{reason}; waiting for up to {self._wait_s:g} s")
        return now_s - self._away_s < self._wait_s

    def _is_back(self, connection: _Connection) -> None:
        if self._away_s is not None:
            self._away_s = None
            if self._wait_s:
                show(f"{connection} takes connections again")

    def _exchange(self, connection: _Connection, url_path: str) -> None:
        try:
            status, body = connection.post(url_path)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            what = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
            self._unanswered(f"no answer from {connection}: {what}")
            return
        if 200 <= status < 300:
            self.outcome.accepted += 1
            return
        reason = f"{status} from {connection}: {explanation(body)}"
        if status in UNKNOWN:
            self._unanswered(reason)
            return
        self.outcome.refused += 1
        self._because(reason)

    def _unanswered(self, reason: str) -> None:
        self.outcome.unanswered += 1
        self._because(reason)

    def _because(self, reason: str) -> None:
        reason = " ".join(reason.split())[:MAX_REASON_CHARS]
        if reason in self.outcome.reasons or len(self.outcome.reasons) < MAX_REASONS:
            self.outcome.reasons[reason] += 1


class _Connection:
    """One kept-alive connection; made anew when the server has closed it between two hits."""

    def __init__(self, host: str, port: int) -> None:
        self._http: Any = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)  # its sock has no type
        self._http.auto_open = 0  # never by itself: a hit could go out twice

    def __str__(self) -> str:
        return host_port_text(self._http.host, self._http.port)

    def ready(self) -> None:
        """Be connected, so that a hit can be sent. Raises OSError."""
        if self._http.sock is not None and not _is_quiet(self._http.sock):
            self.close()
        if self._http.sock is None:
            try:
                self._http.connect()
            except OSError:
                self.close()
                raise

    def post(self, url_path: str) -> tuple[int, bytes]:
        """Send one hit and read its answer. Raises OSError or HTTPException; its fate is unknown then."""
        self._http.sock.settimeout(ANSWER_TIMEOUT_S)
        self._http.request("POST", url_path, headers={"Content-Length": "0"})
        response = self._http.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """Give the connection up."""
        with contextlib.suppress(OSError):
            self._http.close()


def _is_quiet(connection: socket.socket) -> bool:
    """Whether a connection may be used again: between two hits, anything to read is its end."""
    connection.settimeout(0.0)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _target(url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError as error:
        raise CommandError(f"--to {url!r}: {error}") from error
    if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
        raise CommandError(f"--to {url!r} is not a URL such as http://127.0.0.1:8000")
    return parts.hostname, port, parts.path.rstrip("/")


def explanation(body: bytes) -> str:
    """The words of an error's JSON, or the start of whatever came."""
    try:
        answer = json.loads(body)
        return str(answer.get("description") or answer.get("title"))
    except (ValueError, AttributeError):
        return body[:MAX_REASON_CHARS].decode("utf-8", errors="replace") or "no explanation"
