"""A role's admin listener, on a real socket: what it answers, and who takes nothing from the role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import gevent
import pytest
from gevent import socket

from hitmesh.config import Config
from hitmesh.errors import ConfigError
from hitmesh.metrics import admin as module
from hitmesh.metrics.admin import AdminListener
from hitmesh.metrics.app import TraceAnswer
from hitmesh.metrics.families import gauge
from hitmesh.metrics.opening import open_admin
from hitmesh.protocol.stations import Told
from tests.hitmesh.dev_config import configured

PATIENCE_S = 60.0


class Role:
    """One that has little to tell, and may fail."""

    def __init__(self, config: Config, trace: TraceAnswer | None = None) -> None:
        self.why = ""
        self.asked = 0
        self.admin = AdminListener(config, "127.0.0.1", 0)
        self.admin.start(self.collect, lambda: self.why, trace)
        self.place = ("127.0.0.1", int(self.admin.url.rpartition(":")[2]))

    def collect(self) -> Iterator[Any]:
        self.asked += 1
        yield gauge("asked", "How often", [({}, self.asked)])

    def connect(self) -> Any:
        return socket.create_connection(self.place, timeout=PATIENCE_S)

    def ask(self, path: str, *, method: str = "GET", more: str = "") -> tuple[int, str, str]:
        """Status, head and body."""
        with self.connect() as connection:
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{more}\r\n"
            connection.sendall(head.encode())
            found = b""
            while data := connection.recv(65_536):
                found += data
        head, _, body = found.decode().partition("\r\n\r\n")
        return int(head.split()[1]), head, body


@pytest.fixture
def role() -> Iterator[Role]:
    role = Role(configured())
    yield role
    role.admin.stop()


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("id=s/a", (["s/a"], 1)),
        ("id=s%2Fa&last=7&id=%C3%BC", (["s/a", "ü"], 7)),
    ],
)
def test_what_a_role_remembers_is_told_of_what_is_asked_for(query: str, asked: tuple[list[str], int]) -> None:
    questions = []

    def trace(ids: Sequence[str], last: int) -> Told:
        questions.append((list(ids), last))
        return Told(dc="dev", role="processor", name="p\u202e", more=3)

    role = Role(configured(), trace)
    status, _, body = role.ask(f"/trace?{query}")
    role.admin.stop()
    assert (status, questions) == (200, [asked])
    assert json.loads(body) == {"dc": "dev", "role": "processor", "name": "p\u202e", "more": 3}


@pytest.mark.parametrize(
    "query",
    [
        "",
        "last=1",
        "id=",
        "id=a&last=0",
        "id=a&last=101",
        "id=a&last=1&last=2",
        "id=a&last=%D9%A1",
        "id=a&x=1",
        "id=%FF",
        f"id={'a' * 1025}",
        "&".join(["id=a"] * 41),
    ],
)
def test_a_question_that_cant_be_is_refused_in_words(query: str) -> None:
    def nothing(_ids: Sequence[str], _last: int) -> Told:
        raise AssertionError

    role = Role(configured(), nothing)
    status, _, body = role.ask(f"/trace?{query}")
    role.admin.stop()
    assert status == 400 and json.loads(body)["description"]


def test_a_role_without_batches_has_no_trace(role: Role) -> None:
    assert role.ask("/trace?id=s/a")[0] == 404


def test_the_metrics_are_of_now_and_the_processs_own_are_among_them(role: Role) -> None:
    role.ask("/metrics")
    status, head, body = role.ask("/metrics")
    assert status == 200
    assert "Content-Type: text/plain; version=0.0.4" in head
    assert "hitmesh_asked 2.0\n" in body
    assert "\nprocess_resident_memory_bytes " in body


def test_health_is_up_or_why_not(role: Role) -> None:
    assert role.ask("/health")[::2] == (200, '{"status":"up"}')
    role.why = "a put into the spool has been under way for 15 s"
    status, _, body = role.ask("/health")
    assert (status, json.loads(body)["description"]) == (503, role.why)


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "//metrics", "/stats", "/hit/a", "/%00", "/metricsx"])
def test_there_is_nothing_else(role: Role, path: str) -> None:
    status, _, body = role.ask(path)
    assert status == 404
    assert json.loads(body)["description"] == "there is nothing here; see /metrics and /health"


def test_nothing_can_be_changed(role: Role) -> None:
    status, head, body = role.ask("/metrics", method="DELETE")
    assert status == 405
    assert "Allow: GET, HEAD" in head
    assert json.loads(body)["title"] == "Method Not Allowed"
    assert role.ask("/metrics", method="POST", more="Content-Length: 1000000000000\r\n")[0] == 413


def test_with_a_token_it_is_asked_for() -> None:
    role = Role(configured(lambda data: data.update(metrics={"token": "secret"})))
    status, head, _ = role.ask("/metrics")
    assert status == 401
    assert "WWW-Authenticate: Bearer" in head
    assert role.ask("/metrics", more="Authorization: Bearer wrong\r\n")[0] == 401
    assert role.ask("/metrics", more="Authorization: Bearer secret\r\n")[0] == 200
    assert role.ask("/health")[0] == 200
    assert role.asked == 1
    role.admin.stop()


def test_a_port_that_is_taken_is_named(role: Role) -> None:
    with pytest.raises(
        ConfigError, match=f"127.0.0.1:{role.place[1]}: can't be listened at, for /metrics: Address already"
    ):
        AdminListener(configured(), *role.place)


def test_who_has_no_port_has_no_listener() -> None:
    assert open_admin(configured(), "collector", "collector-1") is None


def test_scrapers_of_all_kinds_take_nothing_from_the_roles_work(role: Role) -> None:
    """Hundreds who ask without end, take nothing, send nothing or nonsense: the hub goes on, and a scrape comes through."""
    turns = 0

    def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0.001)

    def attack(data: bytes, *, reads: bool) -> None:
        while True:
            try:
                with role.connect() as connection:
                    while connection.send(data) and (not reads or connection.recv(65_536)):
                        gevent.sleep(0)
            except OSError:
                gevent.sleep(0.01)

    scrape = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    busy = [gevent.spawn(attack, scrape, reads=True) for _ in range(module.PLACES)]
    greedy = [gevent.spawn(attack, scrape * 100, reads=False) for _ in range(20)]
    odd = [gevent.spawn(attack, b"\x16\x03 nonsense\r\n\r\n", reads=True) for _ in range(20)]
    idle = [role.connect() for _ in range(50)]
    working = gevent.spawn(work)
    before, asked = turns, role.asked
    with gevent.Timeout(PATIENCE_S):
        assert role.ask("/metrics")[0] == 200
        while role.asked < asked + 5:
            gevent.sleep(0.01)
    # Between two answers is TURN_S, in which the role has the hub: some turns of its own.
    assert turns - before > role.asked - asked
    gevent.killall([*busy, *greedy, *odd, working])
    for each in idle:
        each.close()
