"""The gossip key of Consul's agents, on hosts and Consuls in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from hitmesh import config as settings
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.gossip import Gossip
from hitmesh.deploy.keys import Keys
from hitmesh.deploy.ssh import Ssh
from hitmesh.deploy.tokens import Tokens
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.fake_hosts import FakeSsh

ONE = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
OLD = "XG/83HiOWm4mG8M08MHG13uL5zuzAUDlDP5zemNFp2U="
GOSSIP = "consul/gossip.json"


class Place:
    """A datacenter's desk, and its Consul."""

    def __init__(self, folder: Path, dc: str = "dc", number: int = 0, *, hosts: int = 2, **consul: Any) -> None:
        self.told: list[str] = []
        stores = {
            name: f"consul://127.0.0.1:8500/{name}?token=/etc/hitmesh/keys/{dc}/{{role}}/consul.token"
            for name in ("totals", "settings")
        }
        data = {
            "name": dc, "keys": "keys", "ports": {"balancer_admin": 0},
            "deploy": {"ready_s": 2, "consul": {"gossip_key": "keys/gossip", **consul}},
            "nodes": {
                name: {"address": f"10.{number}.0.{last}", "consul_server": last == 1, **ONE}
                for name, last in (("a", 1), ("b", 2))[:hosts]
            },
            "stores": {**stores, "spools": [f"beanstalk://10.{number}.0.1:11300/hitmesh"]},
        }  # fmt: skip
        path = folder / f"{dc}.toml"
        path.write_text(settings.dump(settings.parse(data, source="test")))
        fleet = Fleet.of(settings.load(path))
        self.hosts = FakeSsh(fleet, "0.2.0-aaaa")
        self.hosts.programs = ["consul-1"]
        self.consul = self.hosts.consul
        self.desk = Desk(path, fleet, cast(Ssh, self.hosts), self.told.append)
        self.file = folder / "keys" / "gossip"

    def gossip(self, *others: Place) -> Gossip:
        return Gossip(self.desk, [other.desk for other in others])

    def runs_with(self, key: str = OLD) -> None:
        """All agents have this key, and it is here."""
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(f"{key}\n")
        self.file.chmod(0o600)
        self.consul.keys = [key]
        for secrets in self.hosts.secrets.values():
            secrets[GOSSIP] = json.dumps({"encrypt": key})

    def key(self) -> str:
        return self.file.read_text().strip()

    def on_hosts(self) -> set[str]:
        return {json.loads(secrets[GOSSIP])["encrypt"] for secrets in self.hosts.secrets.values()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("hitmesh.deploy.keys.SEEN_S", 0.0)
    return Place(tmp_path)


def joined(tmp_path: Path, **consul: Any) -> tuple[Place, Place]:
    """Two datacenters, of which one joins the other."""
    here, far = Place(tmp_path, "dc", 0, join_wan=["10.1.0.1"], **consul), Place(tmp_path, "far", 1, **consul)
    here.runs_with()
    far.runs_with()
    return here, far


def test_a_key_is_made_once_and_brought_to_every_host(place: Place) -> None:
    place.hosts.programs = []
    Keys(place.desk, []).make()
    key = place.key()
    assert place.file.stat().st_mode & 0o777 == 0o600
    Keys(place.desk, []).make()
    assert place.key() == key
    assert place.on_hosts() == {key}


def test_no_key_is_made_for_a_consul_that_runs_without_one(place: Place) -> None:
    with pytest.raises(CommandError, match="the Consul of a, b runs without one: none can be added to it"):
        Keys(place.desk, []).make()
    assert not place.file.exists()


def test_no_second_key_is_made_where_hosts_have_one(place: Place) -> None:
    place.runs_with()
    place.file.unlink()
    with pytest.raises(CommandError, match="a, b have one already: copy it from whoever made it"):
        Keys(place.desk, []).make()


def test_what_is_wrong_with_it_is_named(place: Place) -> None:
    place.runs_with("no key")
    place.file.chmod(0o644)
    assert place.gossip().lacking(place.desk.facts()) == [
        f"{place.file} holds no gossip key, as `consul keygen` prints one",
        f"{place.file}: others can read this secret: chmod 600",
    ]


def test_rotating_leaves_all_agents_with_the_new_key_alone(place: Place) -> None:
    place.runs_with()
    assert place.gossip().rotate()
    assert place.key() != OLD
    assert place.consul.keys == [place.key()]
    assert place.on_hosts() == {place.key()}
    assert [change.split()[0] for change in place.consul.changes] == ["POST", "PUT", "DELETE"]


@pytest.mark.parametrize("at", ["PUT", "DELETE"])
def test_a_rotation_that_broke_off_is_finished_by_the_same_command(place: Place, at: str) -> None:
    place.runs_with()

    def break_off(what: str) -> None:
        if what.startswith(at):
            raise CommandError("it broke off")

    place.consul.before_change = break_off
    with pytest.raises(CommandError, match="it broke off"):
        place.gossip().rotate()
    place.consul.before_change = lambda what: None
    assert place.gossip().rotate()
    assert place.consul.keys == [place.key()]


def test_nothing_is_changed_while_an_agent_is_away(place: Place) -> None:
    place.runs_with()
    place.consul.agents = 1
    assert not place.gossip().rotate()
    assert place.told == ["the gossip key stays as it is: 1 agents of dc hear each other, of 2"]
    place.hosts.programs = []
    assert not place.gossip().rotate()
    assert "a doesn't run, and would be left with the old one" in place.told[-1]
    assert place.consul.changes == []


def test_datacenters_that_are_joined_change_their_key_together(tmp_path: Path) -> None:
    here, far = joined(tmp_path)
    assert here.gossip(far).rotate()
    assert here.consul.keys == far.consul.keys == [here.key()]
    assert here.on_hosts() == far.on_hosts() == {here.key()}


def test_each_of_them_does_it_by_its_own_management_token(tmp_path: Path) -> None:
    here, far = joined(tmp_path, acl=True)
    for one, other in ((here, far), (far, here)):
        one.consul.joined = [other.consul]
        tokens = Tokens.of(one.desk, Path(one.desk.config.keys))
        assert tokens
        tokens.make()
    assert here.gossip(far).rotate()
    assert here.consul.keys == far.consul.keys == [here.key()]


def test_a_datacenter_that_is_joined_and_not_here_stops_it_with_the_commands(tmp_path: Path) -> None:
    here, far = joined(tmp_path)
    assert not here.gossip().rotate()
    assert "10.1.0.1 is joined over WAN" in here.told[0]
    assert "it is changed for all of them or for none" in here.told[0]
    assert "`consul keyring -install=$K`" in here.told[0]
    assert here.consul.changes == far.consul.changes == []


def test_two_keys_of_datacenters_that_are_joined_are_refused(tmp_path: Path) -> None:
    here, far = joined(tmp_path, gossip_key="gossip-here")
    (tmp_path / "gossip-here").write_text(OLD)
    text = far.desk.path.read_text().replace("gossip-here", "gossip-far")
    far.desk.path.write_text(text)
    far.desk.fleet = Fleet.of(settings.load(far.desk.path))
    (tmp_path / "gossip-far").write_text(OLD.replace("X", "Y", 1))
    with pytest.raises(CommandError, match="dc and far are joined over WAN, and have two gossip keys"):
        here.gossip(far).make({})
