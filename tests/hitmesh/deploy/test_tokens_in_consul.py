"""Tokens and the gossip key in a real Consul with ACLs, asked by the real host program; hosts' files are in a folder."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hitmesh.deploy.acl import Acl
from hitmesh.deploy.gossip import Gossip
from hitmesh.deploy.keys import Keys
from hitmesh.store.consul_access import Token
from hitmesh.store.consul_host import Host, NoAnswer
from tests.hitmesh.deploy.here import Here
from tests.hitmesh.deploy.test_gossip import OLD
from tests.hitmesh.deploy.test_gossip import Place as GossipPlace
from tests.hitmesh.deploy.test_tokens import ONE, ROLES, Place
from tests.services import PATIENCE_S, START_S, require, wait_for
from tests.services.consul import ConsulServer

KEYS = "etc/hitmesh/keys/dc"


class Stage(Place):
    """One host, whose secrets are files, and its Consul."""

    def __init__(self, folder: Path) -> None:
        require("consul")
        consul = {"consul": {"acl": True, "gossip_key": "keys/gossip"}, "ready_s": 2}
        super().__init__(
            folder, deploy=consul, nodes={"a": {"address": "10.0.0.1", "consul_server": True, **ONE}}
        )  # fmt: skip
        self.server = ConsulServer(folder / "consul", datacenter="dc", acl=True, is_bootstrapped=False, gossip_key=OLD)
        self.server.start()
        self.root = folder / "root"
        self.here = Here(self.root, "dc")
        (self.root / "etc/hitmesh").mkdir(parents=True)
        (self.root / "etc/hitmesh/consul.json").write_text(json.dumps({"ports": {"http": self.server.ports.http}}))
        (folder / "keys").mkdir()
        (folder / "keys/gossip").write_text(OLD)
        (folder / "keys/gossip").chmod(0o600)
        self.hosts.programs = ["consul-1"]
        self.waits = 0  # of a change, for all to have looked
        self.hosts._consul = lambda _host, _words, stdin: self.here.ask("consul", stdin=stdin)  # type: ignore[assignment,method-assign]
        self.hosts._secret = self._as_a_file  # type: ignore[method-assign]

    def _as_a_file(self, host: Any, words: list[str], stdin: bytes) -> dict[str, list[str]]:
        self.hosts.secrets[host.name]["/".join(words)] = stdin.decode()
        changed: dict[str, list[str]] = self.here.ask("secret", *words, stdin=stdin)
        return changed

    def agent(self, role: str = "", file: Path | None = None) -> Host:
        """As a role sees it, or whoever has a token in a file."""
        path = file or self.root / KEYS / role / "consul.token"
        return Host("127.0.0.1", self.server.ports.http, None, Token(str(path)))

    def managed(self, path: str) -> Any:
        return json.loads(self.agent(file=self.management).request("GET", path, timeout_s=PATIENCE_S)[1])

    def accessors(self) -> dict[str, str]:
        return {one["AccessorID"]: one["Description"] for one in self.managed("/v1/acl/tokens")}

    @contextlib.contextmanager
    def asked_all_the_time(self) -> Iterator[list[str]]:
        """Every role asks for what it may read, again and again; why each was refused. A change's waits are for that."""
        failures: list[str] = []
        asked = dict.fromkeys(ROLES, 0)
        stop = threading.Event()

        def ask(role: str) -> None:
            while not stop.is_set():
                try:
                    self.agent(role).request("GET", "/v1/kv/live/x", timeout_s=PATIENCE_S, also=(404,))
                    asked[role] += 1
                except NoAnswer as error:
                    failures.append(f"{role}: {error}")

        def have_seen(_s: float) -> None:
            self.waits += 1
            before = {role: asked[role] + 1 for role in ROLES}  # one may be on its way, with what was
            wait_for(lambda: all(asked[role] > before[role] for role in ROLES), what="all roles to have looked anew")

        threads = [threading.Thread(target=ask, args=[role]) for role in ROLES]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: all(asked.values()), within_s=START_S, what="all roles to have asked")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("hitmesh.deploy.keys.time", SimpleNamespace(sleep=have_seen))
                yield failures
            before = dict(asked)
            wait_for(lambda: all(asked[role] > before[role] for role in ROLES), what="all roles to ask on")
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    one = Stage(tmp_path_factory.mktemp("stage"))
    try:
        Keys(one.desk, []).make()
        yield one
    finally:
        one.server.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hitmesh.deploy.keys.SEEN_S", 0.0)


def test_the_acls_are_bootstrapped_and_each_role_has_a_token(stage: Stage) -> None:
    for role in ROLES:
        mine = json.loads(stage.agent(role).request("GET", "/v1/acl/token/self", timeout_s=PATIENCE_S)[1])
        assert [policy["Name"] for policy in mine["Policies"]] == [f"hitmesh-{role}"]
        assert stage.agent(role).request("GET", "/v1/kv/live/x", timeout_s=PATIENCE_S, also=(404,))[0] == 404
    wait_for(lambda: stage.managed("/v1/catalog/nodes"), what="the agent to register its node with its token")


def test_a_second_time_nothing_is_changed(stage: Stage) -> None:
    before, stage.told[:] = stage.accessors(), []
    Keys(stage.desk, []).make()
    assert stage.accessors() == before
    assert stage.told == []
    assert Keys(stage.desk, []).lacking(stage.desk.facts()) == []


def test_rotating_refuses_nobody_and_leaves_no_old_token(stage: Stage, tmp_path: Path) -> None:
    before = stage.accessors()
    old = tmp_path / "old"
    old.write_text(stage.secret("collector"))
    old.chmod(0o600)
    stage.waits = 0
    with stage.asked_all_the_time() as failures:
        Keys(stage.desk, []).rotate(lambda: None)
    assert failures == []
    assert stage.waits == 2  # once for the list, once before old tokens are deleted
    after = stage.accessors()
    assert sorted(name for name in after.values() if name.startswith("hitmesh dc ")) == sorted(
        f"hitmesh dc {who}" for who in (*ROLES, "agent")
    )
    kept = [before[id_] for id_ in before.keys() & after.keys()]
    assert sorted(kept) == ["Anonymous Token", "Bootstrap Token (Global Management)"]
    with pytest.raises(NoAnswer, match="ACL not found"):
        stage.agent(file=old).request("GET", "/v1/kv/live/x", timeout_s=PATIENCE_S)


def test_a_revoked_token_is_refused_and_its_role_is_not(stage: Stage, tmp_path: Path) -> None:
    stolen = tmp_path / "stolen"
    stolen.write_text(stage.secret("nexus"))
    stolen.chmod(0o600)
    stage.waits = 0
    with stage.asked_all_the_time() as failures:
        Keys(stage.desk, []).revoke("dc/nexus/consul.token")
    assert (failures, stage.waits) == ([], 1)
    with pytest.raises(NoAnswer, match="ACL not found"):
        stage.agent(file=stolen).request("GET", "/v1/kv/live/x", timeout_s=PATIENCE_S)


def test_the_gossip_key_is_another_one_on_the_agent_and_the_old_one_is_forgotten(stage: Stage) -> None:
    assert Gossip(stage.desk, []).rotate(), stage.told
    key = (stage.folder.parent / "gossip").read_text().strip()
    assert key != OLD
    for ring in stage.managed("/v1/operator/keyring"):  # LAN and WAN
        assert (ring["Keys"], ring["PrimaryKeys"]) == ({key: 1}, {key: 1})


def test_acls_that_somebody_else_bootstrapped_are_not_ours(stage: Stage) -> None:
    away = stage.management.with_name("away")
    stage.management.rename(away)
    (stage.folder / "nexus/consul.token").rename(stage.folder / "nexus/.away")
    try:
        with pytest.raises(Exception, match="were bootstrapped by somebody else"):
            Keys(stage.desk, []).make()
    finally:
        away.rename(stage.management)
        (stage.folder / "nexus/.away").rename(stage.folder / "nexus/consul.token")


def test_no_secret_is_in_what_consul_logs_or_anybody_is_told(stage: Stage) -> None:
    said = "\n".join([*stage.told, stage.server.log(), *stage.hosts.calls])
    secrets = [path.read_text().strip() for path in stage.folder.rglob("consul.token")]
    assert len(secrets) == len(ROLES) + 1
    assert not any(secret in said for secret in secrets)


class Joined:
    """One server of a datacenter with ACLs of its own, which may join another over WAN; asked by the host program."""

    def __init__(self, folder: Path, dc: str, number: int, joins: Joined | None = None) -> None:
        wan = {"join_wan": [joins.place.desk.config.nodes["a"].address]} if joins else {}
        self.place: GossipPlace = GossipPlace(folder, dc, number, hosts=1, acl=True, **wan)
        self.server: ConsulServer = ConsulServer(
            folder / dc, datacenter=dc, acl=True, is_bootstrapped=False, gossip_key=OLD,
            join_wan=[joins.server.ports.serf_wan] if joins else (),
        )  # fmt: skip
        self.server.start()
        here = Here(folder / f"root-{dc}", dc)
        (here.root / "etc/hitmesh").mkdir(parents=True)
        (here.root / "etc/hitmesh/consul.json").write_text(json.dumps({"ports": {"http": self.server.ports.http}}))
        self.place.hosts._consul = lambda _host, _words, stdin: here.ask("consul", stdin=stdin)  # type: ignore[assignment,method-assign]
        self.place.runs_with()
        self.acl = Acl(self.place.desk)
        self.acl.manage()

    def rings(self) -> list[Any]:
        """The keys that its agents understand, and those that they speak with."""
        host = Host("127.0.0.1", self.server.ports.http, None, Token(str(self.acl.management)))
        path = "/v1/operator/keyring?local-only=true"
        return [
            (ring["Keys"], ring["PrimaryKeys"])
            for ring in json.loads(host.request("GET", path, timeout_s=PATIENCE_S)[1])
        ]

    def members(self) -> int:
        """How many servers it is joined with over WAN, itself among them."""
        host = Host("127.0.0.1", self.server.ports.http, None, Token(str(self.acl.management)))
        return len(json.loads(host.request("GET", "/v1/agent/members?wan=1", timeout_s=PATIENCE_S)[1]))


def test_datacenters_joined_over_wan_with_acls_of_their_own_change_their_gossip_key_together(tmp_path: Path) -> None:
    require("consul")
    servers = []
    try:
        here = Joined(tmp_path, "dc", 0)
        servers.append(here.server)
        far = Joined(tmp_path, "far", 1, joins=here)
        servers.append(far.server)
        wait_for(lambda: here.members() == far.members() == 2, within_s=START_S, what="them to be joined")
        assert here.place.gossip(far.place).rotate(), here.place.told
        key = here.place.key()
        assert key != OLD
        assert here.rings() == far.rings() == [({key: 1}, {key: 1})]
        # What is understood by the servers that are joined: one with another key would be given up.
        for one in (here, far):
            keys = json.loads((one.server.folder / "data/serf/remote.keyring").read_text())
            assert keys == [key]
    finally:
        for server in servers:
            server.stop()
