"""A client on one connection, one request at a time; plain blocking sockets."""

from __future__ import annotations

import socket
from typing import Final

from tests.balancer.wire.answers import Answer, read_answers
from tests.services import PATIENCE_S

LONG_S: Final = PATIENCE_S  # a hang: well below the balancer's time-outs where a test isn't about them


class Visitor:
    """A client on one connection, which reads what is there until an answer is whole or the end comes."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), timeout=LONG_S)
        self.ended = False

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def get(self, path: str, *, host: str = "a.example", method: str = "GET", more: bytes = b"") -> Answer:
        """The one answer; its body may be cut."""
        self.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n".encode() + more + b"\r\n")
        return self.answer(method)

    def ask(self, request: bytes) -> Answer:
        """The answer to a request that is given as bytes."""
        self.send(request)
        return self.answer()

    def answer(self, method: str = "GET") -> Answer:
        received = b""
        while True:
            answers = read_answers(received, method=method.encode()) if b"\r\n\r\n" in received else []
            if answers and answers[0].whole and (self.ended or _says_its_length(answers[0], method)):
                break
            if self.ended:
                break
            try:
                data = self._connection.recv(65_536)
            except ConnectionError:
                data = b""
            self.ended = not data
            received += data
        answers = read_answers(received, method=method.encode())
        assert len(answers) == 1, f"{len(answers)} answers: {received!r}"
        return answers[0]

    def has_ended(self) -> bool:
        """Whether the balancer closes, soon."""
        try:
            self.ended = self.ended or self._connection.recv(1) == b""
        except ConnectionError:
            self.ended = True
        return self.ended


def _says_its_length(answer: Answer, method: str) -> bool:
    names = [name for name, _ in answer.fields]
    return (
        method == "HEAD" or answer.status in (204, 304) or b"content-length" in names or b"transfer-encoding" in names
    )
