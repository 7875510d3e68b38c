"""One non-blocking stream socket on gevent's hub.

Owns the socket, its two watchers and what couldn't be sent yet; knows nothing of what the bytes
mean. A subclass gets `received`, `ended`, `lost` and `drained`, called by the hub: they must not
block or switch, and what they raise is a bug, which ends the connection and is logged.

Invariants:
- After `close` nothing is called any more.
- What a slow receiver hasn't taken is bounded by whoever feeds it: `send` says False once
  something had to be kept, and `drained` is called when it is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import ssl
import struct
import sys
import termios
from _socket import socket as socket_type  # the kernel's, whether gevent has patched or not
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from gevent.hub import get_hub

from hitmesh.http.wire import Wire

READ: Final = 1
WRITE: Final = 2
LATER: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s

log = logging.getLogger(__name__)


class Stream(Protocol):
    """What a link needs of a socket: the kernel's, or one with TLS around it."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def fileno(self) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Link(Wire):
    """A connected socket, or one that is connecting. Reads from `start_reading` on."""

    __slots__ = ("_reader", "_recv", "_send", "_stream", "_tls", "_writer")

    def __init__(self, stream: Stream, *, first: bool = False) -> None:
        """`first`: of what the hub finds together, this link's bytes and its end come before others'."""
        super().__init__()
        self._stream = stream
        self._recv = stream.recv
        self._send = stream.send
        self._tls: Callable[[], int] | None = getattr(stream, "pending", None)
        loop: Any = get_hub().loop
        self._reader = loop.io(stream.fileno(), READ, priority=loop.MAXPRI if first else None)
        self._writer: Any = None

    # --- what a subclass does ---------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes came."""
        raise NotImplementedError

    def ended(self) -> None:
        """The peer will send nothing more. Reading has been stopped."""
        raise NotImplementedError

    def lost(self, error: OSError) -> None:
        """The connection broke."""
        raise NotImplementedError

    def drained(self) -> None:
        """All that `send` kept has gone out."""

    def cannot_send(self, error: OSError) -> None:
        """The peer takes no more. What it said before may still be there to be read; by default nobody cares."""
        self.lost(error)

    # --- what it may call -------------------------------------------------------------------

    def start_reading(self) -> None:
        """Go on reading."""
        if not self.reading and not self.closed:
            self.reading = True
            self._reader.start(self._on_readable)
            if self._tls is not None and self._tls():
                get_hub().loop.run_callback(self._on_readable)  # decrypted already: no event will tell

    def stop_reading(self) -> None:
        """Leave what comes to the kernel: the peer has to wait."""
        if self.reading:
            self.reading = False
            self._reader.stop()

    def send(self, data: bytes) -> bool:
        """Send, or keep to send; False when something is kept, or the connection is gone."""
        if self.closed:
            return False
        if self.kept:
            self.kept.append(data)
            return False
        try:
            sent = self._send(data)
        except LATER:
            sent = 0
        except OSError as error:
            self.cannot_send(error)
            return False
        if sent == len(data):
            return True
        self._keep(data[sent:])
        return False

    def first_send(self, data: bytes) -> bool:
        """Send on a connection that may have gone stale: False when the kernel took no byte of it."""
        try:
            sent = self._send(data)
        except LATER:
            sent = 0
        except OSError:
            return False
        if sent < len(data):
            self._keep(data[sent:])
        return True

    def connect(self, address: Any) -> None:
        """Begin to connect; `connected` or `lost` will be called, not before this returns."""
        assert isinstance(self._stream, socket_type)
        error = self._stream.connect_ex(address)
        if error in (0, errno.EINPROGRESS):
            self._writer = get_hub().loop.io(self._stream.fileno(), WRITE)
            self._writer.start(self._on_connected)
        else:
            get_hub().loop.run_callback(self._refused, OSError(error, os.strerror(error)))

    def connected(self) -> None:
        """The connection that `connect` began is there."""

    def close(self) -> None:
        """Close now; what is kept is dropped."""
        if self.closed:
            return
        self.closed = True
        self.reading = False
        self._reader.stop()
        self._reader.close()
        if self._writer is not None:
            self._writer.stop()
            self._writer.close()
        self.kept = None
        self._stream.close()

    def reset(self) -> None:
        """Make `close` a reset: the peer shall see that what it got isn't all."""
        if isinstance(self._stream, socket_type):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def untaken(self) -> int:
        """Bytes that are kept, or that the kernel has and the peer hasn't acknowledged."""
        count = sum(map(len, self.kept)) if self.kept else 0
        with contextlib.suppress(OSError):  # no TCP
            count += int.from_bytes(fcntl.ioctl(self._stream.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return count

    def drop_kept(self) -> None:
        """Send nothing of what is kept."""
        if self.kept:
            self.kept.clear()
            self._writer.stop()

    def shut(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):  # it is gone already
            self._stream.shutdown(socket.SHUT_WR)

    # --- the hub's calls --------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            if self._tls is None:
                data = self._recv(self.read_bytes)
                if data:
                    self.received(data)
                else:
                    self.stop_reading()
                    self.ended()
                return
            while self.reading:  # until the socket says that there is nothing decrypted left
                data = self._recv(self.read_bytes)
                if not data:
                    self.stop_reading()
                    self.ended()
                    return
                self.received(data)
        except LATER:
            return
        except OSError as error:
            if not self.closed:
                self.lost(error)
        except Exception:
            log.exception("a connection's handler failed")
            self.close_after_bug()

    def _on_writable(self) -> None:
        kept = self.kept
        try:
            while kept:
                data = kept[0]
                sent = self._send(data)
                if sent < len(data):
                    kept[0] = data[sent:]
                    return
                kept.popleft()
        except LATER:
            return
        except OSError as error:
            self.cannot_send(error)
            return
        self._writer.stop()
        try:
            self.drained()
        except Exception:
            log.exception("a connection's handler failed")
            self.close_after_bug()

    def _on_connected(self) -> None:
        assert isinstance(self._stream, socket_type)
        self._writer.stop()
        error = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._refused(OSError(error, os.strerror(error)))
            return
        try:
            self.connected()
        except Exception:
            log.exception("a connection's handler failed")
            self.close_after_bug()

    def _refused(self, error: OSError) -> None:
        if not self.closed:
            self.lost(error)

    def close_after_bug(self) -> None:
        """A handler raised: drop the connection, and what hangs on it."""
        try:
            self.lost(ConnectionAbortedError("a bug in its handler"))
        except Exception:
            log.exception("a connection's handler failed once more")
        self.close()

    def _keep(self, data: bytes) -> None:
        if self.kept is None:
            self.kept = deque()
        self.kept.append(data)
        if self._writer is None:
            self._writer = get_hub().loop.io(self._stream.fileno(), WRITE)
        self._writer.start(self._on_writable)
