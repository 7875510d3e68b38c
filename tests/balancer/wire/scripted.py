"""A backend that does what a test tells it, byte by byte; plain threads."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

RECV_BYTES = 65_536
PATIENCE_S = 120.0  # after which a script that waits for bytes gives up: later than any client


@dataclass(slots=True)
class Turn:
    """One request's head on one connection, for a script to answer."""

    connection: socket.socket
    head: bytes
    rest: bytes  # what came behind the head already, and wasn't taken as its body

    def say(self, data: bytes) -> None:
        """Send bytes; a peer that has gone is no error."""
        with contextlib.suppress(OSError):
            self.connection.sendall(data)

    def end(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Send no more, and take no more."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Close with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.connection.close()

    def read(self) -> bytes:
        """Some bytes, nothing at the end."""
        try:
            return self.connection.recv(RECV_BYTES)
        except OSError:
            return b""

    def body(self) -> bytes:
        """The request's body, as it came: of a chunked one its chunks. Whole, unless the peer has gone."""
        head = self.head.lower() + b"\r\n"
        if b"\r\ntransfer-encoding: chunked\r\n" in head:
            while b"0\r\n\r\n" not in self.rest and (data := self.read()):
                self.rest += data
            end = self.rest.find(b"0\r\n\r\n")
            length = len(self.rest) if end < 0 else end + 5
        else:
            length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or b"0")
            pieces, missing = [self.rest], length - len(self.rest)
            while missing > 0 and (data := self.read()):
                pieces.append(data)
                missing -= len(data)
            self.rest = b"".join(pieces)
        body, self.rest = self.rest[:length], self.rest[length:]
        return body

    def wait_for_close(self) -> None:
        """Read until the peer closes."""
        while self.read():
            pass


Script = Callable[[Turn], None]


class ScriptedBackend:
    """Plays, for each request, the script of its path; an unknown path is answered 200 with its own name."""

    def __init__(self, port: int = 0) -> None:
        self.scripts: dict[str, Script] = {}
        self.heads: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def open_connections(self) -> int:
        """Connections that the proxy holds, or that a script still has in hand."""
        return len(self._open)

    def stop(self) -> None:
        """Close everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections, and take new ones."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(PATIENCE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        held = b""
        try:
            while True:
                while b"\r\n\r\n" not in held:
                    data = connection.recv(RECV_BYTES)
                    if not data:
                        return
                    held += data
                head, _, held = held.partition(b"\r\n\r\n")
                self.heads.append(head)
                path = head.split(b" ")[1].decode()
                turn = Turn(connection, head, held)
                self.scripts.get(path, _ok)(turn)
                held = turn.rest
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()


def says(data: bytes) -> Script:
    """A script that says it and keeps the connection."""
    return lambda turn: turn.say(data)


def says_and_closes(data: bytes) -> Script:
    def script(turn: Turn) -> None:
        turn.say(data)
        turn.close()

    return script


def says_and_resets(data: bytes) -> Script:
    def script(turn: Turn) -> None:
        turn.say(data)
        turn.reset()

    return script


def says_and_waits(data: bytes) -> Script:
    """A script that says nothing more, and keeps the connection until the other side closes it."""

    def script(turn: Turn) -> None:
        turn.say(data)
        turn.wait_for_close()

    return script


def _ok(turn: Turn) -> None:
    turn.body()
    body = turn.head.split(b" ")[1]
    turn.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
