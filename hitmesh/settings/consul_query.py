"""Blocking queries to one of several Consul agents: what is below a key, once it has changed.

Owns its connection, the index and the choice of the host; knows nothing of settings. Not by
`ConsulHosts`, whose connections are for answers within milliseconds: this one is held for
seconds, one host at a time, and can be cut from elsewhere to end a wait.

The index's rules are Consul's (https://developer.hashicorp.com/consul/api-docs/features/blocking):
it starts anew when it goes backwards, is never 0 while waiting, the wait is bounded, and queries
keep a distance where something wakes them all the time. Measured with 1.8.7: an index from before
a store was restored blocks until the wait ends, so after any failure it starts anew as well.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import quote

from hitmesh.hub.blocking import call_blocking, socket_is_cooperative
from hitmesh.settings.consul_records import entries_of_get
from hitmesh.settings.watch import pause
from hitmesh.store import consul_host
from hitmesh.store.consul_access import excerpt
from hitmesh.store.consul_host import Host, NoAnswer
from hitmesh.store.consul_txn import Entry

WAIT_S: Final = 5.0  # a host that vanished without a word is noticed after this; far below Consul's 10 minutes
ANSWER_S: Final = 2.0  # for the answer to begin when the wait is over
JITTER: Final = 1 / 16  # of the wait, that Consul adds at most
DISTANCE_S: Final = 0.1  # between the beginnings of two queries
# The same while there is no key at all: such a query wakes with every write to the store
# (hashicorp/consul#9449), commits too, and all roles ask.
EMPTY_DISTANCE_S: Final = 0.4
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # some 500 settings of the largest kind
_MAX_INDEX_DIGITS: Final = 20


class BlockingQuery:
    """Asks for all keys below `root`, again and again; used by one greenlet or thread, but for `interrupt`."""

    def __init__(self, hosts: Sequence[Host], root: str, wait_s: float) -> None:
        self._hosts = tuple(hosts)
        self._root = f"/v1/kv/{quote(root)}"
        self._path = f"{self._root}?recurse&consistent"
        self._may_read = False  # whether the token could read there, with this connection
        self._wait_s = wait_s
        self._at = 0  # the host that is asked
        self._index = 0  # 0: don't wait
        self._next_s = 0.0  # when the next query may begin
        self._connection: http.client.HTTPConnection | None = None
        self._interrupted = False

    def ask(self) -> list[Entry] | None:
        """The keys there are; None when nothing has changed for a while. Raises NoAnswer.

        The first answer, and one after `begin_anew` or an error, comes at once.
        """
        pause(max(0.0, self._next_s - time.monotonic()))
        self._next_s = time.monotonic() + DISTANCE_S
        failures: list[str] = []
        for _ in self._hosts:
            host = self._hosts[self._at]
            try:
                ask = partial(self._ask, host)
                index, found = ask() if socket_is_cooperative() else call_blocking(ask)
            except NoAnswer as failure:
                failures.append(f"{host}: {failure}")
                self._at = (self._at + 1) % len(self._hosts)
                self.begin_anew()
                continue
            if not found:
                self._next_s = max(self._next_s, time.monotonic() + EMPTY_DISTANCE_S)
            if index == self._index:
                return None
            self._index = index if index > self._index else 0
            return found
        raise NoAnswer("; ".join(failures))

    def begin_anew(self) -> None:
        """The next `ask` doesn't wait, and has a connection of its own."""
        self._index = 0
        self._may_read = False
        self.close()

    def interrupt(self) -> None:
        """End an `ask` that waits, and every later one; called from anywhere."""
        self._interrupted = True
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            with suppress(OSError):  # it has just been closed
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next `ask` opens one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, host: Host) -> tuple[int, list[Entry]]:
        """The index and the keys."""
        waiting = f"&index={self._index}&wait={round(self._wait_s * 1000)}ms" if self._index else ""
        if not self._may_read:
            self._confirm(host)
        index, found = _understand(host, *self._get(host, self._path + waiting))
        if not found:
            self._confirm(host)  # what the token may not see is left out
        return index, found

    def _confirm(self, host: Host) -> None:
        """Be sure that the token may read there: of a single key Consul says so, which need not exist."""
        _understand(host, *self._get(host, f"{self._root}?stale"))
        self._may_read = True

    def _get(self, host: Host, path: str) -> tuple[int, str, bytes]:
        """Status, X-Consul-Index and body of the answer."""
        try:
            connection = self._connected(host)
            connection.request("GET", path, headers=host.headers())
            answer = connection.getresponse()
            body = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(host.in_short(error)) from error
        if len(body) > MAX_ANSWER_BYTES:
            raise NoAnswer(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        # Newer Consuls say so when a token may not see all keys: what is missing isn't absent.
        if answer.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
            raise NoAnswer("the ACL token may not read all of the keys")
        return answer.status, answer.headers.get("X-Consul-Index", ""), body

    def _connected(self, host: Host) -> http.client.HTTPConnection:
        connection = self._connection
        if connection is None:
            connection = self._connection = host.connection(consul_host.CONNECT_TIMEOUT_S)
        if connection.sock is None:  # new, or the host closed it after its last answer
            connection.timeout = consul_host.CONNECT_TIMEOUT_S
            connection.connect()
        # After the connecting: `interrupt` comes either before this, or finds the socket.
        if self._interrupted:
            raise NoAnswer("interrupted")
        connection.sock.settimeout(self._wait_s * (1 + JITTER) + ANSWER_S)
        return connection


def _understand(host: Host, status: int, header: str, body: bytes) -> tuple[int, list[Entry]]:
    """The index and the keys. Only a 404 of Consul's own, which has an index and no body, says that there are none."""
    text = excerpt(body[:1024].decode("utf-8", "replace"))
    if status not in (200, 404) or (status == 404 and body):
        raise NoAnswer(host.refusal(status, text))
    if not (header.isascii() and header.isdigit() and len(header) <= _MAX_INDEX_DIGITS):
        raise NoAnswer(f"{status} without an X-Consul-Index: {text}")
    try:
        return max(1, int(header)), entries_of_get(body) if status == 200 else []
    except ValueError as error:
        raise NoAnswer(f"200, but {error}: {text}") from error
