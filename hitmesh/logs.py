"""What a line of a process's log looks like. Every role's log goes through `log_to_stderr`.

Invariant: a record is one line that begins with its time, whatever is in its message; the lines of a
traceback follow, each indented, so none of them can be taken for a record.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

from hitmesh.output import free_stderr
from hitmesh.visible import visible

EVERY_S: Final = 10.0  # between two lines about one kind of thing, of which others cause as many as they like
ROLE: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_Exception = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Lines(logging.Formatter):
    """A record as a line, with nothing in it that a terminal would obey."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return visible(super().formatMessage(record))

    def formatException(self, ei: _Exception) -> str:  # noqa: N802 - logging's name
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        return _indented(super().formatStack(stack_info))


class Complaints:
    """Warnings of what others can cause as often as they like: of each kind one line now and then, with their number."""

    def __init__(self, log: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}  # when the last line was, and how many weren't written since

    def warn(self, kind: str, text: str, *arguments: object) -> None:
        """Something of `kind`, one of a few, has happened."""
        now_s = self._clock()
        last_s, untold = self._kinds.get(kind, (float("-inf"), 0))
        if now_s - last_s < EVERY_S:
            self._kinds[kind] = last_s, untold + 1
            return
        self._kinds[kind] = now_s, 0
        if untold:
            text += f" (and {untold} more of this kind since the last line)"
        self._log.warning(text, *arguments)


def log_to_stderr(form: str = ROLE) -> None:
    """Write this process's log to stderr, in the form of `logging.Formatter`; from now on that stops nobody."""
    free_stderr()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _indented(text: str) -> str:
    return "\n".join(f"    {visible(line)}" for line in text.split("\n"))
