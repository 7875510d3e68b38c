"""`python -m hitmesh.cli.supervisord`: supervisord, but that its logs can't end it, nor those of its programs.

supervisord tells of a log that it can't write on its standard error, and dies when that fails too, as
where both are on one full disk; a log that is to be moved away just then ends it as well, or ends the
reading of its program's output. Here such lines are lost, and the file is opened again by the next one.
Knows nothing of hitmesh.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import supervisor.loggers
import supervisor.supervisord


class LastingFile(supervisor.loggers.RotatingFileHandler):  # type: ignore[misc]
    """supervisor's file of lines; nothing that happens to its disk leaves it."""

    def emit(self, record: Any) -> None:
        """Write a line, or lose it."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: of a file that is closed
            if self.stream.closed:  # it couldn't be opened again when it was moved away
                self.stream: Any = Path(self.baseFilename).open("ab")  # noqa: SIM115 - until it is moved away
            super().emit(record)

    def handleError(self) -> None:  # noqa: N802 - supervisor's name
        """A line couldn't be written: it is lost."""

    def reopen(self) -> None:
        """Go on in a new file of the same name."""
        with contextlib.suppress(OSError):
            super().reopen()

    def close(self) -> None:
        """Write no more."""
        with contextlib.suppress(OSError, ValueError):
            super().close()


def main() -> None:
    """Run supervisord with its own command line."""
    supervisor.loggers.RotatingFileHandler = LastingFile
    supervisor.supervisord.main()


if __name__ == "__main__":
    main()
