"""Settings stores to test: SQLite in a fresh file, Consul under a fresh prefix of one real server."""

from __future__ import annotations

import http.client
import itertools
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from hitmesh.settings import SettingsStore, consul_query, watch
from hitmesh.settings.consul import ConsulSettings
from hitmesh.settings.open import open_settings
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.settings.watch import Watch
from hitmesh.store import consul_host
from hitmesh.store.consul_host import Host
from tests.hitmesh.store.patience import PATIENT
from tests.services import PATIENCE_S, require, wait_for
from tests.services.consul import ConsulCluster
from tests.services.faulty_proxy import FaultyProxy, Request

_prefixes = (f"test-{number}" for number in itertools.count())


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on a busy machine is slow, and not away: what is asked of it here waits for longer than a role would."""
    monkeypatch.setattr(consul_host, "CONNECT_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(consul_query, "ANSWER_S", PATIENCE_S)
    consul: Any = ConsulSettings.__init__
    sqlite: Any = SqliteSettings.__init__
    monkeypatch.setitem(consul.__kwdefaults__, "timeouts", PATIENT)
    monkeypatch.setitem(sqlite.__kwdefaults__, "busy_timeout_s", PATIENCE_S)


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    """One real Consul server for all tests; each works below a prefix of its own."""
    cluster = ConsulCluster(tmp_path_factory.mktemp("consul"), servers=1)
    cluster.start_all()
    yield cluster
    cluster.stop()


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test has."""
    return next(_prefixes)


@pytest.fixture
def consul_url(consul: ConsulCluster, prefix: str) -> str:
    """A store straight on the real server."""
    return consul.url(prefix)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A store in a new file."""
    return f"sqlite:///{tmp_path}/settings.db"


@pytest.fixture(params=["sqlite", "consul"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of each kind of store in turn."""
    made: str = request.getfixturevalue(f"{request.param}_url")
    return made


@pytest.fixture
def store(url: str) -> Iterator[SettingsStore]:
    """Each kind of store in turn."""
    made = open_settings(url, Path())
    yield made
    made.close()


class KvProxy(FaultyProxy):
    """A faulty proxy that also passes X-Consul-Index on, and keeps the tokens of what was answered."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__(upstream_port)
        self.tokens: list[str | None] = []

    def queries(self) -> list[str]:
        """The paths of the blocking queries so far."""
        return [request.path for request in self.requests if request.method == "GET" and "recurse" in request.path]

    def _handle(self, client: BaseHTTPRequestHandler) -> None:
        # Head and body are sent one after the other, and the second would wait 40 ms for the first one's ack.
        client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super()._handle(client)

    def _forward(self, client: BaseHTTPRequestHandler, request: Request) -> tuple[int, str, bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=600)  # a query may wait
        try:
            upstream.request(request.method, request.path, request.body)
            answer = upstream.getresponse()
            body = answer.read()
        finally:
            upstream.close()
        self.tokens.append(client.headers.get("X-Consul-Token"))
        send_response, index = client.send_response, answer.headers.get("X-Consul-Index")

        def with_index(code: int, message: str | None = None) -> None:
            del client.send_response
            send_response(code, message)
            if index is not None:
                client.send_header("X-Consul-Index", index)

        client.send_response = with_index  # type: ignore[method-assign]
        return answer.status, answer.headers.get("Content-Type", ""), body


@pytest.fixture
def proxy(consul: ConsulCluster) -> Iterator[KvProxy]:
    """A proxy in front of the real server, without faults yet."""
    made = KvProxy(consul.http(0))
    yield made
    made.close()


class Following:
    """A watch that a thread follows; what it handed out, in order."""

    def __init__(self, followed: Watch[Any]) -> None:
        self.watch = followed
        self.seen: list[Mapping[str, Any]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self.watch:
            for found in self.watch:
                self.seen.append(found)

    def values(self) -> list[dict[str, str]]:
        """What was handed out, without versions and authors."""
        return [{key: setting.value.decode() for key, setting in found.items()} for found in list(self.seen)]

    def wait_for(self, *expected: dict[str, str]) -> None:
        """Wait until just this has been handed out last."""
        wait_for(lambda: self.values()[-len(expected) :] == list(expected), what=f"{expected} after {self.values()}")

    def wait_for_trouble(self) -> str:
        """Wait until the store gives the watch no answer; why."""
        return wait_for(lambda: self.watch.trouble, what="the watch to be in trouble")

    def wait_for_answers(self) -> None:
        """Wait until the store answers the watch again."""
        wait_for(lambda: not self.watch.trouble, what="the watch to be out of trouble")

    def stop(self) -> None:
        """End it; fails when it doesn't end."""
        self.watch.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


Follow = Callable[[Watch[Any]], Following]


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Follows watches, and ends them with the test."""
    followed: list[Following] = []

    def start(one: Watch[Any]) -> Following:
        followed.append(Following(one))
        return followed[-1]

    yield start
    for each in followed:
        each.stop()


@pytest.fixture
def straight(consul_url: str) -> Iterator[SettingsStore]:
    """A store without the proxy."""
    store = open_settings(consul_url, Path())
    yield store
    store.close()


@pytest.fixture
def through(proxy: KvProxy, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsulSettings]:
    """A store behind the proxy that doesn't wait long for changes, nor before it tries again."""
    monkeypatch.setattr(consul_query, "DISTANCE_S", 0.02)
    monkeypatch.setattr(watch, "FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(watch, "LONGEST_RETRY_S", 0.05)
    store = ConsulSettings([Host("127.0.0.1", proxy.port)], prefix, wait_s=0.1)
    yield store
    store.close()


@pytest.fixture
def kv(consul: ConsulCluster, prefix: str) -> Callable[..., str]:
    """`consul kv` below the prefix: put KEY VALUE, get KEY, delete KEY."""

    def run(verb: str, *options: str, value: str | None = None) -> str:
        *flags, key = options
        command = [require("consul"), "kv", verb, f"-http-addr=127.0.0.1:{consul.http(0)}", *flags]
        command += [f"{prefix}/settings{key}", *(["-"] if value is not None else [])]
        return subprocess.run(command, input=value, check=True, capture_output=True, text=True).stdout

    return run
