"""An instance's entry in the catalogue of a real Consul, whatever becomes of the agent."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from hitmesh.config import parse
from hitmesh.store import consul_host, consul_service
from hitmesh.store.consul_access import Token
from hitmesh.store.consul_host import Host
from hitmesh.store.consul_service import ConsulService, definition
from tests.services import PATIENCE_S, require
from tests.services.consul import ConsulServer
from tests.services.faulty_proxy import Fault, FaultyProxy
from tests.services.guarded_consul import Guarded

NAME = "collector-1"
ENTRY = "hitmesh-eu-collector-1"


class Stage:
    """A server, a proxy before it that can fail, and entries that are kept there."""

    def __init__(self, folder: Path) -> None:
        require("consul")
        self.server = ConsulServer(folder / "consul")
        self.server.start()
        self.proxy = FaultyProxy(self.server.ports.http)
        self.state, self.why = "up", ""
        self._kept: list[ConsulService] = []

    def keep(self, id: str = "one") -> ConsulService:
        about = definition("eu", "collector", NAME, id, "http://127.0.0.1:8010", "hitmesh")
        one = ConsulService([Host("127.0.0.1", self.proxy.port)], about, lambda: self.why)
        self._kept.append(one)
        gevent.spawn(one.run, lambda: self.state)
        return one

    def ask(self, path: str, method: str = "GET") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.ports.http, timeout=PATIENCE_S)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read() or b"null")
        finally:
            connection.close()

    def check(self) -> tuple[str, str]:
        """The entry's status, and what is said of it; nothing without one."""
        found = self.ask("/v1/agent/checks").get(f"service:{ENTRY}", {})
        return found.get("Status", ""), found.get("Output", "")

    def id(self) -> str:
        found = self.ask("/v1/agent/services").get(ENTRY)
        return str(found["Meta"]["id"]) if found else ""

    def close(self) -> None:
        for one in self._kept:
            one.stop()
        self.proxy.close()
        self.server.stop()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(consul_service, "BEAT_S", 0.05)
    for module, name in (
        (consul_service, "ANSWER_S"),
        (consul_service, "FAREWELL_S"),
        (consul_host, "CONNECT_TIMEOUT_S"),
    ):
        monkeypatch.setattr(module, name, PATIENCE_S)  # nothing here is about a slow server
    one = Stage(tmp_path)
    yield one
    one.close()


def wait_for(condition: Callable[[], object], what: str) -> None:
    """The entries are kept in this thread's hub: it must run meanwhile."""
    with gevent.Timeout(PATIENCE_S, AssertionError(f"waited for {what}")):
        while not condition():
            gevent.sleep(0.02)


def test_it_says_how_it_is_by_what_it_knows_of_itself(stage: Stage) -> None:
    stage.keep()
    wait_for(lambda: stage.check() == ("passing", ""), "it to be well")
    stage.why = "the spool doesn't answer"
    wait_for(lambda: stage.check() == ("critical", "the spool doesn't answer"), "the reason that it has")
    stage.why, stage.state = "", "failing: a commit has been under way for 15 s"
    wait_for(lambda: stage.check() == ("critical", "a commit has been under way for 15 s"), "what its heartbeats say")
    stage.state = "up"
    wait_for(lambda: stage.check() == ("passing", ""), "it to be well again")


def test_it_is_taken_out_when_it_ends(stage: Stage) -> None:
    one = stage.keep()
    wait_for(lambda: stage.id() == "one", "it to be there")
    one.stop()
    assert stage.id() == ""


def test_one_that_ends_does_not_take_its_successor_out(stage: Stage) -> None:
    before = stage.keep("before")
    wait_for(lambda: stage.id() == "before", "it to be there")
    stage.keep("after")
    wait_for(lambda: stage.id() == "after", "the other one to be there")
    before.stop()
    assert stage.id() == "after"


def test_an_entry_that_the_agent_lost_comes_back(stage: Stage) -> None:
    stage.keep()
    wait_for(lambda: stage.check()[0] == "passing", "it to be there")
    stage.ask(f"/v1/agent/service/deregister/{ENTRY}", "PUT")
    wait_for(lambda: stage.check()[0] == "passing", "it to be there again")


def test_the_catalogue_goes_on_when_its_token_was_replaced_and_the_old_one_deleted(
    tmp_path: Path, stage: Stage
) -> None:
    guarded = Guarded(tmp_path / "guarded")
    try:
        policy = guarded.policy("collector", 'service "collector" { policy = "write" }')
        file = tmp_path / "token"
        old, new = guarded.token(policy), guarded.token(policy)
        _replace(file, old)
        about = definition("eu", "collector", NAME, "one", "http://127.0.0.1:8010", "hitmesh")
        one = ConsulService(
            [Host("127.0.0.1", guarded.server.ports.http, None, Token(str(file)))], about, lambda: stage.why
        )
        running = gevent.spawn(one.run, lambda: "up")

        def catalogued() -> list[str]:
            found = guarded.ask("GET", "/v1/health/checks/collector")[1]
            return [check["Status"] for check in found]

        wait_for(lambda: catalogued() == ["passing"], "it to be well")
        _replace(file, new)
        before = one._stamp
        wait_for(lambda: one._stamp != before, "it to have registered by its new token")
        accessor = next(
            each["AccessorID"] for each in guarded.ask("GET", "/v1/acl/tokens")[1] if _is(guarded, each, old)
        )
        assert guarded.ask("DELETE", f"/v1/acl/token/{accessor}")[0] == 200
        stage.why = "the spool doesn't answer"
        wait_for(lambda: catalogued() == ["critical"], "the catalogue to be told")
        one.stop()
        running.join(PATIENCE_S)
    finally:
        guarded.server.stop()


def _replace(file: Path, token: str) -> None:
    new = file.with_suffix(".new")
    new.touch(0o600)
    new.write_text(token)
    new.replace(file)


def _is(guarded: Guarded, listed: dict[str, Any], token: str) -> bool:
    return bool(guarded.ask("GET", f"/v1/acl/token/{listed['AccessorID']}")[1]["SecretID"] == token)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=403, body=b"Permission denied"),
        Fault(cut=True),
        Fault(status=200, body=b"no JSON"),
    ],
)
def test_an_agent_that_fails_is_no_matter_of_the_role_s(
    stage: Stage, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    stage.proxy.inject(fault)
    stage.keep()
    wait_for(lambda: len(stage.proxy.requests) > 5, "some tries")
    assert stage.check() == ("", "")
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) <= 1
    stage.proxy.heal()
    wait_for(lambda: stage.check() == ("passing", ""), "it to be there when the agent is well")


def test_what_is_registered_names_no_key_and_is_taken_out_by_itself() -> None:
    about = definition("eu", "processor", "processor-1", "x", f"tcp://[::1]:8030/{'a' * 64}", "pages")
    assert (about["Address"], about["Port"], about["Name"]) == ("::1", 8030, "processor")
    assert about["Tags"][0] == "eu"
    assert "." not in about["Tags"][1]
    assert (about["Check"]["TTL"], about["Check"]["DeregisterCriticalServiceAfter"]) == ("15s", "1m")
    assert "a" * 64 not in json.dumps(about)


def test_without_consul_there_is_no_catalogue() -> None:
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}
    config = parse({"name": "eu", "nodes": {"local": node}}, source="test")
    assert ConsulService.of(config, role="collector", name=NAME, instance_id="x", endpoints={}) is None


@pytest.mark.parametrize(
    ("role", "endpoints", "where"),
    [
        (
            "recorder",
            {"records": f"tcp://127.0.0.1:8036/{'a' * 64}", "logs": "tcp://127.0.0.1:8037"},
            ("127.0.0.1", 8036),
        ),
        ("scaler", {"admin": "http://127.0.0.1:8040"}, ("127.0.0.1", 8040)),
        ("scaler", {}, ("", 0)),
    ],
)
def test_whoever_serves_nobody_is_in_the_catalogue_too(
    stage: Stage, role: str, endpoints: dict[str, str], where: tuple[str, int]
) -> None:
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}
    totals = f"consul://127.0.0.1:{stage.server.ports.http}/hitmesh"
    config = parse({"name": "eu", "nodes": {"local": node}, "stores": {"totals": totals}}, source="test")
    one = ConsulService.of(config, role=role, name=f"{role}-1", instance_id="x", endpoints=endpoints)
    assert one is not None
    gevent.spawn(one.run, lambda: "up")
    try:
        found: dict[str, Any] = {}
        with gevent.Timeout(PATIENCE_S):
            while not found:
                found = stage.ask("/v1/agent/services").get(f"hitmesh-eu-{role}-1", {})
                gevent.sleep(0.05)
        assert (found["Address"], found["Port"]) == where
    finally:
        one.stop()
