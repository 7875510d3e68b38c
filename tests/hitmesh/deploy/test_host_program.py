from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import msgspec
import pytest

from hitmesh.deploy.files import File
from hitmesh.deploy.host import consul, machine
from hitmesh.deploy.host.machine import Machine
from hitmesh.errors import CommandError
from tests.hitmesh.deploy.here import Here
from tests.hitmesh.deploy.test_host_rules import COLLECTOR
from tests.services import free_port

ID = "0.2.0-0123456789ab"


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_files_are_written_once(here: Here) -> None:
    toml = File(path="/etc/hitmesh/us-west.toml", text="name = 'us-west'\n")
    assert here.write(toml, COLLECTOR) == [toml.path, COLLECTOR.path]
    assert here.write(toml, COLLECTOR) == []
    assert here.facts().files == {toml.path: toml.digest, COLLECTOR.path: COLLECTOR.digest}
    assert here.ask("read", stdin=json.dumps([toml.path, "/etc/passwd"]).encode()) == {toml.path: toml.text}
    assert (here.root / "var/lib/hitmesh/collector-1").stat().st_mode & 0o777 == 0o700


def test_programs_of_another_datacenter_are_told_apart_also_where_its_name_begins_as_this_ones(here: Here) -> None:
    folder = here.root / "var/lib/hitmesh/supervisor.d"
    folder.mkdir(parents=True)
    for name in ("us-west-collector-1", "us-west-2-nexus-1", "us-west-2-consul-1", "eu-vip-1"):
        (folder / f"{name}.conf").write_text("")
    (folder / "notes.txt").write_text("")
    facts = here.facts()
    assert list(facts.files) == [f"/{(folder / 'us-west-collector-1.conf').relative_to(here.root)}"]
    assert facts.others == {"us-west-2": ["consul-1", "nexus-1"], "eu": ["vip-1"]}


def test_a_program_without_text_is_removed(here: Here) -> None:
    here.write(COLLECTOR)
    gone = msgspec.structs.replace(COLLECTOR, text="")
    assert here.write(gone) == [COLLECTOR.path]
    assert here.write(gone) == []


def test_one_file_that_is_refused_leaves_all_as_they_were(here: Here) -> None:
    with pytest.raises(CommandError, match="isn't a file that a deploy writes"):
        here.write(COLLECTOR, File(path="/etc/passwd", text=""))
    assert here.facts().files == {}


def test_a_file_that_cannot_be_written_leaves_all_as_they_were(here: Here) -> None:
    (here.root / "etc/hitmesh/.us-west.toml.new/in-the-way").mkdir(parents=True)
    here.write(COLLECTOR)
    other = msgspec.structs.replace(COLLECTOR, text=COLLECTOR.text.replace("startsecs = 1 ", "startsecs = 2 "))
    with pytest.raises(CommandError, match="can't be written: Is a directory"):
        here.write(other, File(path="/etc/hitmesh/us-west.toml", text="x"))
    assert here.facts().files == {COLLECTOR.path: COLLECTOR.digest}


def test_a_secret_is_its_users_alone(here: Here) -> None:
    assert here.ask("secret", "collector", "collector-1", stdin=b"key") == {
        "changed": ["/etc/hitmesh/keys/us-west/collector/collector-1"]
    }
    assert here.ask("secret", "collector", "collector-1", stdin=b"key") == {"changed": []}
    path = here.root / "etc/hitmesh/keys/us-west/collector/collector-1"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("key", 0o600)


def test_a_secret_that_others_can_read_is_told_of(here: Here) -> None:
    here.ask("secret", "collector", "consul.token", stdin=b"token")
    assert here.facts().loose == []
    path = "/etc/hitmesh/keys/us-west/collector/consul.token"
    (here.root / path[1:]).chmod(0o640)
    assert here.facts().loose == [path]


def test_a_host_without_consul_and_one_whose_consul_is_away_say_so(here: Here) -> None:
    request = json.dumps([{"method": "GET", "path": "/v1/acl/policies"}]).encode()
    with pytest.raises(CommandError, match="no Consul is set up here"):
        here.ask("consul", stdin=request)
    here.write(File(path="/etc/hitmesh/consul.json", text=json.dumps({"ports": {"http": free_port()}})))
    with pytest.raises(CommandError, match="doesn't answer: Connection refused"):
        here.ask("consul", stdin=request)


def test_too_many_requests_at_once_and_those_with_more_than_is_known_are_refused(here: Here) -> None:
    request = {"method": "GET", "path": "/v1/acl/policies"}
    with pytest.raises(CommandError, match="65 requests at once; at most 64"):
        here.ask("consul", stdin=json.dumps([request] * 65).encode())
    with pytest.raises(CommandError, match="isn't what is read here"):
        here.ask("consul", stdin=json.dumps([{**request, "host": "10.0.0.9"}]).encode())


def test_who_listens_at_a_port_is_seen() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert consul.listeners(port) == {os.getuid()}
        with pytest.raises(
            CommandError, match="is listened at by another user than hitmesh-consul: it was told nothing"
        ):
            consul._check_listener(port, os.getuid() + 1)
        consul._check_listener(port, os.getuid())


def test_the_end_of_a_log_is_shown(here: Here) -> None:
    log = here.root / "var/log/hitmesh/us-west-collector-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\nthree\n")
    assert here.ask("logs", "collector-1", "2") == {"lines": ["two", "three"]}


@pytest.mark.parametrize(
    "words",
    [("start", "collector-1"), ("stop", "collector-1"), ("restart", "collector-1"), ("switch", "collector-1", ID)],
)
def test_two_never_change_a_host_at_once(here: Here, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOCK_S", 0.2)
    with Machine(here.root).alone(), pytest.raises(CommandError, match="somebody else changes this host"):
        here.ask(*words)


@pytest.mark.parametrize(
    "words",
    [("help",), ("switch", "collector-1"), ("logs", "collector-1", "-1"), ("start", "../x"), ("start", "collector-9")],
)
def test_what_is_asked_wrongly_is_refused(here: Here, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        here.ask(*words)
