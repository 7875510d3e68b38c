"""A host of the bed: a namespace with an address, and what runs there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO, Any

from tests.wan import netns


class Host:
    """One node; for other datacenters it may have another address, empty for the same, and higher ports."""

    def __init__(self, namespace: str, address: str, *, wan_address: str = "", wan_shift: int = 0) -> None:
        self.namespace = namespace
        self.address = address
        self.wan_address, self.wan_shift = wan_address, wan_shift

    def inside(self) -> AbstractContextManager[None]:
        """The calling thread is on this host: the sockets and processes that it makes are."""
        return netns.inside(self.namespace)

    def enter(self) -> None:
        """Take the calling thread there for good."""
        netns.enter(self.namespace)

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run on this host, with its output as text; the status is the caller's to judge."""
        with self.inside():
            return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    def popen(
        self, command: Sequence[str], *, log: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process on this host, in a session of its own, with its output appended to `log`."""
        with ExitStack() as stack:
            output: IO[bytes] | int = stack.enter_context(log.open("ab")) if log else subprocess.DEVNULL
            stack.enter_context(self.inside())
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
