"""Secrets in files: read only where nobody but their owner can. Owns what is wrong with such a file, in words.

What is in it is never part of an error.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from hitmesh.errors import ConfigError

MAX_SECRET_BYTES: Final = 65_536  # of a certificate's chain with its key; a token or a key has some dozens


def read_secret(path: Path) -> bytes:
    """What is in the file, whole. Raises ConfigError, also when others than its owner can read or change it."""
    try:
        # Not to wait for whoever may write into a pipe of that name.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path}: is not a file")
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path}: others can read this secret (mode {stat.S_IMODE(mode):04o})", hint="chmod 600")
    if len(content) > MAX_SECRET_BYTES:
        raise ConfigError(f"{path}: has more than {MAX_SECRET_BYTES} bytes")
    return content
