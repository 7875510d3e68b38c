"""Real beanstalkd servers, on disk and synced at each job, as hitmesh wants them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import greenstalk

from tests.services import PATIENCE_S, Server, free_port, require, wait_for

HOST = "127.0.0.1"
ANSWER_S = 10.0  # on a busy machine; one that is down refuses at once


class Beanstalkd(Server):
    """One server; `start` after `kill` or `stop` takes up its log again.

    `binlog` None starts it without a log; `extra` options come last, and so win.
    """

    name = "beanstalkd"

    def __init__(self, folder: Path, *, binlog: Path | str | None = "", extra: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.binlog = folder / "binlog" if binlog == "" else binlog
        self.extra = list(extra)

    def command(self) -> list[str]:
        options = ["-l", HOST, "-p", str(self.port), "-f", "0", "-z", str(8 * 1024 * 1024)]
        if self.binlog is not None:
            Path(self.binlog).mkdir(exist_ok=True)
            options += ["-b", str(self.binlog)]
        return [require("beanstalkd"), *options, *self.extra]

    def is_up(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=ANSWER_S) as sock:
                greenstalk.Client(sock, encoding=None).close()
        except OSError:
            return False
        return True

    def url(self, tube: str) -> str:
        """The spool URL of a tube of this server."""
        return f"beanstalk://{HOST}:{self.port}/{tube}"

    @contextlib.contextmanager
    def failing_write(self) -> Iterator[None]:
        """Its next write fails with EIO. A put or a delete writes its log first; everything else writes its reply."""
        assert self.process is not None
        pid = str(self.process.pid)
        trace = self.folder / "strace.log"
        with trace.open("wb") as messages:
            strace = subprocess.Popen(
                [require("strace"), "-p", pid, "-o", str(self.folder / "calls.log"),
                 "-e", "trace=write", "-e", "inject=write:error=EIO:when=1"],
                stderr=messages,
            )  # fmt: skip
        try:
            wait_for(lambda: b"attached" in trace.read_bytes(), what="strace to attach")
            yield
        finally:
            strace.terminate()
            strace.wait(PATIENCE_S)

    def forget(self) -> None:
        """Remove its log: it starts with an empty folder next time. It must not run."""
        assert self.process is None
        assert self.binlog is not None
        shutil.rmtree(self.binlog)
