"""The program that is told when every host is full: real processes."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hitmesh.scaler.hook import Hook
from tests.hitmesh.patience import until


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "hitmesh.scaler.hook"]


def test_it_is_told_on_its_standard_input_and_its_first_line_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = program(tmp_path / "hook", f"cat >{tmp_path}/told; echo ordered a host; seq 100000")
    hook = Hook(path, 30.0)
    hook.run({"dc": "eu", "wanted": 4})
    hook.run({"dc": "eu", "wanted": 5})
    until(lambda: not hook.is_running, "it to end")
    assert (tmp_path / "told").read_text() == '{"dc":"eu","wanted":4}\n'
    assert (hook.runs, hook.failures, said(caplog)) == (1, 0, [f"the hook {path} ended with 0: ordered a host"])
    assert vars(caplog.records[-1])["fields"] == {"hook": path, "status": "ended with 0", "output": "ordered a host"}


@pytest.mark.parametrize(
    ("text", "timeout_s", "words"),
    [
        ("echo no money >&2; exit 3", 30.0, "ended with 3: no money"),
        ("exec <&-; echo $$; sleep 1000", 0.3, "was killed: it took more than 0.3 s"),
        ("sleep 1000 & exit 0", 0.5, "ended with 0, and what it left with its output was killed after 0.5 s"),
        (
            "sleep 1000 & echo no; exit 3",
            0.5,
            "ended with 3, and what it left with its output was killed after 0.5 s: no",
        ),
    ],
)
def test_one_that_fails_or_goes_on_for_too_long_is_ended_and_said(
    text: str, timeout_s: float, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = program(tmp_path / "hook", text)
    hook = Hook(path, timeout_s)
    hook.run({})
    until(lambda: not hook.is_running, "it to end")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert (hook.runs, hook.failures) == (1, 1)
    assert said(caplog)[0].startswith(f"the hook {path} {words}")


def test_one_that_cant_be_run_is_said_before_it_is_needed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "hook"
    Hook(program(path, "exit 0"), 1.0).look()
    assert caplog.records == []
    path.chmod(0o600)
    hook = Hook(str(path), 1.0)
    hook.look()
    hook.look()
    assert caplog.messages == [f"the hook {path} can't be executed; chmod +x it"]
    assert hook.load() == {"hooks": 0, "hooks_failed": 0, "hook_missing": 1}
    path.chmod(0o700)
    hook.look()
    assert hook.load()["hook_missing"] == 0


def test_one_that_isnt_there_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook(str(tmp_path / "none"), 1.0)
    hook.run({})
    until(lambda: not hook.is_running, "it to end")
    assert "can't be run: No such file or directory" in said(caplog)[0]
    assert hook.failures == 1
