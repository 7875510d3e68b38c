"""What a process writes, without being stopped by it: a pipe that is full or without a reader, a full disk.

Owns how bytes leave for a descriptor without waiting, and the standard error of a role: what can't be
written is kept, up to MAX_KEPT_BYTES, and what is beyond that is lost and counted, never waited for.
Knows nothing of what is written. Takes no lock and imports no gevent: the hub, its greenlets and
native threads may all write.
"""

from __future__ import annotations

import _socket
import errno
import io
import os
import stat
import sys
from collections import deque
from typing import Any, Final, Protocol

UNWRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
STDOUT_FD: Final = 1
STDERR_FD: Final = 2
PIPE_BYTES: Final = 4096  # PIPE_BUF: so much goes into a pipe whole or not at all, also beside other processes' lines
FILE_BYTES: Final = 4 * 1024 * 1024  # at once into a file
MAX_KEPT_BYTES: Final = 256 * 1024  # of a role's last words, while nothing can be written: some 2,000 lines

# Non-blocking is for pipes; and a terminal doesn't become ours.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Output(Protocol):
    """Where bytes can be written without waiting."""

    def write(self, lines: bytearray) -> int:
        """How many were taken. Raises OSError; BlockingIOError when none can be for now."""

    def close(self) -> None:
        """Write no more."""


class _File:
    """A descriptor that isn't shared with anybody who would mind its being non-blocking; a terminal may block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._most_bytes = FILE_BYTES if stat.S_ISREG(os.fstat(descriptor).st_mode) else PIPE_BYTES

    def write(self, lines: bytearray) -> int:
        return os.write(self._descriptor, _beginning(lines, self._most_bytes))

    def close(self) -> None:
        os.close(self._descriptor)


class _Socket:
    """A standard stream as systemd gives it: shared, so it stays blocking, and each write says that it doesn't wait."""

    def __init__(self, descriptor: int) -> None:
        self._socket = _socket.socket(fileno=os.dup(descriptor))  # not gevent's, which would make it non-blocking

    def write(self, lines: bytearray) -> int:
        return self._socket.send(_beginning(lines, PIPE_BYTES), _socket.MSG_DONTWAIT)

    def close(self) -> None:
        self._socket.close()


def of_file(path: str) -> Output:
    """A file, made where there is none. Raises OSError."""
    return _File(os.open(path, _FLAGS | os.O_CREAT, 0o640))


def of_descriptor(number: int) -> Output:
    """A standard stream of this process. Raises OSError."""
    mode = os.fstat(number).st_mode
    if stat.S_ISSOCK(mode):
        return _Socket(number)
    if stat.S_ISREG(mode):
        return _File(os.dup(number))  # with the place in it, which others that write there share
    try:
        descriptor = os.open(f"/proc/self/fd/{number}", _FLAGS)  # opened anew, it is ours alone
    except OSError:
        descriptor = os.dup(number)  # somebody else's terminal or pipe, or a pipe without a reader
        if stat.S_ISFIFO(mode):  # supervisord's, which is root: only those that it starts write there
            os.set_blocking(descriptor, False)
    return _File(descriptor)


class Stream(io.TextIOBase):
    """A text stream that never waits and never raises. What it can't write is written by a later call, or lost."""

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.lost = 0
        """How many writes found no place."""
        self._lost_told = 0
        self._descriptor = descriptor
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._begun = bytearray()  # taken from those, and not written yet
        self._turn: deque[None] = deque([None])  # who has it writes; pop and append are atomic between threads
        try:
            self._output: Output | None = of_descriptor(descriptor)
        except OSError:
            self._output = None

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "backslashreplace")
        if self._kept_bytes + len(data) > MAX_KEPT_BYTES:
            self.lost += 1
        else:
            self._kept_bytes += len(data)
            self._kept.append(data)
        self.flush()
        return len(text)

    def flush(self) -> None:
        while self._kept or self._begun:
            try:
                self._turn.pop()
            except IndexError:
                return  # another thread writes, or we are in the middle of it: it sees what is there
            try:
                if not self._write_out():
                    return
            finally:
                self._turn.append(None)

    def _write_out(self) -> bool:
        """Write all there is; whether that went well."""
        if self._output is None:
            return False
        while True:
            while self._kept:
                self._begun += self._kept.popleft()
            if not self._begun and self.lost > self._lost_told:
                self._begun += b"(%d writes to this log were lost)\n" % (self.lost - self._lost_told)
                self._lost_told = self.lost
            if not self._begun:
                self._kept_bytes = 0
                return True
            try:
                del self._begun[: self._output.write(self._begun)]
            except OSError:
                return False
            self._kept_bytes = len(self._begun)


def free_stderr() -> None:
    """From now on this process's standard error stops nobody; for a role, before it sets up its log.

    A standard stream that was closed becomes /dev/null, or the next file or socket would take its number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR_FD:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if not isinstance(sys.stderr, Stream):
        sys.stderr = Stream(STDERR_FD)


def is_unwritten(error: OSError) -> bool:
    """Whether it is a command's own output that can't be written, or that nobody reads any more."""
    return error.filename is None and (isinstance(error, BrokenPipeError) or error.errno in UNWRITTEN)


def give_up(error: OSError) -> str:
    """Write nothing more to stdout; what a command that couldn't has to say of it, nothing where nobody reads on.

    Otherwise the interpreter would try again when it ends, and complain.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return "" if isinstance(error, BrokenPipeError) else f"the output can't be written: {error.strerror or error}"


def lost() -> int:
    """How many writes to this process's standard error found no place."""
    stream: Any = sys.stderr
    return stream.lost if isinstance(stream, Stream) else 0


def _beginning(lines: bytearray, most_bytes: int) -> bytearray:
    """So much of `lines`, up to the end of one where there is one."""
    if len(lines) <= most_bytes:
        return lines
    return lines[: lines.rfind(b"\n", 0, most_bytes) + 1 or most_bytes]
