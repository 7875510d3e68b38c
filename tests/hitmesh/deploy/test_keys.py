from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from hitmesh import config as settings
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.keys import Keys
from hitmesh.deploy.ssh import Ssh, Unreachable
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.fake_hosts import FakeSsh

ONE = {"nexus": 1, "processor": 1, "collector": 1, "balancer": 1}
DATA: dict[str, Any] = {
    "name": "dc", "keys": "keys", "ports": {"balancer_admin": 0}, "deploy": {"ready_s": 2},
    "nodes": {"a": {"address": "10.0.0.1", **ONE}, "b": {"address": "10.0.0.2", **ONE}},
}  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("hitmesh.deploy.keys.SEEN_S", 0.0)
    path = tmp_path / "dc.toml"
    path.write_text(settings.dump(settings.parse(DATA, source="test")))
    fleet = Fleet.of(settings.load(path))
    return Desk(path, fleet, cast(Ssh, FakeSsh(fleet, "0.2.0-aaaa")), lambda line: None)


def hosts(desk: Desk) -> FakeSsh:
    return cast(FakeSsh, desk.ssh)


def test_a_host_gets_the_list_the_keys_of_its_own_instances_and_the_operators_alone(desk: Desk) -> None:
    Keys(desk, []).make()
    assert sorted(hosts(desk).secrets["a"]) == [
        "balancer/balancer-1", "collector/collector-1", "nexus/nexus-1", "operator/operator", "processor/processor-1",
    ]  # fmt: skip
    assert [name for name in hosts(desk).secrets["b"] if name.endswith("-1")] == []
    lists = {files["/etc/hitmesh/keys/allowed"] for files in hosts(desk).files.values()}
    assert len(lists) == 1
    assert len([line for line in lists.pop().splitlines() if not line.startswith("#")]) == 9


def test_what_else_is_in_a_roles_folder_goes_to_whoever_runs_it_but_no_key_of_an_instance_elsewhere(desk: Desk) -> None:
    folder = Path(desk.config.keys) / "dc" / "balancer"
    folder.mkdir(parents=True)
    (folder / "site.pem").write_text("a certificate")
    (folder / "balancer-9").write_text("of one that is gone")
    Keys(desk, []).make()
    assert hosts(desk).secrets["b"]["balancer/site.pem"] == "a certificate"
    assert "balancer/balancer-9" not in hosts(desk).secrets["b"]


def test_rotating_leaves_both_keys_on_the_list_until_all_are_restarted_with_the_new_one(desk: Desk) -> None:
    keys, ssh = Keys(desk, []), hosts(desk)
    keys.make()
    before = dict(ssh.secrets["a"])
    sizes = []
    ssh.before_call = lambda call: sizes.append(len(lines(ssh))) if " restart " in call else None
    keys.rotate(lambda: None)
    assert sizes == [2 * 9] * 8
    assert len(lines(ssh)) == 9
    assert all(ssh.secrets["a"][name] != text for name, text in before.items())


def lines(ssh: FakeSsh) -> list[str]:
    return [line for line in ssh.files["b"]["/etc/hitmesh/keys/allowed"].splitlines() if not line.startswith("#")]


def test_a_revoked_key_is_on_no_hosts_list(desk: Desk) -> None:
    keys = Keys(desk, [])
    keys.make()
    keys.revoke("dc/collector/collector-2")
    assert not any("collector-2" in files["/etc/hitmesh/keys/allowed"] for files in hosts(desk).files.values())
    with pytest.raises(CommandError, match="has no key"):
        keys.revoke("dc/collector/collector-2")


def test_a_list_that_could_not_be_brought_everywhere_is_said(desk: Desk) -> None:
    hosts(desk).vanish("b", "b ")
    with pytest.raises(CommandError, match="the list isn't everywhere: b: it can't be reached"):
        Keys(desk, []).make()


def test_no_key_is_made_while_no_host_answers(desk: Desk) -> None:
    def away(call: str) -> None:
        raise Unreachable(f"{call.partition(' ')[0]}: it can't be reached")

    hosts(desk).before_call = away
    with pytest.raises(CommandError, match="no host of dc answers: a: it can't be reached; b: ") as caught:
        Keys(desk, []).make()
    assert caught.value.hint == "nothing was changed"
    assert not Path(desk.config.keys).exists()


def test_a_datacenter_without_keys_is_told_what_to_write(desk: Desk) -> None:
    without = msgspec.structs.replace(desk.config, keys="", insecure=True)
    desk.fleet = Fleet.of(without)
    with pytest.raises(CommandError, match='keys = "keys" names the folder'):
        Keys(desk, [])
