"""A balancer before backends that make trouble."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.balancer.wire.proxies import ConfiguredBalancer
from tests.balancer.wire.scripted import Script, Turn, says, says_and_closes, says_and_resets, says_and_waits
from tests.services import free_port

SETTINGS: Final = """
[balancer.limits]
head_s = 120.0
idle_s = 120.0
connect_s = 120.0
first_byte_s = 120.0
between_bytes_s = 120.0
body_s = 120.0
write_s = 120.0
backend_idle_s = 70.0
"""
# Nothing is held, and no failure takes a backend out: each test is to see its own.
ROUTE: Final = """
[routes."{host}"]
action = "proxy"
backends = ["127.0.0.1:{port}"]
retry = "{retry}"
hold = 0
check_path = ""
fall = 1000
slow_start_s = 0.0
"""


OK: Final = b"HTTP/1.1 200 OK\r\n"
# Before anything of the answer could be passed on.
ANSWERED_502: Final[dict[str, Script]] = {
    "closes at once": Turn.close,
    "resets": Turn.reset,
    "garbage": says(b"\x00\x01\x02 garbage\r\n\r\n"),
    "another protocol": says(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "no such version": says(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "no status": says(b"HTTP/1.1 OK\r\n\r\n"),
    "a status of four digits": says(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "a NUL in a field": says(OK + b"X-A: \x00\r\nContent-Length: 0\r\n\r\n"),
    "a folded field": says(OK + b"X-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n"),
    "a bare CR in a field": says(OK + b"X-A: a\rb\r\nContent-Length: 0\r\n\r\n"),
    "a space before a colon": says(OK + b"Content-Length : 0\r\n\r\n"),
    "an odd length": says(OK + b"Content-Length: +1\r\n\r\nx"),
    "two lengths": says(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    "a length and a coding": says(OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    "an unknown coding": says(OK + b"Transfer-Encoding: gzip\r\n\r\nx"),
    "chunks in HTTP/1.0": says(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "a bad first chunk": says(OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
    "closes within the head": says_and_closes(OK + b"Content-Le"),
    "a giant head": says(OK + b"X-A: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 20_000 + b"\r\n"),
    "forty interim answers": says(b"HTTP/1.1 102 Processing\r\n\r\n" * 40 + OK + b"Content-Length: 0\r\n\r\n"),
    "a protocol that nobody asked for": says(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    ),
    "a 204 with a length": says(b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc"),
}
# After its head was.
_SIZED, _CHUNKED = OK + b"Content-Length: 10\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n"
CUT: Final[dict[str, Script]] = {
    "closes within a sized body": says_and_closes(_SIZED + b"abc"),
    "resets within a sized body": says_and_resets(_SIZED + b"abc"),
    "stops within a sized body": says_and_waits(_SIZED + b"abc"),
    "closes within a chunk": says_and_closes(_CHUNKED + b"5\r\nabc"),
    "closes after a chunk": says_and_closes(_CHUNKED + b"3\r\nabc\r\n"),
    "closes within the trailers": says_and_closes(_CHUNKED + b"3\r\nabc\r\n0\r\nX-A: 1\r\n"),
    "stops after a chunk": says_and_waits(_CHUNKED + b"3\r\nabc\r\n"),
}
# What is said, and what of it is the answer's body.
SURPLUS: Final[dict[str, tuple[bytes, bytes]]] = {
    "two answers": (OK + b"Content-Length: 3\r\n\r\nabc" + OK + b"Content-Length: 4\r\n\r\nevil", b"abc"),
    "more than its length": (OK + b"Content-Length: 3\r\n\r\nabcdefghij", b"abc"),
    "more than its chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + OK + b"\r\n", b"abc"),
}


class Deaf:
    """A port where connections are neither accepted nor refused: its queue is full."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._callers: list[socket.socket] = []
        for _ in range(4):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", self.port))
            self._callers.append(caller)

    def close(self) -> None:
        for each in (*self._callers, self._listener):
            each.close()


@contextlib.contextmanager
def troubled(folder: Path, backend: int) -> Iterator[ConfiguredBalancer]:
    """Before `backend`; at refusing.example and deaf.example before nobody; at again.example with second tries."""
    with contextlib.closing(Deaf()) as deaf:
        settings = SETTINGS
        places = {
            "default": backend,
            "refusing.example": free_port(),
            "deaf.example": deaf.port,
            "again.example": backend,
        }
        for host, port in places.items():
            settings += ROUTE.format(host=host, port=port, retry="idempotent" if host == "again.example" else "never")
        balancer = ConfiguredBalancer(folder, settings)
        balancer.start()
        try:
            yield balancer
        finally:
            balancer.stop()
