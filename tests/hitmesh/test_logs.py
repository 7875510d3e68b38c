"""What a process writes to its log."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from gunicorn.config import Config as GunicornConfig

from hitmesh.collector.server import _Log
from hitmesh.lines import Lines, Logfmt, Speaker
from hitmesh.logs import EVERY_S, Complaints, log_to_stderr

FORGED = "\r\n2026-01-01 00:00:00,000 INFO root: all is well\x1b[2K\u202e"


def written(message: str, *arguments: object, error: BaseException | None = None) -> list[str]:
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, message, arguments, info)
    return Lines().format(record).split("\n")


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    [line] = written("refused %s", FORGED)
    assert line.endswith("refused \\r\\n2026-01-01 00:00:00,000 INFO root: all is well\\x1b[2K\\u202e")


def test_no_line_of_a_traceback_can_be_taken_for_a_record() -> None:
    _, *lines = written("failed", error=ValueError(FORGED))
    assert len(lines) == 2
    assert all(line.startswith("    ") and line.isprintable() for line in lines)


START = """
from pathlib import Path
{imports}
config = Path({config!r})
{start}
import logging
logging.getLogger("x").debug("nobody asked")
logging.getLogger("x").warning("a %s", "b\\n\\x1bc", extra={{"fields": {{"n": 1}}}})
"""


@pytest.mark.parametrize(
    ("role", "imports", "start"),
    [
        ("collector", "from hitmesh.cli import roles", "roles._begin(config, 'collector', 'one')"),
        (
            "balancer",
            "from balancer import main, front",
            "main._log_as(front.configured(config.read_bytes(), file=config, name='one', state_dir=Path()), 'one')",
        ),
    ],
)
@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("text", "dc/{role}/one WARNING x: a b\\n\\x1bc n=1\n"),
        ("logfmt", ' level=warning dc=dc role={role} name=one logger=x message="a b\\n\\x1bc" n=1\n'),
    ],
)
def test_every_role_logs_as_its_file_says(
    role: str, imports: str, start: str, form: str, line: str, tmp_path: Path
) -> None:
    file = tmp_path / "dc.toml"
    node = 'name = "dc"\n[nodes.local]\naddress = "127.0.0.1"\nnexus = 2\nprocessor = 1\ncollector = 1\nbalancer = 1\n'
    file.write_text(f'{node}[log]\nformat = "{form}"\n')
    code = START.format(imports=imports, config=str(file), start=start)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr.endswith(line.format(role=role))
    assert answer.stderr.count("\n") == 1


@pytest.fixture
def no_log() -> Iterator[None]:
    root, stream = logging.getLogger(), sys.stderr
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], sys.stderr = handlers, stream
    root.setLevel(level)


@pytest.mark.usefixtures("no_log")
def test_so_does_gunicorn() -> None:
    log_to_stderr(Speaker("dc", "collector", "one"), form="logfmt")
    log = _Log(GunicornConfig())
    assert [type(handler.formatter) for handler in log.error_log.handlers] == [Logfmt]


@pytest.mark.usefixtures("no_log")
def test_to_set_it_up_again_replaces_what_was() -> None:
    before = len(logging.getLogger().handlers)
    for _ in range(2):
        log_to_stderr(level="error")
    assert len(logging.getLogger().handlers) == before + 1
    assert logging.getLogger().level == logging.ERROR


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
    assert caplog.records[2].fields == {"untold": 2}  # type: ignore[attr-defined]
