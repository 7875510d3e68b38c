"""What commands print: harmless whatever others called themselves, and one line when it can't be written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hitmesh.books.audit import Verdict
from hitmesh.books.copies import Copy
from hitmesh.cli import auditing, datacenter, endpoints, live_lines, picture, totals
from hitmesh.cli.main import run
from hitmesh.cli.progress import Progress
from hitmesh.cli.stderr import warn
from hitmesh.cli.subtotals import Subtotal
from hitmesh.config import load
from hitmesh.errors import CommandError
from hitmesh.settings import Edition
from tests.hitmesh.cli.test_picture import answer, seen

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
NASTY = "[red]x\r\n\x1b]0;owned\x07\x9b2J\u202e\u2066\u2028\u200b\udc80"
SHOWN = "[red]x\\r\\n\\x1b]0;owned\\x07\\x9b2J\\u202e\\u2066\\u2028\\u200b\\udc80"
CONFIG = load(DEV)


def status() -> str:
    return picture.table(
        picture.merge("dev", answer(seen(f"{NASTY}-1", load={NASTY: 1.0}, role=NASTY)), [], 0, heartbeat_s=1.0)
    )


def audit() -> str:
    verdict = Verdict(0, 0, 0, 0, 0, 0, 0, 0, 0, [NASTY], {NASTY: Copy(0, 0, None)})
    return auditing.text({"dc": verdict})


def settings() -> str:
    return live_lines.table(
        live_lines.entries(CONFIG, {NASTY: Edition(NASTY, NASTY.encode("utf-8", "replace"), 1, NASTY, 1e300)})
    )


def change() -> str:
    return live_lines.change_line(CONFIG, NASTY, None, Edition(NASTY, b"\xff\x1b", 1, NASTY, 1e300), with_time=True)


def datacenters() -> str:
    return datacenter.text([datacenter.Known(NASTY, "retired", 1, 1.0, False, NASTY, NASTY, 1e300)])


TEXTS: dict[str, Callable[[], str]] = {
    "status": status,
    "audit": audit,
    "top": lambda: totals.line(totals.entry(NASTY, {NASTY: Subtotal(1, 1.0)})),
    "config list": settings,
    "config watch": change,
    "datacenter list": datacenters,
    "endpoints": lambda: endpoints.text({"dc": {"nexus": [NASTY]}}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_in_a_name_reaches_the_terminal(name: str) -> None:
    text = TEXTS[name]()
    assert "[red]x\\r\\n\\x1b" in text  # nor is it markup
    assert all(line.isprintable() for line in text.split("\n"))


def test_nor_by_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    warn(NASTY)
    progress = Progress()
    progress._due = 0.0
    progress.show(NASTY)
    assert capsys.readouterr().err == f"hitmesh: {SHOWN}\n{SHOWN}\n"


def test_nor_by_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_path: Path) -> None:
        raise CommandError(f"no page {NASTY}")

    monkeypatch.setattr("hitmesh.cli.check_config.load", fails)
    assert run(["check-config", "x"]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown[:-1].isprintable()


def test_json_is_ascii(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["endpoints", "--json", "--state-dir", str(state_dir)]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["dc"]
    assert shown.isascii()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    (tmp_path / "dc").mkdir()
    (tmp_path / "dc" / "hitmesh.toml").write_text(DEV.read_text().replace('"dev"', '"dc"'))
    return tmp_path


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">/dev/full", 1, "hitmesh: the output can't be written: No space left on device\n"),
        (">/dev/full 2>&1", 1, ""),
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_one_line(state_dir: Path, redirected: str, status: int, said: str) -> None:
    command = ["sh", "-c", f'exec "$0" "$@" {redirected}', sys.executable, "-m", "hitmesh", "endpoints"]
    answer = subprocess.run(
        [*command, "--state-dir", str(state_dir)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (answer.returncode, answer.stderr) == (status, said)


@pytest.mark.parametrize("program", ["hitmesh", "balancer", "nexus"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=["help", "version"])
@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">/dev/full", 1, "the output can't be written: No space left on device\n"),
        (">/dev/full 2>&1", 1, ""),
        (">&-", 0, ""),
    ],
)
def test_no_command_s_help_ends_in_a_traceback(
    program: str, arguments: list[str], redirected: str, status: int, said: str
) -> None:
    command = ["sh", "-c", f'exec "$0" "$@" {redirected}', sys.executable, "-m", program, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stderr) == (status, said and f"{program}: {said}")
