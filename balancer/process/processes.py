"""The worker processes, one at a time: how one is started, says that it is ready, and is told to begin.

Knows nothing of generations and of what a worker does. Every descriptor that a worker gets is
named on its command line (`--fds http=3,tls=4 --ready-fd 6 --alive-fd 7 --config-fd 8 --beats-fd 9`):

- ready: a stream socket. The worker sends READY when it could serve, and waits; the master answers
  BEGIN when it shall take connections. End of file instead: it isn't wanted, or the master is gone.
- alive: a pipe that nobody writes to. The master alone holds its other end, through `exec` too: end
  of file means that the master is gone, and the worker drains and ends.
- beats: a file in memory, see `balancer.process.beats`.
- config: the text of the configuration, from offset 0. A file that has been changed since, perhaps
  to something wrong, can't harm a worker that is started again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from balancer.process import beats
from balancer.process.listeners import Given

READY: Final = b"R"
BEGIN: Final = b"B"

# What the master waits for; blocked but while it waits, so that none is lost, not even by an exec.
SIGNALS: Final = frozenset({
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2,
    signal.SIGCHLD,  # a process has ended
    signal.SIGIO,  # a worker has said something
})  # fmt: skip

KILL_GRACE_S: Final = 2.0  # beyond a worker's own deadline, and well before supervisor's patience ends
STEADY_S: Final = 10.0  # a worker that served as long as this hasn't died at once
# Before a worker that died at once is started again: the first time it may have been an accident.
DELAYS_S: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)


def delay_s(deaths: int) -> float:
    """How long a worker is left alone that has died at once `deaths` times in a row, at least 1."""
    return DELAYS_S[min(deaths, len(DELAYS_S)) - 1]


def ending(status: int) -> str:
    """What `os.waitpid` says, for people."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with status {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def reaped() -> Iterator[tuple[int, int]]:
    """Every child that has ended: its pid, and its status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def spawn(command: Sequence[str], *, inherited: Iterable[int], environment: Mapping[str, str] | None = None) -> int:
    """Start `command` with these descriptors under their own numbers; its pid. Raises OSError."""
    return os.posix_spawn(
        command[0],
        list(command),
        os.environ if environment is None else environment,
        # A descriptor put on itself stays open in the child; all others are closed by its exec.
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in inherited],
        setsigmask=(),
        setsigdef=SIGNALS,
    )


def keep_text(text: bytes) -> int:
    """A descriptor of a file in memory that holds `text`."""
    fd = os.memfd_create("balancer-config")
    with open(fd, "wb", closefd=False) as file:
        file.write(text)
    return fd


def read_text(fd: int) -> bytes:
    """What `keep_text` put there; the descriptor's offset, which is shared, isn't moved."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


class Worker:
    """One worker process of ours, until it is reaped."""

    def __init__(
        self, index: int, pid: int, *, now: float, channel: socket.socket | None, beats_fd: int | None
    ) -> None:
        self.index = index
        self.pid = pid
        self.since = now  # when it was started; when it was ready, once it is
        self.ready = channel is None  # a worker that was handed over serves already
        self.beats_fd = beats_fd
        self._channel = channel

    def __str__(self) -> str:
        return f"worker {self.index} (pid {self.pid})"

    def heard(self, now: float) -> bool:
        """Whether it has become ready since the last call."""
        if self.ready or self._channel is None:
            return False
        try:
            word = self._channel.recv(1)
        except OSError:  # nothing yet, or it is gone, which its end will tell
            return False
        if word == READY:
            self.ready, self.since = True, now
        return self.ready

    def begin(self) -> None:
        """Let it take connections."""
        if self._channel is not None:
            with contextlib.suppress(OSError):  # it is gone, which its end will tell
                self._channel.send(BEGIN)
        self._hush()

    def last_beat(self) -> float:
        """When it last said that it is well; 0.0 while it doesn't have to."""
        return beats.last_beat(self.beats_fd) if self.ready and self.beats_fd is not None else 0.0

    def wanted(self) -> int | None:
        """How many workers it says are wanted; None: it says nothing."""
        return beats.wanted(self.beats_fd) if self.ready and self.beats_fd is not None else None

    def close(self) -> None:
        """Say nothing more to it, nor look at it."""
        self._hush()
        if self.beats_fd is not None:
            os.close(self.beats_fd)
            self.beats_fd = None

    def _hush(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def start_worker(
    command: Sequence[str],
    index: int,
    given: Given,
    *,
    alive_fd: int,
    text_fd: int | None,
    hung: int,
    generation: int,
    now: float,
) -> Worker:
    """Start `command` as a worker; `hung` is what it shall know of others, `generation` of itself. Raises OSError."""
    with contextlib.ExitStack() as failed:
        beats_fd = beats.make_file(hung, generation)
        failed.callback(os.close, beats_fd)
        ours, theirs = socket.socketpair()
        failed.callback(ours.close)
        ours.setblocking(False)
        # SIGIO when it says something, or closes its end.
        fcntl.fcntl(ours, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | os.O_ASYNC)
        with theirs:
            inherited = [sock.fileno() for sockets in given.values() for sock in sockets]
            fds = [f"{kind}={sock.fileno()}" for kind, sockets in given.items() for sock in sockets]
            arguments = ["--worker", str(index), "--fds", ",".join(fds)]
            named = (("ready", theirs.fileno()), ("alive", alive_fd), ("config", text_fd), ("beats", beats_fd))
            for name, fd in named:
                if fd is not None:
                    arguments += [f"--{name}-fd", str(fd)]
                    inherited.append(fd)
            pid = spawn([*command, *arguments], inherited=inherited)
        failed.pop_all()
    return Worker(index, pid, now=now, channel=ours, beats_fd=beats_fd)
