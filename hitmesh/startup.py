"""What every process of hitmesh does first: its files are its own user's, its three streams do no harm, and where it
runs on gevent the standard library is patched.

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


def patch() -> None:
    """Have gevent patch the standard library, but for ssl: it is slow to import, and nobody here needs it patched."""
    from gevent import monkey

    forgo_plugins()
    monkey.patch_all(ssl=False)


def forgo_plugins() -> None:
    """Have gevent ask no other package when it patches: it would read the metadata of all that is installed two dozen
    times, which takes 0.1 s of each start.
    """
    from gevent import events

    events.notify_and_call_entry_points = events.notify  # type: ignore[attr-defined]  # its stubs have neither


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
