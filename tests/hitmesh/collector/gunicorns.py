"""gunicorn as a real process, with an app and a worker class of a test's choice."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

from tests.services import Server, free_port

STOCK = "gevent"
OURS = "hitmesh.collector.worker.HubWorker"
BARE = "tests.hitmesh.collector.stub_app.BareWorker"

_DATE = re.compile(rb"\r\nDate: [^\r]*\r\n")


class Gunicorn(Server):
    """One of them."""

    name = "gunicorn"

    def __init__(self, folder: Path, worker: str, app: str, *options: str) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._words = ("-k", worker, *options, f"tests.hitmesh.collector.stub_app:{app}()")

    def command(self) -> list[str]:
        bind = ("-b", f"127.0.0.1:{self.port}", "--no-control-socket", "--keep-alive", "60")
        return [sys.executable, "-m", "gunicorn", *bind, *self._words]

    def is_up(self) -> bool:
        try:
            return talk(self.port, [b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]) != b""
        except OSError:
            return False


def talk(port: int, pieces: list[bytes]) -> bytes:
    """All that comes back on one connection, without its dates, until the other end closes."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=60.0) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        while data := connection.recv(65_536):
            received += data
    return _DATE.sub(b"\r\n", bytes(received))
