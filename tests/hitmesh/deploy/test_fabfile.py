"""What is typed after `fab`, as an operator types it; no host is reached for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hitmesh.cli.folder import shipped
from tests.services import wait_for

CHECKOUT = Path(__file__).parents[3]
FAB = Path(sys.executable).parent / "fab"


REFUSED = "echo 'ssh: connect to host: Connection refused' >&2; exit 255"
SILENT = 'case "$*" in *"-O exit"*) exit 0 ;; esac; touch "$TMPDIR/asked"; sleep 1; exit 255'


def started(folder: Path, *words: str, ssh: str = REFUSED) -> subprocess.Popen[str]:
    """A command whose `ssh` reaches no host."""
    for name in ("eu-west", "us-west"):
        (folder / f"{name}.toml").write_bytes(shipped(f"config/{name}.toml").read_bytes())
    (folder / "ssh").write_text(f"#!/bin/sh\n{ssh}\n")
    (folder / "ssh").chmod(0o755)
    return subprocess.Popen(
        [FAB, "--set", f"config={folder},var={folder}/var", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=CHECKOUT,
        env={"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)},
    )


def fab(folder: Path, *words: str) -> tuple[int, str]:
    """The status of a command that reaches no host, and what it says."""
    with started(folder, *words) as process:
        heard, _ = process.communicate()
    return process.returncode, heard


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("scale:dc=us-west,role=colector,count=4", 1, "fab: 'colector' is no role; did you mean collector?"),
        ("deploy:dc=us-west,role=balancers", 1, "fab: 'balancers' is no role; did you mean balancer?"),
        ("deploy:dc=us-west,roles=nexus;colector", 1, "fab: 'colector' is no role; did you mean collector?"),
        ("deploy:dc=us-west,role=", 1, "fab: '' is no role; known here: nexus, "),
        ("scale:dc=us-west,count=4", 2, "fab: scale: missing a required argument: 'role'; such as fab scale:dc="),
        ("deploy:dc=us-west,host=app-1", 2, "fab: deploy: got an unexpected keyword argument 'host'; such as"),
        ("logs:dc=us-west,name=nexus-1,role=nexus", 2, "fab: logs: got an unexpected keyword argument 'role'; such as"),
        ("logs:dc=us-west,name=colector-1", 1, "fab: us-west has no instance colector-1; did you mean collector-1?"),
    ],
)
def test_a_mistyped_argument_is_one_line_of_ours(words: str, status: int, said: str, tmp_path: Path) -> None:
    answered, heard = fab(tmp_path, words)
    assert said in heard
    assert len(heard.splitlines()) == 1
    assert answered == status


def test_scale_is_given_the_role_and_runs_once(tmp_path: Path) -> None:
    _, heard = fab(tmp_path, "scale:dc=us-west,role=collector,count=9,dry=1")
    assert "Executing task" not in heard
    assert "nodes.app-" in heard


def test_who_has_no_ssh_key_is_told_so_before_anything_is_built(tmp_path: Path) -> None:
    status, heard = fab(tmp_path, "bootstrap:dc=us-west")
    assert heard.startswith("fab: you have no SSH key")
    assert status == 1
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_interrupts_it_leaves_no_folder_of_connections(sent: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, "status:dc=us-west", ssh=SILENT) as process:
        wait_for((tmp_path / "asked").exists, what="ssh to be started")
        process.send_signal(sent)
        heard, _ = process.communicate()
    assert list(tmp_path.glob("hm-ssh-*")) == []
    assert heard == "fab: interrupted\n"
    assert process.returncode == 130
