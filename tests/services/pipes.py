"""Pipes that take nothing, for what a process writes when nobody reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def broken_pipe(*, full: bool) -> Iterator[int]:
    """The writing end of a pipe that is full and isn't read, or of one whose reader is gone."""
    reader, writer = os.pipe()
    try:
        if full:
            os.set_blocking(writer, False)
            try:
                while True:
                    os.write(writer, b"\0" * 4096)
            except BlockingIOError:
                os.set_blocking(writer, True)
        else:
            os.close(reader)
        yield writer
    finally:
        os.close(writer)
        if full:
            os.close(reader)
