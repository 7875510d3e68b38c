from __future__ import annotations

from pathlib import Path

import pytest

from hitmesh import config as settings
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.host import rules
from hitmesh.deploy.render import supervisor
from hitmesh.errors import CommandError

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


def test_a_secret_is_kept_where_its_role_looks_for_it() -> None:
    assert (
        rules.secret_place("us-west", "collector", "collector-1") == "/etc/hitmesh/keys/us-west/collector/collector-1"
    )
