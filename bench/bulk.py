"""Large bodies through a proxy, down and up, by ends that cost next to nothing.

Both ends let the kernel throw the bytes away (MSG_TRUNC) or take them from a sparse file
(sendfile), so that the proxy's copying is what is measured. Either end can stand still for a
while: a proxy without back-pressure then swallows the body.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

CHUNK = 4 * 2**20  # of one read: more than a loopback socket holds
HEAD_BYTES = 65_536
TIMEOUT_S = 60.0


def download(port: int, path: str, size: int, *, pause_s: float = 0.0) -> float:
    """The bytes per second of one GET; nothing is read for `pause_s` after the head."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        begun = time.monotonic()
        head, rest = _read_head(link)
        assert head.startswith("HTTP/1.1 200 "), head
        assert _length(head) == size, head
        time.sleep(pause_s)
        _discard(link, size - len(rest))
        return size / (time.monotonic() - begun - pause_s)


def upload(port: int, source: BinaryIO, size: int) -> float:
    """The bytes per second of one POST of `source`, from the first byte to the answer."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as link:
        begun = time.monotonic()
        link.sendall(
            f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
        )
        source.seek(0)
        assert link.sendfile(source) == size
        head, _ = _read_head(link)
        assert head.startswith("HTTP/1.1 200 "), head
        return size / (time.monotonic() - begun)


def sparse(path: Path, size: int) -> Path:
    """A file of that many zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


class Sink:
    """A backend that reads each request's body to the end and only then answers 200."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.pause_s = 0.0  # that it reads nothing after a head that announces a body
        self.read_bytes = 0  # of bodies

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link:
            while True:
                try:
                    head, rest = _read_head(link)
                except EOFError:
                    return
                size = _length(head)
                if size:
                    time.sleep(self.pause_s)
                    _discard(link, size - len(rest))
                    self.read_bytes += size
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def _read_head(link: socket.socket) -> tuple[str, bytes]:
    """A head, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = link.recv(HEAD_BYTES)
        if not more:
            raise EOFError("closed before a whole head")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode(), rest


def _length(head: str) -> int:
    found = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
    return int(found[1]) if found else 0


def _discard(link: socket.socket, size: int) -> None:
    """Take exactly `size` bytes off the socket without copying them."""
    buffer = bytearray(CHUNK)
    while size > 0:
        taken = link.recv_into(buffer, min(size, CHUNK), socket.MSG_TRUNC)
        if not taken:
            raise EOFError(f"closed {size:,} bytes before the end")
        size -= taken
