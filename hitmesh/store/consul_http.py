"""Requests to one of several Consul agents, through py-consul. Owns hosts, connections, time-outs
and the choice of the host; knows nothing of what is asked.

py-consul only carries the requests: its own callbacks take some errors for values, so every
answer is handed, status and all, to the caller's `understand`. Beneath it is a transport of ours
on urllib3's pool: requests, its own, takes three times the CPU for each request. Invariants:

- A write that may have reached a host is never sent again; one whose connection couldn't be
  made goes to the next host. A read goes to the next host after any failure.
- After a failure the next request begins with the next host.

py-consul takes some 0.2 s to import, so that happens with the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from msgspec import Struct

from hitmesh.store.blocking import call_blocking, socket_is_cooperative

T = TypeVar("T")

CONNECT_TIMEOUT_S = 1.0  # a host of the same datacenter accepts in a millisecond, or not at all
MAX_IDLE_CONNECTIONS = 16  # kept open to each host; beyond, a request opens its own
EXCERPT_CHARS = 200  # of an answer, in an error


class Host(Struct, frozen=True):
    """One Consul agent."""

    address: str
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


class NoAnswer(Exception):
    """No usable answer; the request may have been carried out, now or later."""


class NotSent(NoAnswer):
    """No connection: the request can't have been carried out."""


class ConsulHosts:
    """The agents of one datacenter that answer for the same KV store."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = tuple(hosts)
        self._first = 0  # where the next request begins
        self._clients: dict[tuple[Host, float], Any] = {}

    def read(self, body: bytes, timeout_s: float, understand: Callable[[int, str], T]) -> T:
        """Carry out a transaction that only reads, consistently; raises NoAnswer when no host gave an answer.

        `understand(status, body)` returns what the answer means, or raises NoAnswer. `timeout_s`
        is the time for the answer to begin.
        """
        return self._request(body, timeout_s, understand, {"consistent": "1"}, NoAnswer)

    def write(self, body: bytes, timeout_s: float, understand: Callable[[int, str], T]) -> T:
        """Carry out a transaction that writes, sending it at most once; otherwise like `read`."""
        return self._request(body, timeout_s, understand, {}, NotSent)

    def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        while self._clients:
            self._clients.popitem()[1].http.close()

    def _request(
        self,
        body: bytes,
        timeout_s: float,
        understand: Callable[[int, str], T],
        params: dict[str, str],
        retryable: type[NoAnswer],
    ) -> T:
        failures: list[str] = []
        for _ in self.hosts:
            first = self._first
            host = self.hosts[first]
            try:
                return understand(*self._ask(host, body, timeout_s, params))
            except NoAnswer as failure:
                failures.append(f"{host}: {failure}")
                if self._first == first:  # another greenlet may have moved on already
                    self._first = (first + 1) % len(self.hosts)
                if not isinstance(failure, retryable):
                    break
        raise NoAnswer("; ".join(failures))

    def _ask(self, host: Host, body: bytes, timeout_s: float, params: dict[str, str]) -> tuple[int, str]:
        def put() -> tuple[int, str]:
            client = self._client(host, timeout_s)
            headers = {**client.prepare_headers(), "Content-Type": "application/json"}
            return client.http.put(_untouched, "/v1/txn", params=params, data=body, headers=headers)  # type: ignore[no-any-return]

        import urllib3

        try:
            return put() if socket_is_cooperative() else call_blocking(put)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            kind = NotSent if _could_not_connect(error) else NoAnswer
            raise kind(_in_short(error)) from error

    def _client(self, host: Host, timeout_s: float) -> Any:
        client = self._clients.get((host, timeout_s))
        if client is None:
            client = self._clients[host, timeout_s] = _consul_client(host, timeout_s)
        return client


def _consul_client(host: Host, timeout_s: float) -> Any:
    """A py-consul client whose requests go through a pool of kept-alive connections."""
    import consul.base
    import urllib3

    # A redirect would send a write a second time, and so would a retry.
    pool = urllib3.HTTPConnectionPool(
        host.address,
        host.port,
        maxsize=MAX_IDLE_CONNECTIONS,
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
        retries=urllib3.Retry(False, redirect=False),
    )

    class Transport(consul.base.HTTPClient):  # type: ignore[misc]
        def put(self, callback: Any, path: str, params: Any = None, data: Any = "", headers: Any = None) -> Any:
            query = f"?{urlencode(params)}" if params else ""
            answer = pool.urlopen("PUT", path + query, body=data, headers=headers, redirect=False)
            body = answer.data.decode("utf-8", "replace")
            return callback(consul.base.Response(answer.status, answer.headers, body))

        def get(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError("everything here is a transaction, which is a PUT")

        delete = post = get

        def close(self) -> None:
            pool.close()

    class Client(consul.base.Consul):  # type: ignore[misc]
        def http_connect(self, host: str, port: int, scheme: str, verify: Any = True, cert: Any = None) -> Any:
            return Transport(host, port, scheme, verify, cert)

    return Client(host.address, host.port, scheme="http")


def excerpt(text: str) -> str:
    """The beginning of an answer, for an error."""
    return text if len(text) <= EXCERPT_CHARS else text[:EXCERPT_CHARS] + "..."


def _untouched(response: Any) -> tuple[int, str]:
    # Newer Consuls say so when a token may not see all keys: what is missing isn't absent.
    if response.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
        raise NoAnswer("the ACL token may not read all of the keys")
    return response.code, response.body


def _could_not_connect(error: Exception) -> bool:
    import urllib3

    return isinstance(error, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))


def _in_short(error: Exception) -> str:
    # urllib3 nests its reasons in texts of several lines' length with addresses of objects.
    import urllib3

    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "connection refused or host unknown"
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S} s"
    if isinstance(error, urllib3.exceptions.ReadTimeoutError):
        return "no answer in time"
    return excerpt(f"connection lost: {error}")
