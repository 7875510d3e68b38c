"""Configured balancers as real processes, for the tests of what they do while they run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from hitmesh.config import dump, parse
from tests.balancer.wire.answers import Answer
from tests.balancer.wire.proxies import Balancer
from tests.balancer.wire.scripted import Script, ScriptedBackend, Turn
from tests.balancer.wire.visitor import Visitor
from tests.services import PATIENCE_S, WITHOUT_RIGHTS, free_port
from tests.services.nexus import free_ports

OK: Final = b"HTTP/1.1 200 OK\r\n"
# Nobody who is only slow is cut: each is longer than the patience of a test that waits for a connection's end.
CALM: Final = {
    **dict.fromkeys(("head_s", "idle_s", "body_s", "connect_s", "first_byte_s", "between_bytes_s", "write_s"), 120.0),
    "backend_idle_s": 70.0,
}
LONG_S: Final = PATIENCE_S  # a hang
NODE: Final = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
GROWN_KB: Final = 4 * 1024  # that workers may have grown by: some buffers, not a body
Routes = Mapping[str, Mapping[str, Any]]


def proxy(*ports: int, **settings: object) -> dict[str, Any]:
    """A route to backends on loopback. Nothing is checked or held, and nothing takes one out, unless told so."""
    backends = [f"127.0.0.1:{port}" for port in ports]
    calm = {"check_path": "", "check_timeout_s": 60.0, "hold": 0, "queue_s": 120.0, "fall": 1000, "slow_start_s": 0.0}
    return {"action": "proxy", **({"backends": backends} if backends else {}), **calm, **settings}


def configuration(port: int, routes: Routes, **tables: Mapping[str, Any]) -> str:
    """A datacenter's file. Every role has to be somewhere; whether anybody is there is the test's affair."""
    data: dict[str, Any] = {
        "name": "stage",
        "nodes": {"local": NODE},
        "ports": {"balancer": port, "balancer_admin": 0, "collector": free_port(), "nexus": free_ports(3)},
        "routes": routes,
        "timing": {"drain_s": 1.0},
    }
    for name, table in tables.items():
        data[name] = {**data.get(name, {}), **table}
    balancer = data.get("balancer", {})
    data["balancer"] = {**balancer, "limits": {**CALM, **balancer.get("limits", {})}}
    return dump(parse(data, source="test"))


class Instance(Balancer):
    """One configured balancer. `tables` are those of the file, but for the routes."""

    def __init__(self, folder: Path, routes: Routes, **tables: Mapping[str, Any]) -> None:
        super().__init__(folder)
        self.admin_port = free_port()
        self.file = folder / "stage.toml"
        self.number = 1
        self._tables = tables
        self.configure(routes)

    def configure(self, routes: Routes, **tables: Mapping[str, Any]) -> None:
        """Write another configuration, which counts when the balancer reads it."""
        self._tables = {**self._tables, **tables}
        ports = {"balancer_admin": self.admin_port, **self._tables.get("ports", {})}
        self.file.write_text(configuration(self.port, routes, **{**self._tables, "ports": ports}))

    def command(self) -> list[str]:
        name = f"balancer-{self.number}"
        options = ["--config", str(self.file), "--name", name, "--state-dir", str(self.folder / "var")]
        return [*WITHOUT_RIGHTS, sys.executable, "-m", "balancer", *options]

    def is_up(self) -> bool:
        return "serves http" in self.log()

    def service(self, host: str) -> dict[str, Any]:
        """What is counted of a route's service."""
        found: dict[str, Any] = self.admin("GET", "/stats.json")["services"][host]
        return found

    def waiting(self, host: str) -> int:
        """Requests that wait for a backend of a route, because it is busy or because there is none."""
        service = self.service(host)
        return int(service["queue"] + service["held"])

    def memory_kb(self) -> int:
        """What all workers hold in memory that can't be given back without them."""
        return sum(_rss_anon_kb(pid) for pid in self.workers())

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Its workers don't run meanwhile: what happens in here is all there when they go on."""
        workers = self.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)

    def put_route(self, host: str, route: Mapping[str, Any]) -> None:
        """Store a live route."""
        self.admin("PUT", f"/routes/{host}", json.dumps(route))

    def admin(self, method: str, path: str, body: str | None = None) -> Any:
        """What the admin listener answers to a request; JSON. An error is an AssertionError."""
        connection = HTTPConnection("127.0.0.1", self.admin_port, timeout=LONG_S)
        with contextlib.closing(connection):
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, text
            return json.loads(text)


@contextlib.contextmanager
def staged(folder: Path, routes: Routes, **tables: Mapping[str, Any]) -> Iterator[Instance]:
    """A balancer that runs."""
    instance = Instance(folder, routes, **tables)
    instance.start()
    try:
        yield instance
    finally:
        instance.stop()


@contextlib.contextmanager
def staged_pair(folder: Path, routes: Routes, **tables: Mapping[str, Any]) -> Iterator[tuple[Instance, Instance]]:
    """Two balancers of one datacenter."""
    pair = Instance(folder, routes), Instance(folder, routes)
    first, first_admin = free_ports(2), free_ports(2)
    for number, each in enumerate(pair):
        each.number, each.port, each.admin_port = number + 1, first + number, first_admin + number
        each.name = f"balancer-{number + 1}"
    nodes = {"local": {**NODE, "balancer": 2}}
    ports = {"balancer": first, "balancer_admin": first_admin}
    pair[0].configure(routes, nodes=nodes, ports=ports, **tables)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Instance.start, pair))
        yield pair
    finally:
        for each in pair:
            each.stop()


@contextlib.contextmanager
def backends(count: int) -> Iterator[list[ScriptedBackend]]:
    """So many backends, which answer a path with its name."""
    started = [ScriptedBackend() for _ in range(count)]
    try:
        yield started
    finally:
        for each in started:
            each.stop()


def said(path: str, host: str, *, method: str = "GET", more: bytes = b"", body: bytes | None = None) -> bytes:
    """A request as bytes, with its body."""
    if body is not None:
        more += b"Content-Length: %d\r\n" % len(body)
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n".encode() + more + b"\r\n" + (body or b"")


def ask(
    port: int, host: str, path: str = "/", *, method: str = "GET", more: bytes = b"", body: bytes | None = None
) -> Answer:
    """One request on a connection of its own."""
    with Visitor(port) as visitor:
        visitor.send(said(path, host, method=method, more=more, body=body))
        return visitor.answer(method)


def ask_at_once(count: int, question: Callable[[int], Answer]) -> list[Future[Answer]]:
    """The answers, as they come, to questions that are asked at the same time."""
    pool = ThreadPoolExecutor(count)
    futures = [pool.submit(question, number) for number in range(count)]
    pool.shutdown(wait=False)
    return futures


def statuses(answers: list[Future[Answer]]) -> list[int]:
    """All of them, in order of size."""
    return sorted(each.result(LONG_S).status for each in answers)


def reason(answer: Answer) -> str:
    """What the balancer says for itself."""
    said: str = json.loads(answer.body)["description"]
    return said


def sized(body: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer with a Content-Length."""
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


class Gate:
    """A script that answers when it is told to; `waiting` requests are there."""

    def __init__(self, answer: bytes = sized(b"late")) -> None:
        self._answer = answer
        self._open = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.arrived = 0
        self.heads: list[bytes] = []

    def __call__(self, turn: Turn) -> None:
        with self._lock:
            self.arrived += 1
            self.heads.append(turn.head)
        self._open.acquire(timeout=LONG_S)
        turn.say(self._answer)

    def let(self, count: int = 1000) -> None:
        """So many of them go on."""
        for _ in range(count):
            self._open.release()


def on_all(scripted: list[ScriptedBackend], path: str, script: Script) -> None:
    """Each plays it."""
    for each in scripted:
        each.scripts[path] = script


def requests_to(scripted: list[ScriptedBackend], path: str) -> int:
    """How many requests for a path were seen, by all of them."""
    line = f" {path} ".encode()
    return sum(line in head.partition(b"\r\n")[0] for each in scripted for head in each.heads)


@contextlib.contextmanager
def constant_memory(balancer: Instance) -> Iterator[None]:
    """The workers don't grow, neither meanwhile nor afterwards."""
    before = most = balancer.memory_kb()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, balancer.memory_kb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
    assert most - before < GROWN_KB


def _rss_anon_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError(f"{pid} has no memory")
