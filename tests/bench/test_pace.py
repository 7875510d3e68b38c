"""The constant rate: what a server that stands still makes wait is counted, whoever could send it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import pace
from tests.services import PATIENCE_S

CONNECTIONS = 4
RATE = 500
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13" + pace.BODY_END


class Backend:
    """Answers on any number of connections while its gate is open."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.open = threading.Event()
        self.open.set()
        self.asked = 0
        self.stands: tuple[int, float] | None = None  # after so many requests, for so long
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):  # a client that has seen enough resets it
            while link.recv(4096):
                with self._lock:
                    self.asked += 1
                    if self.stands is not None and self.asked == self.stands[0]:
                        self.open.clear()
                        threading.Timer(self.stands[1], self.open.set).start()
                self.open.wait()
                link.sendall(self.answer)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TIMEOUT_S", PATIENCE_S)


@contextmanager
def backend(answer: bytes = ANSWER) -> Iterator[Backend]:
    server = Backend(answer)
    try:
        yield server
    finally:
        server.stop()


def test_it_sends_what_falls_due() -> None:
    with backend() as server:
        done = pace.run(server.port, RATE, 0.4, CONNECTIONS)
        assert len(done.times_s) == server.asked == RATE * 0.4
        assert done.times_s == sorted(done.times_s)


def test_a_standstill_is_counted_for_every_request_that_was_due_in_it() -> None:
    stood_s = 0.3
    with backend() as server:
        server.stands = (50, stood_s)
        done = pace.run(server.port, RATE, 0.6, CONNECTIONS)
    slow = sum(each > stood_s / 10 for each in done.times_s)
    # who waits for its answers before it sends again sees as many as it has connections
    assert slow > 10 * CONNECTIONS
    assert done.waited > 0


def test_any_other_answer_ends_the_run() -> None:
    unwell = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    with backend(unwell) as server, pytest.raises(AssertionError, match="503"):
        pace.run(server.port, RATE, 0.1, CONNECTIONS)
