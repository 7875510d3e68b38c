"""Consul's ACL tokens, on hosts and a Consul in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from hitmesh import config as settings
from hitmesh.cli.folder import replace_text
from hitmesh.deploy import deploying, tasks
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.facts import Release
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.keys import Keys
from hitmesh.deploy.release import Built
from hitmesh.deploy.render import consul
from hitmesh.deploy.ssh import Ssh
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.fake_hosts import FakeSsh

ONE = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1, "dashboard": 1, "recorder": 1, "scaler": 1}
TOKEN = "token=/etc/hitmesh/keys/dc/{role}/consul.token"
DATA: dict[str, Any] = {
    "name": "dc", "keys": "keys", "ports": {"balancer_admin": 0}, "dashboard": {"open": True}, "deploy": {"ready_s": 2, "consul": {"acl": True}},
    "nodes": {"a": {"address": "10.0.0.1", "consul_server": True, **ONE}, "b": {"address": "10.0.0.2", **ONE}},
    "stores": {
        "totals": f"consul://127.0.0.1:8500/counts/all?{TOKEN}", "settings": f"consul://127.0.0.1:8500/live?{TOKEN}",
        "spools": ["beanstalk://10.0.0.1:11300/hitmesh"],
    },
}  # fmt: skip
ROLES = ("balancer", "collector", "dashboard", "nexus", "operator", "processor", "recorder", "scaler")


class Place:
    """An operator's folder, and a datacenter whose Consul has ACLs."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.told: list[str] = []
        path = folder / "dc.toml"
        path.write_text(settings.dump(settings.parse({**DATA, **more}, source="test")))
        fleet = Fleet.of(settings.load(path))
        self.hosts = FakeSsh(fleet, "0.2.0-aaaa", settings=folder / "memory.db")
        self.consul = self.hosts.consul
        self.desk = Desk(path, fleet, cast(Ssh, self.hosts), self.told.append)
        self.folder = folder / "keys" / "dc"
        self.management = self.folder / "management" / "consul.token"

    def keys(self) -> Keys:
        return Keys(self.desk, [])

    def secret(self, role: str) -> str:
        return self.hosts.secrets["a"][f"{role}/consul.token"].strip()

    def all_secrets(self) -> list[str]:
        return [text for host in self.hosts.secrets.values() for text in host.values()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("hitmesh.deploy.keys.SEEN_S", 0.0)
    monkeypatch.setattr("hitmesh.deploy.tokens.POLL_S", 0.01)
    return Place(tmp_path)


def test_each_role_is_given_a_token_of_its_own_policy_and_so_are_agents(place: Place) -> None:
    place.keys().make()
    assert place.consul.names() == [f"hitmesh-{who}" for who in sorted((*ROLES, "agent"))]
    assert len({place.secret(role) for role in ROLES}) == len(ROLES)
    for role in ROLES:
        [policy] = place.consul.tokens[place.secret(role)]["Policies"]
        assert policy["Name"] == f"hitmesh-{role}"
    for host in ("a", "b"):
        agent = json.loads(place.hosts.secrets[host]["consul/agent.json"])["acl"]["tokens"]["agent"]
        assert place.consul.agent_tokens[host] == agent
        assert place.consul.tokens[agent]["Policies"] == [{"Name": "hitmesh-agent"}]


def test_policies_have_the_prefixes_of_the_datacenters_urls(place: Place) -> None:
    place.keys().make()
    rules = place.consul.rules("hitmesh-processor")
    assert 'key_prefix "counts/all/heads/"' in rules
    assert 'key_prefix "live/"' in rules
    assert '"hitmesh' not in rules
    assert 'service "hitmesh-nexus"' in place.consul.rules("hitmesh-nexus")


def test_the_management_token_stays_on_the_operators_machine_and_is_its_own_alone(place: Place) -> None:
    place.keys().make()
    assert place.management.read_text().strip() == place.consul.management
    assert place.management.stat().st_mode & 0o777 == 0o600
    assert not any(place.consul.management in text for text in place.all_secrets())
    secrets = place.consul.tokens
    assert not any(secret in text for secret in secrets for text in [*place.told, *place.hosts.calls])


def test_a_second_time_nothing_is_changed(place: Place) -> None:
    place.keys().make()
    secrets, changes = place.all_secrets(), len(place.consul.changes)
    place.told.clear()
    place.keys().make()
    assert place.all_secrets() == secrets
    assert len(place.consul.changes) == changes
    assert place.told == []
    assert place.keys().lacking(place.desk.facts()) == []


def test_a_consul_that_somebody_else_bootstrapped_wants_its_management_token(place: Place) -> None:
    place.consul.bootstrapped_by_others = True
    with pytest.raises(CommandError) as caught:
        place.keys().make()
    assert "the ACLs of dc's Consul were bootstrapped by somebody else" in str(caught.value)
    assert f"put its management token into {place.management}, mode 600" in str(caught.value)
    place.consul.management = "11111111-2222-3333-4444-555555555555"
    place.consul.tokens[place.consul.management] = {"AccessorID": "x"}
    place.management.write_text(place.consul.management)
    place.management.chmod(0o644)
    with pytest.raises(Exception, match="others can read this secret"):
        place.keys().make()
    place.management.chmod(0o600)
    place.keys().make()
    assert len(place.consul.names()) == len(ROLES) + 1


def test_tokens_that_somebody_has_made_by_hand_stay_as_they_are(place: Place) -> None:
    place.keys().make()
    place.management.unlink()
    before = place.all_secrets()
    place.keys().make()
    assert place.all_secrets() == before


def test_a_token_that_consul_has_forgotten_never_comes_back(place: Place) -> None:
    place.keys().make()
    stolen = place.secret("collector")
    del place.consul.tokens[stolen]
    assert "the ACL token of collector is unknown to Consul" in place.keys().lacking(place.desk.facts())
    place.keys().make()
    assert place.secret("collector") != stolen
    assert stolen not in place.consul.tokens


def test_a_policy_that_is_not_as_it_is_here_is_written_again(place: Place) -> None:
    place.keys().make()
    id_ = next(id_ for id_, one in place.consul.policies.items() if one["Name"] == "hitmesh-nexus")
    place.consul.policies[id_]["Rules"] = ""
    assert place.keys().lacking(place.desk.facts()) == ["the policy hitmesh-nexus isn't as docs/consul has it"]
    place.keys().make()
    assert 'service "hitmesh-nexus"' in place.consul.rules("hitmesh-nexus")


@pytest.mark.parametrize("at", ["PUT /v1/acl/policy", "PUT /v1/acl/token", "PUT /v1/agent/token/agent"])
def test_what_broke_off_is_finished_by_the_same_command(place: Place, at: str) -> None:
    left = [3]

    def break_off(what: str) -> None:
        left[0] -= what.startswith(at)
        if not left[0]:
            raise CommandError("it broke off")

    left[0] = 2
    place.consul.before_change = break_off
    with pytest.raises(CommandError, match="it broke off"):
        place.keys().make()
    place.consul.before_change = lambda what: None
    place.keys().make()
    assert len(place.consul.names()) == len(ROLES) + 1
    assert sorted(place.consul.agent_tokens) == ["a", "b"]
    assert place.keys().lacking(place.desk.facts()) == []


def test_rotating_deletes_the_old_tokens_when_all_have_been_restarted_with_the_new_ones(place: Place) -> None:
    place.keys().make()
    before = {role: place.secret(role) for role in ROLES}
    known: list[bool] = []

    def look(call: str) -> None:
        if " restart " in call:
            role = call.split()[2].rpartition("-")[0]
            known.append(before[role] in place.consul.tokens and place.secret(role) in place.consul.tokens)
            known.append(place.secret(role) != before[role])

    place.hosts.before_call = look
    place.keys().rotate(lambda: None)
    assert known == [True] * 2 * 2 * len(ONE)
    assert not set(before.values()) & set(place.consul.tokens)
    assert len(place.consul.names()) == len(ROLES) + 1
    assert f"dc: {len(ROLES) + 1} new ACL tokens, {len(ROLES) + 1} old ones deleted" in place.told
    assert [path.name for path in place.folder.rglob(".consul.token*")] == []


def test_a_rotation_that_broke_off_makes_no_third_token(place: Place) -> None:
    place.keys().make()
    place.hosts.vanish("b", "b restart")
    with pytest.raises(CommandError):
        place.keys().rotate(lambda: None)
    assert len(place.consul.names()) == 2 * (len(ROLES) + 1)
    place.hosts.before_call = lambda call: None
    tasks.check(place.desk)
    assert any("broke off: fab keys:dc=dc,rotate=1 finishes it" in line for line in place.told)
    place.keys().rotate(lambda: None)
    assert place.keys().unfinished() == ""
    assert len(place.consul.names()) == len(ROLES) + 1
    assert place.secret("nexus") in place.consul.tokens


def test_a_rotation_that_broke_off_between_two_files_deletes_no_token_in_use(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.keys().make()

    def write_and_break_off(path: Path, text: str) -> None:
        replace_text(path, text)
        if path.name.endswith(".former"):
            raise CommandError("it broke off")

    with monkeypatch.context() as patched:
        patched.setattr("hitmesh.deploy.tokens.replace_text", write_and_break_off)
        with pytest.raises(CommandError, match="it broke off"):
            place.keys().rotate(lambda: None)
    place.keys().rotate(lambda: None)
    assert all(place.secret(role) in place.consul.tokens for role in ROLES)
    assert len(place.consul.names()) == len(ROLES) + 1


def test_a_revoked_token_is_good_for_nothing_and_its_role_has_another(place: Place) -> None:
    place.keys().make()
    before = {role: place.secret(role) for role in ROLES}
    tasks.keys(place.desk, [], revoke="dc/collector/consul.token")
    assert before["collector"] not in place.consul.tokens
    assert place.secret("collector") in place.consul.tokens
    assert [role for role in ROLES if place.secret(role) != before[role]] == ["collector"]
    assert not any(" restart " in call for call in place.hosts.calls)


def test_a_revoked_token_is_gone_also_while_a_host_does_not_answer(place: Place) -> None:
    place.keys().make()
    before = place.secret("collector")
    place.hosts.vanish("b", "b ")
    with pytest.raises(CommandError, match=r"not everybody has the new one: b: it can't be reached \(fab keys:dc=dc"):
        tasks.keys(place.desk, [], revoke="dc/collector/consul.token")
    assert before not in place.consul.tokens
    assert place.secret("collector") != before


def test_what_is_missing_or_not_its_users_alone_is_named_by_check(place: Place) -> None:
    tasks.check(place.desk)
    assert "keys: collector has no ACL token" in place.told
    place.keys().make()
    place.told.clear()
    del place.hosts.secrets["b"]["consul/agent.json"]
    place.hosts.loose = ["/etc/hitmesh/keys/dc/nexus/consul.token"]
    tasks.check(place.desk)
    assert "keys: b: consul/agent.json isn't there" in place.told
    assert "keys: a: nexus/consul.token isn't its user's alone" in place.told
    (place.folder / "nexus/consul.token").chmod(0o644)
    with pytest.raises(CommandError, match=r"nexus/consul\.token: others can read this secret"):
        tasks.check(place.desk)


def test_the_first_deploy_brings_tokens_before_it_takes_the_lock_which_is_in_consul(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = Release(id="0.2.0-bbbb", version="0.2.0", python="3.11", platform="linux_x86_64", wheels={})
    monkeypatch.setattr(deploying, "build", lambda checkout, folder: Built(release, Path("/dev/null")))
    had: list[bool] = []

    def look(call: str) -> None:
        if " memory " in call:
            had.append(all("operator/consul.token" in secrets for secrets in place.hosts.secrets.values()))

    place.hosts.before_call = look
    deploying.deploy(place.desk, tmp_path, tmp_path, bake_s=0.0)
    assert had
    assert all(had)
    assert set(place.hosts.current.values()) == {"0.2.0-bbbb"}


def test_the_agents_token_has_a_file_from_the_first_start_on(place: Place) -> None:
    [program] = [file for file in consul.files(place.desk.fleet, place.desk.fleet.hosts[0]) if "consul-1" in file.path]
    assert "-config-file=/etc/hitmesh/keys/dc/consul/agent.json" in program.text
    assert consul.agent_token(consul.agent_text("x")) == "x"


def test_a_consul_without_acls_is_told_what_to_do(place: Place) -> None:
    place.consul.has_no_acls = True
    with pytest.raises(CommandError, match=r"runs without ACLs .*restart consul-1 on each host, one at a time"):
        place.keys().make()


def test_a_url_without_a_token_is_told_what_to_write(tmp_path: Path) -> None:
    stores = {**DATA["stores"], "totals": "consul://127.0.0.1:8500/hitmesh"}
    with pytest.raises(CommandError, match=r"\?token=/etc/hitmesh/keys/dc/\{role\}/consul.token at its end"):
        Place(tmp_path, stores=stores).keys()


def test_tokens_in_files_of_ones_own_are_nobody_elses(tmp_path: Path) -> None:
    stores = {name: str(url).replace("/keys/dc", "") for name, url in DATA["stores"].items() if name != "spools"}
    place = Place(tmp_path, stores=stores | {"spools": DATA["stores"]["spools"]})
    place.keys().make()
    assert place.consul.changes == []
