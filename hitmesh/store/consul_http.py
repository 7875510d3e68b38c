"""Requests to one of several Consul agents. Owns connections, time-outs and the choice of the host;
knows nothing of what is asked.

Every answer is handed, status and all, to the caller's `understand`. The connections are urllib3's,
which takes some 0.1 s to import, so that happens with the first request. Invariants:

- A write that may have reached a host is never sent again; one whose connection couldn't be
  made goes to the next host. A read goes to the next host after any failure.
- After a failure the next request begins with the next host.
- Nothing is absent because a token may not see it: Consul leaves that out of the answer to a
  transaction, and says so (403) only where a single key is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from hitmesh.hub.blocking import call_blocking, socket_is_cooperative
from hitmesh.store import consul_host
from hitmesh.store.consul_host import Host, NoAnswer, NotSent

if TYPE_CHECKING:
    import ssl

    import urllib3

T = TypeVar("T")

MAX_IDLE_CONNECTIONS = 16  # kept open to each host; beyond, a request opens its own
RIGHTS_S = 10.0  # for which a token's right to read is taken to last before it is asked about again


class ConsulHosts:
    """The agents of one datacenter that answer for the same KV store."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = tuple(hosts)
        self._first = 0  # where the next request begins
        self._pools: dict[tuple[Host, float], tuple[ssl.SSLContext | None, urllib3.HTTPConnectionPool]] = {}
        self._confirmed_s: dict[tuple[Host, str], float] = {}  # when the token could last read at a key

    def read(
        self,
        body: bytes,
        timeout_s: float,
        understand: Callable[[int, str], T],
        lacking: Callable[[T], Iterable[str]],
    ) -> T:
        """Carry out a transaction that only reads, consistently; raises NoAnswer when no host gave an answer.

        `understand(status, body)` returns what the answer means, or raises NoAnswer. `lacking(answer)`
        names keys in whose place nothing was found: that is believed of a host which lets the token read
        there, before and after. `timeout_s` is the time for the answer to begin.
        """

        def ask(host: Host) -> T:
            began_s = time.monotonic()
            answer = understand(*self._ask(host, "PUT", "/v1/txn?consistent=1", body, timeout_s))
            for key in lacking(answer):
                if self._confirmed_s.get((host, key), 0.0) < began_s - RIGHTS_S:
                    self._confirm(host, key, timeout_s)  # the answer may be from before it was allowed
                    return ask(host)
                self._confirm(host, key, timeout_s)
            return answer

        return self._first_of(ask, NoAnswer)

    def write(self, body: bytes, timeout_s: float, understand: Callable[[int, str], T]) -> T:
        """Carry out a transaction that writes, sending it at most once; otherwise like `read`."""
        return self._first_of(lambda host: understand(*self._ask(host, "PUT", "/v1/txn", body, timeout_s)), NotSent)

    def refusal(self, status: int, body: str) -> str:
        """An answer that is none, in words; all hosts are shown the same token."""
        return self.hosts[0].refusal(status, body)

    def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        while self._pools:
            self._pools.popitem()[1][1].close()

    def _first_of(self, ask: Callable[[Host], T], retryable: type[NoAnswer]) -> T:
        failures: list[str] = []
        for _ in self.hosts:
            first = self._first
            host = self.hosts[first]
            try:
                return ask(host)
            except NoAnswer as failure:
                failures.append(f"{host}: {failure}")
                if self._first == first:  # another greenlet may have moved on already
                    self._first = (first + 1) % len(self.hosts)
                if not isinstance(failure, retryable):
                    break
        raise NoAnswer("; ".join(failures))

    def _confirm(self, host: Host, key: str, timeout_s: float) -> None:
        """Be sure that the token may read at `key`, which need not exist. Raises NoAnswer."""
        status, body = self._ask(host, "GET", f"/v1/kv/{quote(key)}?stale", b"", timeout_s)
        if status not in (200, 404) or (status == 404 and body):
            raise NoAnswer(host.refusal(status, body))
        self._confirmed_s[host, key] = time.monotonic()

    def _ask(self, host: Host, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, str]:
        def ask() -> tuple[int, str]:
            found = self._pool(host, timeout_s).urlopen(method, path, body=body or None, headers=host.headers())
            # Newer Consuls say so when a token may not see all keys: what is missing isn't absent.
            if found.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
                raise NoAnswer("the ACL token may not read all of the keys")
            return found.status, found.data.decode("utf-8", "replace")

        import urllib3

        try:
            return ask() if socket_is_cooperative() else call_blocking(ask)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            kind = NotSent if _could_not_connect(error) else NoAnswer
            raise kind(_in_short(host, error)) from error

    def _pool(self, host: Host, timeout_s: float) -> urllib3.HTTPConnectionPool:
        context = host.context()
        before, pool = self._pools.get((host, timeout_s), (None, None))
        if pool is None or before is not context:  # its files were replaced: what it is asked already ends as it began
            pool = _make_pool(host, timeout_s, context)
            self._pools[host, timeout_s] = context, pool
        return pool


def _make_pool(host: Host, timeout_s: float, context: ssl.SSLContext | None) -> urllib3.HTTPConnectionPool:
    """Kept-alive connections to one host."""
    import urllib3

    timeout = urllib3.Timeout(connect=consul_host.CONNECT_TIMEOUT_S, read=timeout_s)
    # A redirect would send a write a second time, and so would a retry.
    retries = urllib3.Retry(False, redirect=False)
    if context is None:
        return urllib3.HTTPConnectionPool(
            host.address, host.port, maxsize=MAX_IDLE_CONNECTIONS, timeout=timeout, retries=retries
        )
    return urllib3.HTTPSConnectionPool(
        host.address,
        host.port,
        maxsize=MAX_IDLE_CONNECTIONS,
        timeout=timeout,
        retries=retries,
        ssl_context=context,
    )


def _could_not_connect(error: Exception) -> bool:
    import urllib3

    return isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def _in_short(host: Host, error: Exception) -> str:
    # urllib3 nests its reasons in texts of several lines' length with addresses of objects.
    import urllib3

    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "connection refused or host unknown"
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {consul_host.CONNECT_TIMEOUT_S} s"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "no answer in time"
    return host.lost(error)
