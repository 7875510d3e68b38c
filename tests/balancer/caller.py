"""A client with an address of its own; plain blocking sockets."""

from __future__ import annotations

import contextlib
import socket
import time

from tests.balancer.stage import LONG_S
from tests.balancer.wire.answers import Answer, read_answers


class Caller:
    """A client with an address of its own."""

    def __init__(self, port: int, address: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=LONG_S, source_address=(address, 0))

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, *pieces: bytes) -> Answer | None:
        """The answer; None when the connection ends without any."""
        received = b""
        with contextlib.suppress(ConnectionError):
            for number, piece in enumerate(pieces):
                if number:
                    time.sleep(0.02)  # so that it is read by itself, most likely
                self._connection.sendall(piece)
            while not (received and read_answers(received)[0].whole):
                data = self._connection.recv(65_536)
                if not data:
                    break
                received += data
        return read_answers(received)[0] if received else None

    def is_open(self) -> bool:
        """Whether nothing but silence comes, for now."""
        self._connection.setblocking(False)
        try:
            return self._connection.recv(1) != b""
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        finally:
            self._connection.settimeout(LONG_S)
