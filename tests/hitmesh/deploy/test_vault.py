"""The place of backups: written once, and read by nobody but who operates."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hitmesh.deploy import vault
from hitmesh.deploy.retention import moment_of

NAME = "hitmesh-2026-11-30T000501Z.backup"
_MOMENT = moment_of(NAME)
assert _MOMENT is not None
NOW_S = _MOMENT.timestamp() + 60
BODY = b'{"format":"hitmesh backup"}\n' + bytes(range(256)) * 9000
WHOLE = BODY + f"sha256 {hashlib.sha256(BODY).hexdigest()}\n".encode()


def ask(folder: Path, command: str, given: bytes = b"", role: str = "write") -> bytes:
    out = io.BytesIO()
    vault.serve([role, str(folder)], command, io.BytesIO(given), out, NOW_S)
    return out.getvalue()


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_what_is_put_is_kept_as_it_came_and_answered_with_its_digest(tmp_path: Path) -> None:
    assert ask(tmp_path, f"put {NAME}", WHOLE).decode() == f"{hashlib.sha256(WHOLE).hexdigest()}\n"
    assert files(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == WHOLE
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o400


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    ask(tmp_path, f"put {NAME}", WHOLE)
    with pytest.raises(vault.Refused, match="there already"):
        ask(tmp_path, f"put {NAME}", WHOLE[:1] + WHOLE)
    assert (tmp_path / NAME).read_bytes() == WHOLE


def test_what_came_only_in_part_is_not_kept(tmp_path: Path) -> None:
    for cut in (0, 71, 72, len(WHOLE) // 2, len(WHOLE) - 1):
        with pytest.raises(vault.Refused, match="isn't a whole backup"):
            ask(tmp_path, f"put {NAME}", WHOLE[:cut])
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "command", [f"get {NAME}", "list", f"forget {NAME}", "", "sh", f"put {NAME} x", f"put {NAME}; ls", "'"]
)
def test_who_writes_may_do_nothing_else(tmp_path: Path, command: str) -> None:
    ask(tmp_path, f"put {NAME}", WHOLE)
    with pytest.raises(vault.Refused):
        ask(tmp_path, command)
    assert files(tmp_path) == [NAME]


@pytest.mark.parametrize("name", ["../" + NAME, "/etc/passwd", "notes", ".", NAME + "\n"])
def test_only_a_backup_s_name_names_a_file(tmp_path: Path, name: str) -> None:
    for verb in ("put", "get", "forget"):
        with pytest.raises(vault.Refused, match="is no backup's name"):
            ask(tmp_path, f'{verb} "{name}"', WHOLE, "operate")


def test_what_a_killed_put_has_left_is_removed_a_day_later_and_never_listed(tmp_path: Path) -> None:
    for name, age_s in ((".partial-old", 25 * 3600), (".partial-new", 23 * 3600), ("notes", 99 * 3600)):
        (tmp_path / name).write_bytes(WHOLE[:99])
        os.utime(tmp_path / name, (NOW_S - age_s, NOW_S - age_s))
    (tmp_path / ".partial-folder").mkdir()
    os.utime(tmp_path / ".partial-folder", (0, 0))
    assert ask(tmp_path, "list", role="operate") == b""
    ask(tmp_path, f"put {NAME}", WHOLE)
    assert sorted(files(tmp_path)) == [".partial-folder", ".partial-new", NAME, "notes"]
    assert ask(tmp_path, "list", role="operate").decode() == f"{NAME} {len(WHOLE)}\n"


def test_a_name_of_another_day_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vault.Refused, match="not of today"):
        ask(tmp_path, "put hitmesh-2027-11-30T000501Z.backup", WHOLE)


def test_who_operates_may_list_get_and_forget(tmp_path: Path) -> None:
    ask(tmp_path, f"put {NAME}", WHOLE, "operate")
    (tmp_path / "notes").touch()
    assert ask(tmp_path, "list", role="operate").decode() == f"{NAME} {len(WHOLE)}\n"
    assert ask(tmp_path, f"get {NAME}", role="operate") == WHOLE
    ask(tmp_path, f"forget {NAME}", role="operate")
    assert files(tmp_path) == ["notes"]
    with pytest.raises(vault.Refused, match="there is no"):
        ask(tmp_path, f"get {NAME}", role="operate")


def test_a_twentieth_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"total": 10**9, "free": 5 * 10**7}))
    with pytest.raises(vault.Refused, match="no room"):
        ask(tmp_path, f"put {NAME}", WHOLE)
    assert files(tmp_path) == []


def test_as_sshd_runs_it_it_says_in_one_line_what_it_refuses(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hitmesh.deploy.vault", "write", str(tmp_path)]
    environment = {**os.environ, "SSH_ORIGINAL_COMMAND": "list"}
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "hitmesh-backup-store: 'list' is not for this key\n"
