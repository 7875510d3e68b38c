"""What a line of a process's log looks like. Every role's log goes through `log_to_stderr`.

Invariant: a record is one line that begins with its time, whatever is in its message; the lines of a
traceback follow, each indented, so none of them can be taken for a record.
"""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Final

from hitmesh.output import free_stderr
from hitmesh.visible import visible

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


def log_to_stderr(form: str = ROLE) -> None:
    """Write this process's log to stderr, in the form of `logging.Formatter`; from now on that stops nobody."""
    free_stderr()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _indented(text: str) -> str:
    return "\n".join(f"    {visible(line)}" for line in text.split("\n"))
