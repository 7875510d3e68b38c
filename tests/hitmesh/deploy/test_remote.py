"""What an operator is told of a host whose program can't answer; the host's own Python is a folder's here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from hitmesh.deploy.fleet import Host
from hitmesh.deploy.paths import HOST_PROGRAM, SYSTEM
from hitmesh.deploy.remote import NoHostProgram, RemoteHost
from hitmesh.deploy.ssh import Result, Ssh

pytestmark = pytest.mark.system
HOST = Host(name="app-1", address="10.2.0.11", ssh=("10.2.0.11", 22))


class Shell:
    """At the place of ssh: the host program fails with these words, and whatever else is asked is run here."""

    def __init__(self, folder: Path, said: str) -> None:
        self._folder, self._said = folder, said

    def run(self, _host: Host, argv: list[str], **_: Any) -> Result:
        if argv[0] == "sudo":
            return Result(127, b"", self._said)
        words = [word.replace(SYSTEM, str(self._folder)) for word in argv]
        done = subprocess.run(words, capture_output=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr.decode())


def told(folder: Path, said: str) -> str:
    with pytest.raises(NoHostProgram) as caught:
        RemoteHost(HOST, cast(Ssh, Shell(folder, said)), "us-west").facts()
    return str(caught.value)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin/python"


def test_a_host_whose_python_is_gone_is_one_clear_line(tmp_path: Path, python: Path) -> None:
    python.symlink_to("/usr/bin/python3.99")
    line = told(tmp_path, f"env: '{SYSTEM}/bin/python': No such file or directory")
    assert line.startswith("app-1: its Python is gone, and hitmesh there can't run without it (install Python 3.11")


def test_a_host_whose_python_is_another_one_now_is_one_clear_line_with_its_version(
    tmp_path: Path, python: Path
) -> None:
    (tmp_path / "other").write_text('#!/bin/sh\ncase "$*" in *hitmesh*) exit 1;; *) echo 3.10.12;; esac\n')
    (tmp_path / "other").chmod(0o755)
    python.symlink_to(tmp_path / "other")
    line = told(tmp_path, "/opt/hitmesh/system/bin/python: No module named hitmesh")
    assert line.startswith("app-1: its Python is 3.10.12, another one than hitmesh there was installed with (install")


def test_a_host_that_was_never_bootstrapped_is_told_from_one_without_a_python(tmp_path: Path) -> None:
    assert "`fab bootstrap` puts it there" in told(tmp_path, f"sudo: {HOST_PROGRAM}: command not found")


def test_where_python_is_well_the_last_word_is_told(tmp_path: Path, python: Path) -> None:
    python.symlink_to(tmp_path / "this")
    (tmp_path / "this").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "this").chmod(0o755)
    assert "hitmesh-host facts ended with 127: it broke" in told(tmp_path, "it broke")
