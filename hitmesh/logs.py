"""A process's log: where it goes, in which form, from which level on. Every role's goes through `log_to_stderr`.

What a line looks like is `hitmesh.lines`'; docs/operations/logs.md says what the levels mean, and has the fields.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from hitmesh import compiled
from hitmesh.lines import FORMS, TEXT, UNKNOWN, Fields, Lines, Speaker
from hitmesh.output import free_stderr

EVERY_S: Final = 10.0  # between two lines about one kind of thing, of which others cause as many as they like
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Complaints:
    """Warnings of what others can cause as often as they like: of each kind one line now and then, with their number."""

    def __init__(self, log: logging.Logger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}  # when the last line was, and how many weren't written since

    def warn(self, kind: str, text: str, *arguments: object, fields: Fields | None = None) -> None:
        """Something of `kind`, one of a few, has happened."""
        now_s = self._clock()
        last_s, untold = self._kinds.get(kind, (float("-inf"), 0))
        if now_s - last_s < EVERY_S:
            self._kinds[kind] = last_s, untold + 1
            return
        self._kinds[kind] = now_s, 0
        if untold:
            text += f" (and {untold} more of this kind since the last line)"
            fields = {**(fields or {}), "untold": untold}
        self._log.warning(text, *arguments, extra={"fields": fields or {}})


class _ToStderr(logging.StreamHandler[Any]):
    """The handler of a role's log, by which it is found again."""


def log_to_stderr(speaker: Speaker = UNKNOWN, *, form: str = TEXT, level: str = "info") -> None:
    """Write this process's log to stderr, in one of FORMS, from one of LEVELS on; from now on that stops nobody."""
    free_stderr()
    root = logging.getLogger()
    for before in [each for each in root.handlers if isinstance(each, _ToStderr)]:
        root.removeHandler(before)
    handler = _ToStderr(sys.stderr)
    handler.setFormatter(FORMS[form](speaker))
    root.addHandler(handler)
    set_level(level)
    if speaker is not UNKNOWN and (why := compiled.trouble()):
        logging.getLogger("hitmesh").warning("runs interpreted, which is slower: %s", why)


def set_level(level: str) -> None:
    """From now on what is below this one of LEVELS isn't written."""
    logging.getLogger().setLevel(LEVELS[level])


def as_line(logger: str, message: str) -> str:
    """An error as a line of this process's log, for who can't wait for a lock."""
    return form_in_use().format(logging.LogRecord(logger, logging.ERROR, "", 0, message, None, None)) + "\n"


def form_in_use() -> logging.Formatter:
    """That of this process's log, for whoever has handlers of his own, as gunicorn does."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _ToStderr) and handler.formatter is not None:
            return handler.formatter
    return Lines()
