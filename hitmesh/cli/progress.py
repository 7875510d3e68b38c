"""What a command waits for, shown on stderr: in place on a terminal, else a line now and then."""

from __future__ import annotations

import shutil
import sys
import time

from hitmesh.visible import visible

PROGRESS_S = 1.0  # between two lines of progress, where it can't be shown in place


class Progress:
    """What is being waited for: one line in place on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._in_place = sys.stderr.isatty()
        self._last = ""
        self._due = time.monotonic() + PROGRESS_S

    def show(self, text: str) -> None:
        """Say it, unless it was said just now."""
        text = visible(text)
        if text == self._last:
            return
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() >= self._due:
            print(text, file=sys.stderr, flush=True)
            self._due = time.monotonic() + PROGRESS_S
        else:
            return
        self._last = text

    def end(self) -> None:
        """Leave nothing of it on a terminal."""
        if self._in_place and self._last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
