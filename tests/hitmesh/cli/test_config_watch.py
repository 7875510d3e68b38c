"""`hitmesh config watch --exec`: a program is told of each change, one run after the other."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli.main import run
from hitmesh.settings.sqlite import SqliteSettings
from tests.hitmesh.cli.meshes import HITMESH
from tests.hitmesh.dev_config import DEV
from tests.services import PATIENCE_S, wait_for

# Notes when a run begins, what it is told, and when it ends; waits while there is a file that says so, or fails.
PROGRAM = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
def note(text):
    with (folder / "told").open("a") as file:
        file.write(text)
note("begin\\n")
line = sys.stdin.read()
while (folder / "wait").exists():
    time.sleep(0.01)
note(line + "end\\n")
sys.exit(3 if "fail" in line else 0)
"""


class Watched:
    """A state folder of one datacenter in which nothing runs, and a command that watches its settings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "dev").mkdir()
        (path / "dev" / "hitmesh.toml").write_text(DEV.read_text())
        (path / "program.py").write_text(PROGRAM)
        self.store = SqliteSettings(path / "dev" / "settings.db")
        self.program = f"{sys.executable} {path / 'program.py'} {path}"

    def set(self, key: str, value: str) -> None:
        self.store.set(key, value.encode(), author="anna")

    @contextlib.contextmanager
    def watching(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [*HITMESH, "config", "watch", *words, "--exec", self.program, "--state-dir", str(self.path)]
        with (self.path / "said").open("wb") as said, subprocess.Popen(command, stderr=said) as process:
            try:
                self.until_said("watching ")
                yield process
            finally:
                process.kill()

    def said(self) -> str:
        return (self.path / "said").read_text()

    def until_said(self, words: str) -> None:
        wait_for(lambda: words in self.said(), what=f"{words!r} to be said, not {self.said()!r}")

    def lines(self) -> list[str]:
        path = self.path / "told"
        return path.read_text().splitlines() if path.exists() else []

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines() if line.startswith("{")]

    def until_told(self, *values: str | None) -> None:
        wait_for(
            lambda: [each["value"] for each in self.told()] == list(values) and self.lines()[-1] == "end",
            what=f"{values} to be told, not {self.lines()}",
        )


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.store.close()


def test_what_is_set_and_each_change_is_told_and_of_those_during_a_run_the_last(watched: Watched) -> None:
    watched.set("routes/a.example", '{"action":"empty","status":204}')
    watched.set("timing.commit_s", "0.1")
    wait = watched.path / "wait"
    with watched.watching("timing.commit_s") as process:
        watched.until_told("0.1")
        wait.touch()
        watched.set("timing.commit_s", "0.2")
        wait_for(lambda: watched.lines().count("begin") == 2, what="a run")
        for value in ("0.3", "0.4", "0.5"):
            watched.set("timing.commit_s", value)
        assert watched.lines().count("begin") == 2, "one at a time"
        wait.unlink()
        watched.until_told("0.1", "0.2", "0.5")
        assert watched.told()[-1] | {"changed_at": 0} == {
            "key": "timing.commit_s", "value": "0.5", "before": "0.2", "version": 6, "author": "anna", "changed_at": 0,
        }  # fmt: skip
        watched.store.delete("timing.commit_s", author="anna")
        watched.until_told("0.1", "0.2", "0.5", None)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert watched.said().count("\n") == 1, "nothing but that it watches"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_under_way_may_finish_when_the_watch_ends(watched: Watched, number: signal.Signals) -> None:
    wait = watched.path / "wait"
    wait.touch()
    watched.set("timing.commit_s", "0.1")
    with watched.watching() as process:
        wait_for(lambda: watched.lines() == ["begin"], what="a run")
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        wait.unlink()
        assert process.wait(PATIENCE_S) == 0
    assert watched.lines()[-1] == "end"


def test_a_run_that_fails_is_said_and_the_next_one_comes(watched: Watched) -> None:
    with watched.watching("routes/"):
        watched.set("routes/fail.example", '{"action":"empty","status":204}')
        watched.until_said("failed for routes/fail.example: status 3")
        watched.set("routes/c.example", '{"action":"empty","status":206}')
        wait_for(lambda: watched.told()[-1]["key"] == "routes/c.example", what="the next one")


def test_a_run_that_takes_too_long_is_killed_and_the_next_one_comes(watched: Watched) -> None:
    (watched.path / "wait").touch()  # none ends by itself
    with watched.watching("routes/", "--timeout", "0.3"):
        for host in ("a.example", "b.example"):
            watched.set(f"routes/{host}", '{"action":"empty","status":205}')
            watched.until_said(f"was killed: it took more than 0.3 s for routes/{host}")
    assert "end" not in watched.lines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--exec", "/nowhere/program"), "there is no such program that can be run"),
        (("--exec", "'open"), "No closing quotation"),
        (("--exec", " "), "there is no such program that can be run"),
        (("timing.comit_s", "--exec", "true"), "did you mean timing.commit_s?"),
    ],
)
def test_what_cannot_be_run_or_watched_is_refused_at_once(
    watched: Watched, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert run(["config", "watch", *words, "--state-dir", str(watched.path)]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert said in told
