"""What every process does first, with streams that are closed, full or of another encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PREPARED = "import os, sys; from hitmesh.startup import prepare; prepare(); "
MAINS = {"hitmesh": ["hitmesh"], "nexus": ["nexus"], "balancer": ["balancer"]}


def shell(code: str, redirected: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that has prepared itself, started by a shell with `redirected` streams."""
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirected}', sys.executable, PREPARED + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_files_and_folders_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    code = f"os.mkdir('{tmp_path}/folder'); open('{tmp_path}/file', 'w')"
    command = ["sh", "-c", 'umask 0; exec "$0" -c "$1"', sys.executable, PREPARED + code]
    subprocess.run(command, check=True)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("folder", "file")] == [0o700, 0o600]


@pytest.mark.parametrize("package", ["hitmesh", "nexus", "balancer"])
def test_every_program_prepares_itself(package: str) -> None:
    code = (
        f"import sys; sys.argv = ['{package}', '--help']\n"
        f"import hitmesh.startup, os\n"
        f"hitmesh.startup.prepare = lambda: os.write(2, b'prepared')\n"
        f"from {package}.__main__ import main; main()"
    )
    assert (
        "prepared" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr
    )


@pytest.mark.parametrize("redirected", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_file_that_is_opened_never_takes_a_streams_number(redirected: str) -> None:
    code = "print('x'); print('y', file=sys.stderr); sys.exit(42 if os.open('/dev/null', os.O_RDONLY) > 2 else 1)"
    assert shell(code, redirected).returncode == 42


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-"])
def test_stderr_that_takes_nothing_harms_nobody(redirected: str) -> None:
    code = "[print('complaint', file=sys.stderr) for _ in range(10_000)]; sys.exit(42)"
    assert shell(code, redirected).returncode == 42


def test_letters_that_the_output_has_no_place_for_are_escaped() -> None:
    answer = shell("print('ü ═ \\\\udc80'); print('═', file=sys.stderr)", PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "\\xfc \\u2550 \\udc80\n", "\\u2550\n")
