"""supervisord: its logs on a disk that fails, and whom it has to kill."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import supervisor.loggers

from hitmesh.cli import supervision
from hitmesh.cli.down import stop
from hitmesh.cli.supervision import Stopped, Supervisor
from hitmesh.cli.supervisord import LastingFile
from tests.services import PATIENCE_S, wait_for
from tests.services.disks import full, small_disk
from tests.services.supervisord import write_conf

LINE = b"x" * 99 + b"\n"


def log_of(path: Path, max_bytes: int) -> supervisor.loggers.Logger:
    handler = LastingFile(str(path), "a", max_bytes, 2)
    handler.setFormat("%(message)s")
    logger = supervisor.loggers.Logger()
    logger.addHandler(handler)
    return logger


@pytest.mark.parametrize("max_bytes", [2_000, 10_000_000])
def test_lines_are_lost_while_a_disk_is_full_and_written_again_afterwards(tmp_path: Path, max_bytes: int) -> None:
    with small_disk(tmp_path / "disk", "64k") as folder:
        logger = log_of(folder / "a.log", max_bytes)
        with full(folder):
            for _ in range(500):
                logger.info(LINE)
            for handler in logger.handlers:
                handler.reopen()
            logger.info(LINE)
        for _ in range(3):
            logger.info(LINE)
        logger.info(b"last\n")
        assert (folder / "a.log").read_bytes().endswith(LINE + b"last\n")
        logger.close()


def test_a_folder_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    logger = log_of(tmp_path / "log" / "a.log", 200)
    (tmp_path / "log").rename(tmp_path / "moved")
    for _ in range(10):
        logger.info(LINE)
    (tmp_path / "moved").rename(tmp_path / "log")
    logger.info(b"last\n")
    assert b"last\n" in b"".join(path.read_bytes() for path in (tmp_path / "log").iterdir())
    logger.close()


PROGRAMS = """
[program:one-collector-1]
command = {python} -c "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
stdout_logfile = {state}/log/deaf.log
stopwaitsecs = 1
[program:one-nexus-1]
command = {python} -c "import time; time.sleep(600)"
"""


@pytest.mark.system
def test_who_supervisord_had_to_kill_is_said(tmp_path: Path) -> None:
    write_conf(tmp_path, PROGRAMS.format(state=tmp_path, python=sys.executable))
    supervisor = Supervisor(tmp_path)
    process = supervisor.start(sys.executable, os.environ)
    try:
        wait_for(supervisor.programs, what="supervisord")
        deaf = tmp_path / "log" / "deaf.log"
        wait_for(lambda: deaf.exists() and "deaf" in deaf.read_text(), what="the one that doesn't hear")
        assert supervisor.stop(PATIENCE_S, lambda _: None) == Stopped(killed=["one-collector-1"], left=[])
    finally:
        process.kill()
        process.wait()


@pytest.mark.system
def test_who_a_killed_supervisord_has_left_and_ended_when_told_is_said_to_be_left_and_who_did_not_to_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "KILL_WAIT_S", 1.0)
    write_conf(tmp_path, PROGRAMS.format(state=tmp_path, python=sys.executable))
    supervisor = Supervisor(tmp_path)
    process = supervisor.start(sys.executable, os.environ)
    wait_for(supervisor.programs, what="supervisord")
    deaf = tmp_path / "log" / "deaf.log"
    wait_for(lambda: deaf.exists() and "deaf" in deaf.read_text(), what="the one that doesn't hear")
    process.kill()
    process.wait()
    assert supervisor.stop(0.0, lambda _: None) == Stopped(killed=["one-collector-1"], left=["one-nexus-1"])


@pytest.mark.parametrize(
    ("stopped", "words"),
    [
        (Stopped([], []), ""),
        (Stopped(["one-nexus-1"], []), "hitmesh: these didn't stop by themselves: one-nexus-1\n"),
        (
            Stopped([], ["one-nexus-1", "one-nexus-2"]),
            "hitmesh: supervisord had left these running, which have ended now: one-nexus-1, one-nexus-2\n",
        ),
    ],
)
def test_what_down_says_of_them(
    stopped: Stopped, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "stop", lambda *_: stopped)
    stop(Supervisor(tmp_path), tmp_path)
    assert capsys.readouterr().err == words
