"""When a mesh whose instances all heartbeat is ready: servers that say so, or don't."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli import picture, readiness
from hitmesh.config import Config, parse
from hitmesh.protocol.messages import Answer, Instance, Seen, make
from hitmesh.supervisord import Supervised
from tests.services import PATIENCE_S, free_port

Serve = Callable[[int], int]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there is waited for."""
    monkeypatch.setattr(readiness, "HEALTH_TIMEOUT_S", PATIENCE_S)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers everything with this status; its port."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b'{"title": "x", "description": "the spool is full"}')

            def log_message(self, format: str, *args: Any) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        return int(servers[-1].server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def datacenter(collector: int, balancer: int, **tables: Any) -> Config:
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
    ports = {"collector": collector, "balancer": balancer, "balancer_admin": 0}
    return parse({"name": "dc", "nodes": {"local": node}, "ports": ports, **tables}, source="test")


def lacking(config: Config, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(picture, "ask", lambda _: None)
    monkeypatch.setattr(picture, "missing", lambda *_: [])
    return readiness.lacking_in([config]).get("dc", [])


def test_it_is_ready_when_collectors_and_balancers_answer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacking(datacenter(serve(200), serve(200)), monkeypatch) == []


@pytest.mark.parametrize("status", [204, 301, 503])
def test_a_collector_that_cannot_take_a_hit_is_lacking(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    [found] = lacking(datacenter(serve(status), serve(200)), monkeypatch)
    assert found.startswith(f"collector-1 (/health: {status}: ")


def test_a_balancer_that_has_no_collector_is_lacking_with_its_reason(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lacking(datacenter(serve(200), serve(503)), monkeypatch)
    assert found == ["balancer-1 (/health: 503: the spool is full)"]


def test_a_balancer_that_does_not_listen_is_lacking(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = lacking(datacenter(serve(200), free_port()), monkeypatch)
    assert found.startswith("balancer-1 (/health: ")


def test_a_balancer_whose_live_route_answers_for_the_collectors_is_ready(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lacking(datacenter(serve(200), serve(308)), monkeypatch) == []


def test_a_balancer_that_leads_elsewhere_is_not_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = {"default": {"action": "proxy", "backends": ["127.0.0.1:1"]}}
    assert lacking(datacenter(serve(200), free_port(), routes=routes), monkeypatch) == []


def heard(dc: str, role: str, name: str, **load: float) -> Seen:
    instance = Instance(dc, role, name, f"{name}.{dc}", "up", 1, 0, {}, load, {})
    return Seen(instance, 1, 0, True)


def stranger(config: Config, monkeypatch: pytest.MonkeyPatch, *seen: Seen) -> list[str]:
    answer = make(Answer, 1, "", "nexus-1.x", 1, True, seen)
    monkeypatch.setattr(picture, "missing", lambda *_: [])
    monkeypatch.setattr(picture, "ask", lambda _: answer)
    return readiness.lacking_in([config]).get("dc", [])


def test_it_is_ready_when_its_nexuses_hear_the_others_and_nothing_is_being_restored(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = (heard("dc", "nexus", "nexus-1", peers_unheard=0.0), heard("dc", "processor", "processor-1", restoring=0.0))
    assert stranger(datacenter(serve(200), serve(200)), monkeypatch, *seen) == []
    # a release without these figures
    assert stranger(datacenter(serve(200), serve(200)), monkeypatch, heard("dc", "nexus", "nexus-1")) == []


def test_a_nexus_that_does_not_hear_another_datacenter_is_lacking(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = (heard("dc", "nexus", "nexus-1", peers_unheard=0.0), heard("dc", "nexus", "nexus-2", peers_unheard=2.0))
    found = stranger(datacenter(serve(200), serve(200)), monkeypatch, *seen)
    assert found == ["nexus-2 (doesn't hear 2 of the other datacenters)"]


def test_a_processor_that_restores_partitions_is_lacking(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = (heard("dc", "processor", "processor-1", restoring=3.0), heard("dc", "processor", "processor-2"))
    found = stranger(datacenter(serve(200), serve(200)), monkeypatch, *seen)
    assert found == ["processor-1 (brings the rows of 3 partitions back from the others)"]


def test_what_another_datacenter_lacks_is_its_own(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = (
        heard("far", "nexus", "nexus-1", peers_unheard=1.0),
        heard("far", "processor", "processor-1", restoring=1.0),
    )
    assert stranger(datacenter(serve(200), serve(200)), monkeypatch, *seen) == []


def test_partitions_that_nobody_owns_show_the_logs_of_those_who_could(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").mkdir()
    programs = [Supervised(f"dc-{name}", "RUNNING", 1, 1.0, "") for name in ("nexus-1", "processor-1", "processor-2")]
    for each in programs:
        (tmp_path / "log" / f"{each.full_name}.log").write_text(f"{each.name}: 403: Permission denied\n")
    readiness.show_logs({"dc": ["owners of 32 of 32 partitions"]}, programs, tmp_path)
    shown = capsys.readouterr().err
    assert "processor-1: 403: Permission denied" in shown
    assert "processor-2: 403: Permission denied" in shown
    assert "nexus-1:" not in shown


def test_why_supervisord_ended_is_told_without_its_environment() -> None:
    lines = [
        "Error: Format string '%(x)s' for 'command' contains names ('x') which cannot be expanded. Available names: ENV_KEY",
        "For help, use /usr/bin/supervisord -h",
    ]
    assert readiness.reason_of(lines) == (
        "Error: Format string '%(x)s' for 'command' contains names ('x') which cannot be expanded."
    )
    assert readiness.reason_of([]) == "it doesn't say why"
