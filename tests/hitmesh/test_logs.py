"""What a process writes to its log."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from gunicorn.config import Config as GunicornConfig

from hitmesh.collector.server import _Log
from hitmesh.logs import EVERY_S, ROLE, Complaints, Lines

FORGED = "\r\n2026-01-01 00:00:00,000 INFO root: all is well\x1b[2K\u202e"


def written(message: str, *arguments: object, error: BaseException | None = None) -> list[str]:
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, message, arguments, info)
    return Lines(ROLE).format(record).split("\n")


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    [line] = written("refused %s", FORGED)
    assert line.endswith("refused \\r\\n2026-01-01 00:00:00,000 INFO root: all is well\\x1b[2K\\u202e")


def test_no_line_of_a_traceback_can_be_taken_for_a_record() -> None:
    _, *lines = written("failed", error=ValueError(FORGED))
    assert len(lines) == 2
    assert all(line.startswith("    ") and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "start",
    [
        "from hitmesh.cli import roles; roles.log_to_stderr()",
        "from balancer.main import _log_as; _log_as('balancer-1')",
        "from nexus.main import log_to_stderr; log_to_stderr('%(message)s')",
    ],
)
def test_every_role_logs_that_way(start: str) -> None:
    code = f"{start}; import logging; logging.getLogger('x').warning('a %s', 'b\\n\\x1bc')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr.endswith("a b\\n\\x1bc\n")


def test_so_does_gunicorn() -> None:
    log = _Log(GunicornConfig())
    assert [type(handler.formatter) for handler in log.error_log.handlers] == [Lines]


def test_of_each_kind_of_complaint_there_is_a_line_now_and_then_with_how_many_there_were(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 0.0
    complaints = Complaints(logging.getLogger("x"), clock=lambda: now_s)
    for kind in ("slow", "slow", "slow", "dead"):
        complaints.warn(kind, "%s", kind)
    assert caplog.messages == ["slow", "dead"]
    now_s = EVERY_S
    for kind in ("slow", "slow", "dead"):
        complaints.warn(kind, "%s", kind)
    assert caplog.messages[2:] == ["slow (and 2 more of this kind since the last line)", "dead"]
