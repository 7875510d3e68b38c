"""The lines of a log file, whatever wrote them: LF, CR LF or CR alone, a byte order mark, gzip. Thin I/O.

Owns how a file's bytes become lines, and how many were read; knows nothing of what a line says.
Bounded: a line beyond MAX_LINE_CHARS is refused, not held.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hitmesh.errors import CommandError

MAX_LINE_CHARS: Final = 64 * 1024  # a request line of 8 KiB, a referrer and cookies are far below
_GZIP: Final = b"\x1f\x8b"


class LogFile:
    """A log that is open for reading; "-" is standard input. Raises CommandError when it can't be read."""

    def __init__(self, file: str) -> None:
        self.size_bytes: int | None = None  # as it is on the disk; None: unknown
        self.broken = ""  # why reading ended before the file did
        try:
            if file == "-":
                from gevent.fileobject import FileObject

                # Waits for a slow pipe without holding up the answers.
                self._raw: Any = FileObject(sys.stdin.fileno(), "rb", closefd=False)
            else:
                path = Path(file)
                self._raw = path.open("rb")
                self.size_bytes = path.stat().st_size or None
            data = gzip.GzipFile(fileobj=self._raw) if self._raw.peek(2)[:2] == _GZIP else self._raw
        except (OSError, ValueError, AttributeError) as error:  # the latter two: there is no standard input
            reason = getattr(error, "strerror", None) or "it is closed"
            raise CommandError(f"{file}: can't be read: {reason}") from error
        # The signature is taken away at the start only; what isn't UTF-8 stays as it is, as surrogates.
        self._text = io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape", newline=None)

    @property
    def read_bytes(self) -> int:
        """How much of the file has been read."""
        return int(self._raw.tell()) if self.size_bytes is not None else 0

    def __iter__(self) -> Iterator[str | None]:
        """The lines, without their ends; None is one that is too long."""
        is_rest = False
        while line := self._next():
            ends = line.endswith("\n")
            is_long = is_rest or not (ends or len(line) < MAX_LINE_CHARS)
            if not is_long:
                yield line.removesuffix("\n")
            elif not is_rest:
                yield None
            is_rest = is_long and not ends

    def _next(self) -> str:
        try:
            return self._text.readline(MAX_LINE_CHARS)
        except (OSError, EOFError, zlib.error) as error:
            self.broken = getattr(error, "strerror", None) or str(error)
            return ""
