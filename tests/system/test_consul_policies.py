"""A mesh on a Consul that denies by default: each role works with its policy of docs/consul, and can do no more."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.settings.consul import ConsulSettings
from hitmesh.store import Done, Row, Unknown, Write
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.consul_host import NoAnswer
from hitmesh.store.urls import consul_place
from nexus.catalogue import _request
from nexus.entries import SERVICE
from tests.balancer.certificates import client_context
from tests.hitmesh.store.patience import PATIENT
from tests.services import START_S, require, wait_for
from tests.services.guarded_consul import AccessFiles, Guarded
from tests.system.mesh import Mesh

POLICIES: Final = Path(__file__).parents[2] / "docs" / "consul"
ROLES: Final = ("collector", "processor", "nexus", "balancer", "dashboard", "recorder", "scaler", "operator")
PAGE: Final = "example.com/a"
FREE: Final = 99  # a partition of nobody's


class Stage:
    """The server, and a token of each role in a file of its own, made as the documents say."""

    def __init__(self, folder: Path) -> None:
        self.files = AccessFiles(folder)
        self.guarded = Guarded(folder / "consul", self.files.tls)
        self.tokens = {role: self._token(role) for role in ROLES}

    def url(self, prefix: str) -> str:
        files = f"ca={self.files.tls.ca}&cert={self.files.client}&token={self.files.folder}/{{role}}.token"
        return f"consul+https://127.0.0.1:{self.guarded.server.ports.http}/{prefix}?{files}"

    def totals(self, role: str) -> ConsulTotals:
        return ConsulTotals(*consul_place("stores.totals", self.url("hitmesh"), role), timeouts=PATIENT)

    def settings(self, role: str) -> ConsulSettings:
        return ConsulSettings(*consul_place("stores.settings", self.url("hitmesh-settings"), role), timeouts=PATIENT)

    def ask(self, role: str, method: str, path: str, body: bytes = b"") -> None:
        _request(consul_place("stores.totals", self.url("hitmesh"), role)[0][0], method, path, body)

    def healthy(self, role: str) -> list[str]:
        """The instances of a role that Consul calls well."""
        found = self.guarded.ask("GET", f"/v1/health/service/{role}?passing")[1]
        return [entry["Service"]["Meta"]["name"] for entry in found]

    def _token(self, role: str) -> str:
        self._consul("acl", "policy", "create", "-name", f"hitmesh-{role}", "-rules", f"@{POLICIES / role}.hcl")
        made = self._consul("acl", "token", "create", "-policy-name", f"hitmesh-{role}", "-format", "json")
        token = str(json.loads(made)["SecretID"])
        self.files.secret(f"{role}.token", token)
        return token

    def _consul(self, *arguments: str) -> bytes:
        """Consul's own program, for whoever may do all."""
        shown = {
            "CONSUL_HTTP_ADDR": f"https://127.0.0.1:{self.guarded.server.ports.http}",
            "CONSUL_CACERT": str(self.files.tls.ca),
            "CONSUL_CLIENT_CERT": str(self.files.client),
            "CONSUL_CLIENT_KEY": str(self.files.client),
            "CONSUL_HTTP_TOKEN_FILE": str(self.files.token),
        }
        command = [require("consul"), *arguments]
        return subprocess.run(
            command, env={**os.environ, **shown}, check=True, capture_output=True, timeout=START_S
        ).stdout


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    one = Stage(tmp_path_factory.mktemp("stage"))
    yield one
    one.guarded.server.stop()


@pytest.fixture(scope="module")
def mesh(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One of each role, and a hit that is counted."""
    folder = tmp_path_factory.mktemp("mesh")
    tls = {"certificates": [str(stage.files.server)], "admin": True}
    totals, settings = stage.url("hitmesh"), stage.url("hitmesh-settings")
    with Mesh(folder, totals=totals, settings=settings, balancer={"tls": tls}) as one:
        one.start("balancer-1")
        (folder / one.config.name / "hitmesh.toml").write_text(one.file.read_text())  # where commands look
        assert one.hit(PAGE).status == 200
        wait_for(lambda: one.totals() == {PAGE: 1}, what="the hit to be counted")
        yield one


def admin(stage: Stage, mesh: Mesh, method: str, path: str, body: str | None = None) -> int:
    """The answer of the balancer's admin listener, which speaks TLS."""
    [balancer] = [one.instance for one in mesh.living() if one.instance.role == "balancer"]
    scheme, _, place = balancer.endpoints["admin"].partition("://")
    assert scheme == "https"
    connection = http.client.HTTPSConnection(place, timeout=START_S, context=client_context(stage.files.server))
    with contextlib.closing(connection):
        connection.request(method, path, body)
        return connection.getresponse().status


def command(mesh: Mesh, *arguments: str) -> str:
    """What a command says that succeeds."""
    line = [sys.executable, "-m", "hitmesh", *arguments, "--state-dir", str(mesh.folder)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_mesh_counts_and_is_changed_and_found(stage: Stage, mesh: Mesh) -> None:
    assert admin(stage, mesh, "PUT", "/routes/a.example", '{"action": "empty"}') == 200
    assert admin(stage, mesh, "DELETE", "/routes/a.example") in (200, 204)
    assert "1" in command(mesh, "total", PAGE)
    command(mesh, "audit")
    command(mesh, "config", "set", "timing.commit_s", "0.1")
    command(mesh, "datacenter", "list")

    def registered() -> list[str]:
        return [entry["ServiceID"] for entry in stage.guarded.ask("GET", f"/v1/catalog/service/{SERVICE}")[1]]

    wait_for(lambda: registered() == [f"{SERVICE}-{mesh.config.name}-nexus-1"], what="the Nexus to be in the catalogue")
    for role in ("collector", "processor", "nexus", "balancer"):
        wait_for(lambda role=role: stage.healthy(role) == [f"{role}-1"], what=f"the {role} to be found, and well")  # type: ignore[misc]
    wait_for(lambda: f"catalogue names {mesh.config.name}" in mesh.log("nexus-1"), what="it to find itself")
    for name in (*mesh.names, "balancer-1"):
        assert "Permission denied" not in mesh.log(name), mesh.log(name)


def test_a_token_is_in_no_log_argument_environment_nor_heartbeat(stage: Stage, mesh: Mesh) -> None:
    shown = [mesh.log(name) for name in (*mesh.names, "balancer-1")]
    shown += [repr(mesh.living()), command(mesh, "config", "list"), mesh.file.read_text()]
    for one in mesh.living():
        shown += [Path(f"/proc/{one.instance.pid}/{what}").read_text() for what in ("cmdline", "environ")]
    for token in stage.tokens.values():
        assert not any(token in text for text in shown)


def write(stage: Stage, role: str) -> None:
    (outcome,) = stage.totals(role).write([Write(FREE, 0, b"head", [Row("a/b", "eu", 1, 1)])])
    assert isinstance(outcome, Done | Unknown)
    if isinstance(outcome, Unknown):
        raise NoAnswer(outcome.reason)


def register(stage: Stage, role: str) -> None:
    entry = {"ID": f"{SERVICE}-eu-nexus-9", "Name": SERVICE, "Address": "127.0.0.1", "Port": 1}
    stage.ask(role, "PUT", "/v1/agent/service/register", json.dumps(entry).encode())


def register_itself(stage: Stage, role: str) -> None:
    entry = {"ID": f"test-{role}", "Name": role, "Address": "127.0.0.1", "Port": 1}
    stage.ask(role, "PUT", "/v1/agent/service/register", json.dumps(entry).encode())
    stage.ask(role, "PUT", f"/v1/agent/service/deregister/test-{role}")


DEEDS: Final[dict[str, Callable[[Stage, str], object]]] = {
    "read totals": lambda stage, role: stage.totals(role).load(FREE),
    "write totals": write,
    "read settings": lambda stage, role: stage.settings(role).list(),
    "set a route": lambda stage, role: stage.settings(role).set("routes/b.example", b"{}", author=role),
    "set anything": lambda stage, role: stage.settings(role).set("timing/x", b"1", author=role),
    "remember alerts": lambda stage, role: stage.settings(role).set("deploys/alerts/x/memory", b"{}", author=role),
    "say how many are wanted": lambda stage, role: stage.settings(role).set("deploys/scaler/x", b"{}", author=role),
    "register itself": register_itself,
    "register a Nexus": register,
    "register another service": lambda stage, role: stage.ask(
        role, "PUT", "/v1/agent/service/register", b'{"Name": "other"}'
    ),
    "write elsewhere": lambda stage, role: stage.ask(role, "PUT", "/v1/kv/other", b"1"),
    "write beside the rows": lambda stage, role: stage.ask(role, "PUT", "/v1/kv/hitmesh/other", b"1"),
    "read tokens": lambda stage, role: stage.ask(role, "GET", "/v1/acl/tokens"),
}
MAY: Final = {
    "collector": {"read totals", "read settings", "register itself"},
    "processor": {"read totals", "write totals", "read settings", "register itself"},
    "nexus": {"read settings", "set a route", "set anything", "remember alerts", "say how many are wanted"}
    | {"register a Nexus", "register itself"},
    "balancer": {"read settings", "set a route", "register itself"},
    "dashboard": {"read totals", "read settings", "remember alerts", "register itself"},
    "recorder": {"read settings", "register itself"},
    "scaler": {"read settings", "say how many are wanted", "register itself"},
    "operator": {"read totals", "read settings", "set a route", "set anything", "remember alerts"}
    | {"say how many are wanted"},
}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_is_its_own_and_nothing_else(stage: Stage, role: str) -> None:
    assert {what for what, do in DEEDS.items() if _allowed(lambda do=do: do(stage, role))} == MAY[role]  # type: ignore[misc]


def _allowed(do: Callable[[], object]) -> bool:
    try:
        do()
    except (NoAnswer, StoreUnknown) as refused:
        if "Permission denied" not in str(refused):
            raise
        return False
    return True
