"""How this process becomes the next version of its program, with what it holds.

The next version first runs beside us, only to load everything; then `exec` puts it in our place.
Knows nothing of what is handed over. Signals must be blocked, as the master has them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from msgspec import Struct

from balancer.process import handover
from balancer.process.handover import Handover
from balancer.process.processes import keep_text, spawn


class Check(Struct, frozen=True):
    """A run of the next version that tells whether it would start: its status is 0 then."""

    pid: int
    deadline: float
    text: bytes | None  # of the configuration that it looks at


def check_next(command: Sequence[str], text: bytes | None, left: Handover, *, deadline: float) -> Check:
    """Start the check that `command` can live with `text` and with what would be `left`. Raises OSError."""
    fd = None if text is None else keep_text(text)
    try:
        arguments = ["--check", *([] if fd is None else ["--config-fd", str(fd)])]
        pid = spawn(
            [*command, *arguments],
            inherited=[] if fd is None else [fd],
            environment={**os.environ, handover.VARIABLE: left.encode()},
        )
    finally:
        if fd is not None:
            os.close(fd)
    return Check(pid, deadline, text)


def become_next(command: Sequence[str], left: Handover) -> NoReturn:
    """Become `command`. Raises OSError, and then nothing has changed."""
    try:
        for fd in left.fds():
            os.set_inheritable(fd, True)
        environment = {**os.environ, handover.VARIABLE: left.encode()}
        os.execve(command[0], list(command), environment)  # noqa: S606 - what started this process starts the next
    finally:
        for fd in left.fds():
            os.set_inheritable(fd, False)
