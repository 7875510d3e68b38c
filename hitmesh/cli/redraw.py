"""The same look again and again: in place on a terminal, else as plain lines.

Owns the terminal while it runs, and leaves it as it was: another screen, without cursor and without wrapped lines. It
must not know what is looked at.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hitmesh.errors import HitmeshError
from hitmesh.visible import visible

EVERY_S: Final = 1.0
MANY: Final = 4096  # changes of size that are shown at once
SHARE: Final = 0.5  # of the time at most that looking takes: a store that is slow to read has others to serve

_BEGIN: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # another screen, no cursor, no wrapping
_END: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"


def redraw(look: Callable[[], Sequence[str]]) -> None:
    """Show what `look` says, each second, until Ctrl-C or SIGTERM.

    A HitmeshError of its is shown in its place; of the first one it is raised: whoever asks has made a mistake.
    """
    in_place, is_first = sys.stdout.isatty(), True
    with contextlib.suppress(KeyboardInterrupt), _terminal(in_place) as resized:
        while True:
            began = time.monotonic()
            try:
                lines = [visible(line) for line in look()]
            except HitmeshError as error:
                if is_first:
                    raise
                lines = [visible(str(error))]
            is_first, took_s = False, time.monotonic() - began
            _show(lines, in_place=in_place)
            due = began + max(EVERY_S, took_s / SHARE)
            while (left_s := due - time.monotonic()) > 0:
                if select.select([resized], [], [], left_s)[0]:
                    os.read(resized, MANY)
                    _show(lines, in_place=in_place)


def fitted(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """As many of the lines as a screen has room for, cut to its width; the last one says how many there are besides."""
    if len(lines) > rows:
        shown = max(0, rows - 1)
        lines = [*lines[:shown], f"... {len(lines) - shown} more lines"]
    return [line[:columns] for line in lines]


def _show(lines: Sequence[str], *, in_place: bool) -> None:
    if in_place:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())  # not COLUMNS, which a shell sets once
        text = f"{_CLEAR_LINE}\n".join(fitted(lines, columns or 80, rows or 24))  # some don't know theirs
        sys.stdout.write(_HOME + text + _CLEAR_LINE + _CLEAR_BELOW)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


@contextlib.contextmanager
def _terminal(in_place: bool) -> Iterator[int]:
    """The terminal is ours meanwhile; the descriptor has something to read when it has got another size."""
    # Not an Event: to set one in a signal's handler waits for ever if the signal came while its lock was held.
    resized, telling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGTERM, _end)
    try:
        if not in_place:
            yield resized
            return
        signal.signal(signal.SIGWINCH, lambda *_: _tell(telling))
        sys.stdout.write(_BEGIN)
        try:
            yield resized
        finally:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
            sys.stdout.write(_END)
            sys.stdout.flush()
    finally:
        os.close(resized)
        os.close(telling)


def _tell(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):  # it has been told often enough
        os.write(descriptor, b".")


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)
