"""`-w`: the same look again and again, on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.cli import redraw
from hitmesh.cli.main import run
from hitmesh.cli.redraw import fitted
from tests.services import PATIENCE_S

BEGIN, END = b"\x1b[?1049h", b"\x1b[?1049l"
ROWS, COLUMNS = 6, 30
# A look that tells how often it was made, with a name that would move the cursor, and once an error.
PROGRAM = """
import itertools
from hitmesh.cli.redraw import redraw
from hitmesh.errors import CommandError
looks = itertools.count(1)
def look():
    number = next(looks)
    if number == 2:
        raise CommandError("no mesh runs here")
    return [f"look {number}", "\\x1b[2Jevil\\u202e", *map(str, range(20)), "x" * 500]
redraw(look)
"""


def test_what_does_not_fit_on_a_screen_is_counted() -> None:
    assert fitted(["one", "two", "three"], 2, 3) == ["on", "tw", "th"]
    assert fitted(["one", "two", "three"], 80, 2) == ["one", "... 2 more lines"]
    assert fitted(["one"], 80, 0) == ["... 1 more lines"]


class Terminal:
    """A terminal in which the program runs."""

    def __init__(self) -> None:
        self.ours, theirs = pty.openpty()
        self.resize(ROWS, COLUMNS)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, wanted: bytes, after: int = 0) -> int:
        """Read until this has been shown; where it stands."""
        deadline = time.monotonic() + PATIENCE_S
        while (at := self.seen.find(wanted, after)) < 0:
            assert select.select([self.ours], [], [], max(0.0, deadline - time.monotonic()))[0], self.seen
            try:
                self.seen += os.read(self.ours, 65536)
            except OSError:  # its other end is closed: the program has ended
                raise AssertionError(f"never shown: {wanted!r}") from None
        return at


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.process.kill()
    made.process.wait()
    os.close(made.ours)


def test_a_size_that_changes_at_any_moment_never_stops_it(terminal: Terminal) -> None:
    at = terminal.until(b"look 3")
    for _ in range(3000):
        os.kill(terminal.process.pid, signal.SIGWINCH)
        if select.select([terminal.ours], [], [], 0)[0]:
            terminal.seen += os.read(terminal.ours, 65_536)
    number = int(terminal.seen[terminal.seen.rfind(b"look ") + 5 :].split(b"\x1b")[0])
    terminal.until(b"look %d\x1b" % (number + 2), at)


def test_a_terminal_shows_it_in_place_and_is_left_as_it_was(terminal: Terminal) -> None:
    terminal.until(b"look 1")
    terminal.until(b"no mesh runs here")
    third = terminal.until(b"look 3")
    terminal.until(b"\x1b[J", third)
    frame = terminal.seen[terminal.seen.rfind(b"\x1b[H", 0, third) : terminal.seen.find(b"\x1b[J", third)]
    assert len(frame.split(b"\r\n")) == ROWS, "as many lines as there is room for"
    assert b"\\x1b[2Jevil\\u202e" in frame, "names are text"
    assert b"... 18 more lines" in frame
    terminal.resize(40, 300)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.until(b"x" * 300)
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.process.wait(PATIENCE_S) == 0
    terminal.until(END)
    assert terminal.seen.count(BEGIN) == terminal.seen.count(END) == 1
    assert b"Traceback" not in terminal.seen


def test_a_terminal_is_left_as_it_was_when_the_program_is_told_to_end(terminal: Terminal) -> None:
    terminal.until(b"look 1")
    terminal.process.terminate()
    assert terminal.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    terminal.until(END)


def test_elsewhere_there_are_plain_lines(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(25)]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert shown[0] == "look 1\n"
    assert shown[1] == "\\x1b[2Jevil\\u202e\n"
    assert shown[23:] == ["no mesh runs here\n", "look 3\n"]
    assert "\x1b" not in "".join(shown)


@pytest.mark.parametrize("command", ["status", "top"])
def test_where_there_is_no_mesh_at_all_it_ends_with_one_line(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redraw, "EVERY_S", 0.0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert run([command, "-w", "--state-dir", str(tmp_path / "nowhere")]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "no mesh in" in told.err
