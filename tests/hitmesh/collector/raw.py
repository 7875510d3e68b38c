"""A client that sends bytes as they are and reads one answer at a time."""

from __future__ import annotations

import contextlib
import socket
from types import TracebackType

from tests.system.mesh import ANSWER_S, Answer


class Raw:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=ANSWER_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send, as far as the other side takes it."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def close_writing(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def ask(self, data: bytes) -> Answer:
        """Send, and read one answer."""
        self.send(data)
        return self.answer(data.split(b" ", 1)[0].decode("latin-1"))

    def answer(self, method: str = "GET") -> Answer:
        """One answer, whose body has a Content-Length or is empty."""
        status = int(self._file.readline().split(b" ")[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        return Answer(status, headers, self._file.read(length))

    def read_to_end(self) -> bytes:
        """All that comes until the other side closes."""
        read = bytearray()
        with contextlib.suppress(ConnectionError):
            while chunk := self.socket.recv(65_536):
                read += chunk
        return bytes(read)
