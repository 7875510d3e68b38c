"""The state folder: whose it is, one command at a time in it, and what is said of one that is of no use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hitmesh.cli import down, folder, up
from hitmesh.cli.main import run
from hitmesh.config import load
from hitmesh.errors import CommandError

DEV = Path(__file__).parents[3] / "config" / "dev.toml"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_state_folder_is_its_owners_alone(tmp_path: Path, is_there: bool) -> None:
    path = tmp_path / "var"
    if is_there:
        path.mkdir(mode=0o755)
    up._make(path)
    assert mode(path) == 0o700


def test_a_folder_that_is_everybodys_stays_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    up._make(tmp_path)
    assert mode(tmp_path) == 0o1777


def test_what_an_earlier_version_left_readable_is_not_any_more(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir(mode=0o755)
    (tmp_path / "one" / "totals.db").touch(mode=0o644)
    up._make_private(tmp_path / "one")
    assert (mode(tmp_path / "one"), mode(tmp_path / "one" / "totals.db")) == (0o700, 0o600)


def test_a_second_up_at_the_same_time_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "check_ports", lambda _: pytest.fail("it went on"))
    with folder.alone(tmp_path, "up"):
        assert run(["up", "-d", "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"hitmesh: another `hitmesh up` is at work in {tmp_path} (wait for its end)\n"
    assert not folder.conf_path(tmp_path).exists()
    with folder.alone(tmp_path, "up"):
        pass  # the next one may


@pytest.mark.parametrize("text", ["not = [", 'name = "one"', "\xff"])
def test_down_drains_as_long_as_by_default_where_a_configuration_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "hitmesh.toml").write_text(text, encoding="latin-1")
    assert down._drain_s(tmp_path) == load(DEV).timing.drain_s
    assert down._drain_s(tmp_path / "gone") == load(DEV).timing.drain_s


def test_a_folder_that_is_not_ours_to_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    for command in ("status", "endpoints", "down"):
        assert run([command, "--state-dir", str(tmp_path)]) == 1
        assert capsys.readouterr().err == f"hitmesh: {tmp_path}: can't be read: Permission denied\n"


def test_a_state_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=r"file/var: can't be made: Not a directory$"):
        up._make(tmp_path / "file" / "var")


def test_the_socket_of_a_folder_that_was_moved_is_its_own(tmp_path: Path) -> None:
    conf = f"[unix_http_server]\nfile = {tmp_path}/elsewhere/supervisor.sock\n"
    folder.conf_path(tmp_path).write_text(conf)
    assert folder.socket_path(tmp_path) is None
    (tmp_path / "supervisor.sock").touch()
    assert folder.socket_path(tmp_path) == tmp_path / "supervisor.sock"
