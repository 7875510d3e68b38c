"""gunicorn's contract, as a master and workers of ours keep it: each request is answered, whoever goes and comes."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hitmesh.collector.gunicorns import OURS, Gunicorn, talk
from tests.hitmesh.collector.raw import Raw
from tests.hitmesh.collector.stub_app import HANG
from tests.services import PATIENCE_S, wait_for

LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n"


class Asking(threading.Thread):
    """Asks for one path after the other, on a connection as long as it is kept."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._over = threading.Event()
        self.serials: list[tuple[str, str]] = []  # worker and number of each answer
        self.failed: list[Exception] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                connection.request("GET", "/" + "x" * (number % 7))
                answer = connection.getresponse()
                answer.read()
                self.serials.append((answer.headers["X-Pid"], answer.headers["X-Serial"]))
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(error)
                connection.close()
        connection.close()

    def stop(self) -> None:
        self._over.set()
        self.join(PATIENCE_S)


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[Gunicorn]:
    """A master with workers of ours."""
    server = Gunicorn(folder, OURS, "saying", *options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def asked(server: Gunicorn, clients: int = 4) -> Iterator[list[Asking]]:
    """Clients that ask without a pause, of whom none is left without its answer, and none has another's."""
    asking = [Asking(server.port) for _ in range(clients)]
    for each in asking:
        each.start()
    try:
        wait_for(lambda: all(each.serials for each in asking), what="each to have been answered")
        yield asking
    finally:
        for each in asking:
            each.stop()
    assert [each.failed for each in asking] == [[]] * clients
    answers = Counter(serial for each in asking for serial in each.serials)
    assert set(answers.values()) == {1}


def pids(asking: list[Asking]) -> set[str]:
    return {pid for each in asking for pid, _ in each.serials}


def pid_of(server: Gunicorn) -> str:
    """The process that answers."""
    return talk(server.port, [LAST]).partition(b"X-Pid: ")[2].partition(b"\r\n")[0].decode()


def test_a_reload_loses_no_request(tmp_path: Path) -> None:
    with served(tmp_path) as server, asked(server) as asking:
        server.signal(signal.SIGHUP)
        wait_for(lambda: len(pids(asking)) >= 2, what="a second worker's answers")
        server.signal(signal.SIGHUP)
        wait_for(lambda: len(pids(asking)) >= 3, what="a third worker's answers")


def test_a_worker_that_has_had_its_requests_is_followed_by_another_and_none_is_lost(tmp_path: Path) -> None:
    with served(tmp_path, "--max-requests", "300", "--max-requests-jitter", "10") as server, asked(server) as asking:
        wait_for(lambda: len(pids(asking)) >= 3, what="a third worker's answers")
    most = max(int(serial) for each in asking for _, serial in each.serials)
    assert 300 <= most < 5000


def test_several_workers_share_the_connections(tmp_path: Path) -> None:
    with served(tmp_path, "-w", "2") as server, asked(server):
        wait_for(lambda: len({pid_of(server) for _ in range(50)}) == 2, what="both to answer")


def test_a_request_that_is_under_way_is_answered_before_a_worker_stops(tmp_path: Path) -> None:
    with served(tmp_path) as server, Raw(("127.0.0.1", server.port)) as raw:
        raw.send(POST + b"ab")
        worker = int(pid_of(server))
        server.signal(signal.SIGTERM)
        wait_for(lambda: refuses(server.port), what="nobody else to be taken")
        os.kill(worker, 0)
        raw.send(b"c")
        answer = raw.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert server.process is not None
        assert server.process.wait(PATIENCE_S) == 0


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    with served(tmp_path, "--timeout", "2") as server:
        before = pid_of(server)
        with Raw(("127.0.0.1", server.port)) as raw:
            raw.send(f"GET {HANG} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert raw.read_to_end() == b""
        assert pid_of(server) != before


def test_there_are_no_more_connections_than_a_worker_may_have(tmp_path: Path) -> None:
    with served(tmp_path, "--worker-connections", "10") as server, contextlib.ExitStack() as idle:
        for _ in range(40):
            raw = idle.enter_context(Raw(("127.0.0.1", server.port)))
            assert raw.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").status == 200
        worker = int(pid_of(server))
        files = Path(f"/proc/{worker}/fd").iterdir()
        assert sum(str(each.readlink()).startswith("socket:") for each in files if each.is_symlink()) < 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_master_that_is_told_to_stop_at_once_does(tmp_path: Path, number: int) -> None:
    with served(tmp_path) as server:
        server.signal(number)
        assert server.process is not None
        assert server.process.wait(PATIENCE_S) == 0
