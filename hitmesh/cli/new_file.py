"""A file that a command writes: whole or not at all, and never in place of another."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hitmesh.errors import CommandError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there when all of it is on disk. `-` is standard output. Raises CommandError."""
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two at once don't write into one
    try:
        with partial.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.link(partial, path)
    except FileExistsError as error:
        raise CommandError(f"{path} is there already", hint="nothing is written over another file") from error
    except OSError as error:
        raise CommandError(f"{path}: can't be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
