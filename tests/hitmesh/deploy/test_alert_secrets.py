"""The alerts' secrets of a datacenter's file: brought to the hosts of its dashboards, and refused where that can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from hitmesh import config as settings
from hitmesh.deploy import tasks
from hitmesh.deploy.alert_secrets import hook_problems, secret_problems
from hitmesh.deploy.desk import Desk
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.keys import Keys
from hitmesh.deploy.ssh import Ssh
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.fake_hosts import FakeSsh

TOKEN = "keys/dc/dashboard/webhook.token"
ONE = {"nexus": 1, "processor": 1, "collector": 1}


def desk_of(folder: Path, token: str = TOKEN, *, dashboards: int = 1, **data: Any) -> Desk:
    path = folder / "dc.toml"
    config = {
        "name": "dc", "keys": "keys", "ports": {"balancer_admin": 0}, "dashboard": {"open": True},
        "alerts": {"webhook": [{"url": "https://alerts.example.com/in", "token_file": token}]},
        "nodes": {"a": {"address": "10.0.0.1", **ONE, "dashboard": dashboards}, "b": {"address": "10.0.0.2", **ONE}},
        **data,
    }  # fmt: skip
    path.write_text(settings.dump(settings.parse(config, source="test")))
    fleet = Fleet.of(settings.load(path))
    return Desk(path, fleet, cast(Ssh, FakeSsh(fleet, "0.2.0-aaaa")), lambda line: None)


def write(folder: Path, text: str, name: str = TOKEN) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_secret_of_the_alerts_is_brought_to_the_dashboards_hosts_alone_and_again_when_it_changes(
    tmp_path: Path,
) -> None:
    desk = desk_of(tmp_path)
    secrets = cast(FakeSsh, desk.ssh).secrets
    write(tmp_path, "one")
    Keys(desk, []).make()
    assert secrets["a"]["dashboard/webhook.token"] == "one"
    assert "dashboard/webhook.token" not in secrets["b"]
    write(tmp_path, "another")
    assert "a: dashboard/webhook.token is another one" in Keys(desk, []).lacking(desk.facts())
    Keys(desk, []).make()
    assert secrets["a"]["dashboard/webhook.token"] == "another"


def test_a_secret_that_is_not_there_is_named_by_a_check_and_refused_by_a_deploy(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        tasks.check(desk_of(tmp_path))
    assert f"alerts.webhook[0].token_file: {tmp_path / TOKEN} isn't there" in str(caught.value)


@pytest.mark.parametrize(
    ("token", "text", "why"),
    [
        (TOKEN, "two words", "must hold one word"),
        (TOKEN, "", "must hold one word"),
        ("keys/dc/collector/webhook.token", "S3cr3t", "isn't brought to the hosts: what is in"),
        ("webhook.token", "S3cr3t", "isn't brought to the hosts: what is in"),
        ("keys/dc/dashboard/.token", "S3cr3t", "can't name a secret"),
    ],
)
def test_a_secret_that_no_dashboard_could_use_is_said_without_what_is_in_it(
    tmp_path: Path, token: str, text: str, why: str
) -> None:
    desk = desk_of(tmp_path, token)
    write(tmp_path, text, token)
    (found,) = secret_problems(desk)
    assert why in found
    assert not text or text not in found


def test_without_keys_nothing_brings_it_and_that_is_said(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, keys="", insecure=True)
    write(tmp_path, "one")
    (found,) = secret_problems(desk)
    assert 'keys = "keys" is missing' in found


def test_one_that_is_named_in_full_or_that_no_dashboard_reads_is_no_objection(tmp_path: Path) -> None:
    assert list(secret_problems(desk_of(tmp_path, "/etc/hitmesh/alerts/token"))) == []
    assert list(secret_problems(desk_of(tmp_path, dashboards=0))) == []


@pytest.mark.parametrize(("hook", "is_refused"), [("more", True), ("hooks/more", True), ("/opt/more", False)])
def test_a_scalers_hook_is_named_in_full_since_no_deploy_brings_it(tmp_path: Path, hook: str, is_refused: bool) -> None:
    desk = desk_of(tmp_path, "/etc/hitmesh/alerts/token", scaler={"hook": hook})
    found = [f"scaler.hook: {tmp_path / hook} isn't brought to the hosts: name one in full that is there"]
    assert list(hook_problems(desk)) == (found if is_refused else [])
