from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hitmesh import config as settings
from hitmesh.deploy.consul_requests import Request
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.host import rules
from hitmesh.deploy.render import supervisor
from hitmesh.errors import CommandError

UUID = "22222222-2222-4222-8222-222222222222"
FILE = Path(__file__).parents[3] / "config" / "us-west.toml"
FLEET = Fleet.of(settings.load(FILE))
COLLECTOR = next(
    file for file in supervisor.files(FLEET, FLEET.host("app-1"), FILE.read_text()) if "collector-1" in file.path
)


def altered(before: str, after: str) -> File:
    text = COLLECTOR.text.replace(before, after)
    assert text != COLLECTOR.text
    return File(path=COLLECTOR.path, text=text, then="supervisor")


def test_a_program_is_taken_as_it_is_rendered() -> None:
    rules.check_file(COLLECTOR, "us-west")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("user = hitmesh-collector\n", "user = root\n"),
        ("user = hitmesh-collector\n", ""),
        ("user = hitmesh-collector\n", "user = root\nuser = hitmesh-collector\n"),
        ("umask = 077\n", "umask = 077\nnumprocs = 2\n"),
        ("umask = 077\n", "umask = 077\n[program:other]\ncommand = /bin/sh\n"),
        ("umask = 077\n", "umask = 077\n user = root\n"),
        ("umask = 077\n", "umask = 077\ruser = root\n"),
        ("/var/log/hitmesh/us-west-collector-1.log", "/etc/cron.d/collector"),
        ("hitmesh-run collector-1", "hitmesh-run collector-2"),
        ("command = /opt/hitmesh/system/bin/hitmesh-run", "command = /bin/sh"),
        ("--name collector-1", "--name %(ENV_SECRET)s"),
        ("[program:us-west-collector-1]", "[eventlistener:us-west-collector-1]"),
        ("[program:us-west-collector-1]", "[program:eu-west-collector-1]"),
    ],
)
def test_a_program_that_could_do_more_than_its_role_is_refused(before: str, after: str) -> None:
    with pytest.raises(CommandError, match="program"):
        rules.check_file(altered(before, after), "us-west")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "/etc/hitmesh/eu-west.toml", "/var/lib/hitmesh/supervisord.conf", "/etc/hitmesh/../passwd",
        "/var/lib/hitmesh/supervisor.d/us-west-../x-1.conf", "/var/lib/hitmesh/supervisor.d/eu-west-collector-1.conf",
        "/etc/sysctl.d/60-hitmesh.conf.d/x", "/opt/hitmesh/system/bin/hitmesh-run",
    ],
)  # fmt: skip
def test_a_file_that_no_deploy_writes_is_refused(path: str) -> None:
    with pytest.raises(CommandError, match="isn't a file that a deploy writes"):
        rules.check_file(File(path=path, text="x"), "us-west")


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (File(path="/etc/hitmesh/us-west.toml", text="", owner="daemon"), "is no user of hitmesh's"),
        (File(path="/etc/hitmesh/us-west.toml", text="", mode=0o4755), "mode 4755"),
        (File(path=COLLECTOR.path, text=COLLECTOR.text, owner="hitmesh-collector"), "must be root's"),
        (File(path="/etc/sysctl.d/60-hitmesh.conf", text="kernel.core_pattern = |/elsewhere/x\n"), "never rendered"),
        (File(path="/etc/hitmesh/firewall.nft", text='include "/etc/shadow"\n'), "isn't the table of hitmesh"),
        (File(path="/etc/hitmesh/consul.json", text="[]"), "is no JSON"),
    ],
)
def test_a_file_that_is_not_as_rendered_is_refused(file: File, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        rules.check_file(file, "us-west")


@pytest.mark.parametrize(
    "id_", ["", "..", "0.2.0", "../0.2.0-0123456789ab", "0.2.0-0123456789ab/x", "0.2.0-0123456789AB"]
)
def test_what_is_no_release_is_refused(id_: str) -> None:
    with pytest.raises(CommandError, match="is no release's id"):
        rules.check_release_id(id_)


@pytest.mark.parametrize(
    ("role", "name"), [("root", "x"), ("../consul", "x"), ("collector", "../x"), ("collector", ".x")]
)
def test_a_secret_of_nobody_is_refused(role: str, name: str) -> None:
    with pytest.raises(CommandError):
        rules.secret_place("us-west", role, name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/acl/bootstrap"), ("GET", "/v1/acl/policies"), ("PUT", "/v1/acl/policy"), ("GET", f"/v1/acl/policy/{UUID}"),
        ("PUT", "/v1/acl/token"), ("GET", "/v1/acl/token/self"), ("DELETE", f"/v1/acl/token/{UUID}"),
        ("PUT", "/v1/agent/token/agent"), ("GET", "/v1/operator/keyring?local-only=true"), ("POST", "/v1/operator/keyring"),
    ],
)  # fmt: skip
def test_consul_is_asked_about_acls_and_its_gossips_key(method: Any, path: str) -> None:
    rules.check_consul_request(Request(method=method, path=path, token=UUID, body={"Name": "x"}))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/kv/hitmesh/heads/0001"), ("PUT", "/v1/kv/x"), ("PUT", "/v1/txn"), ("GET", "/v1/acl/tokens"),
        ("GET", f"/v1/acl/token/{UUID}"), ("PUT", f"/v1/acl/token/{UUID}"), ("DELETE", "/v1/acl/token/self"),
        ("PUT", "/v1/agent/service/register"), ("PUT", "/v1/agent/leave"), ("PUT", "/v1/agent/token/replication"),
        ("PUT", "/v1/acl/policy/../../agent/leave"), ("GET", "/v1/acl/policies?dc=other"), ("GET", "/v1/acl/policies\n"),
        ("GET", "/v1/operator/keyring"), ("DELETE", "/v1/acl/policies"), ("GET", "http://10.0.0.9/v1/acl/policies"),
    ],
)  # fmt: skip
def test_consul_is_asked_nothing_else(method: Any, path: str) -> None:
    with pytest.raises(CommandError, match="Consul isn't asked"):
        rules.check_consul_request(Request(method=method, path=path))


def test_a_token_that_is_no_word_and_a_body_without_end_are_refused() -> None:
    for token in ("a b", "a\r\nX-Other: b", "ä", "x" * 2000):
        with pytest.raises(CommandError, match="a token of Consul's is one word"):
            rules.check_consul_request(Request(method="GET", path="/v1/acl/policies", token=token))
    with pytest.raises(CommandError, match="at most 16384 bytes"):
        rules.check_consul_request(Request(method="PUT", path="/v1/acl/policy", body={"Rules": "x" * 20_000}))


def test_a_secret_is_kept_where_its_role_looks_for_it() -> None:
    assert (
        rules.secret_place("us-west", "collector", "collector-1") == "/etc/hitmesh/keys/us-west/collector/collector-1"
    )
