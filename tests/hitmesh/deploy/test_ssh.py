"""What ssh's own words mean to an operator: a program of that name says them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hitmesh.deploy.fleet import Host
from hitmesh.deploy.ssh import Ssh, Unreachable

pytestmark = pytest.mark.system
HOST = Host(name="app-1", address="10.2.0.11", ssh=("10.2.0.11", 22))


def ssh_that(says: str, status: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    program = folder / "ssh"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\necho {says!r} >&2\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return Ssh(folder, "hitmesh-deploy")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("ssh: connect to host 10.2.0.11 port 22: Connection timed out", "it can't be reached"),
        ("ssh: connect to host 10.2.0.11 port 22: Connection refused", "no sshd answers there"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", "its host key has changed"),
        ("Host key verification failed.", "its host key isn't known"),
        ("hitmesh-deploy@10.2.0.11: Permission denied (publickey).", "hitmesh-deploy isn't let in"),
        (
            "client_loop: send disconnect: Broken pipe",
            "the connection broke: client_loop: send disconnect: Broken pipe",
        ),
    ],
)
def test_a_host_that_ssh_does_not_reach_is_one_line_with_its_reason(
    says: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable) as caught:
        ssh_that(says, 255, tmp_path, monkeypatch).run(HOST, ["facts"])
    assert str(caught.value).startswith(f"app-1 (10.2.0.11): {words}")


def test_a_command_that_fails_there_is_no_host_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ssh_that("no such release", 1, tmp_path, monkeypatch).run(HOST, ["forget", "x"])
    assert (done.status, done.err) == (1, "no such release")


def test_every_connection_is_ended_also_that_to_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = ssh_that("", 0, tmp_path, monkeypatch)
    (tmp_path / "ssh").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n')
    ssh.run_at("hitmesh-vault", "10.6.0.11", ["list"], b"", timeout_s=5.0)
    ssh.close([HOST])
    ended = [line.partition("-O exit ")[2] for line in (tmp_path / "asked").read_text().splitlines()]
    assert ended == ["", "-p 22 -l hitmesh-deploy 10.2.0.11", "-l hitmesh-vault 10.6.0.11"]
