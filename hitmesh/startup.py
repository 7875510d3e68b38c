"""What every process of hitmesh does first: its files are its own user's, and its three streams do no harm.

Imported before gevent has patched: nothing but the standard library's os, sys and io may be imported here.
"""

from __future__ import annotations

import io
import os
import sys

PRIVATE = 0o077  # the umask: pages and live routes are nobody else's business


def prepare() -> None:
    """Set the umask; open what is closed of stdin, stdout and stderr; let no output fail for its characters."""
    os.umask(PRIVATE)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Or the next file that is opened is taken for it, and what is printed goes into a store.
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Harmless(sys.stderr)


class _Harmless(io.TextIOWrapper):
    """stderr, on which nothing fails: who has lost the reader of its complaints, or the disk, goes on."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        encoding = stream.encoding
        super().__init__(stream.detach(), encoding, errors="backslashreplace", line_buffering=True)

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:  # noqa: SIM105 - contextlib takes a lock
            super().flush()
        except OSError:
            pass
