"""The admin listener beside traffic, as real processes: hostile clients of it stop neither of both."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from balancer.admin.listener import BODY_BYTES, FRAMING_BYTES, MAX_CONNECTIONS, REQUEST_S
from tests.balancer.stage import LONG_S, Instance, ask, reason, said, staged
from tests.balancer.wire.answers import Answer
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

TOKEN: Final = b"Authorization: Bearer s3cret\r\n"
ROUTES: Final = {"default": {"action": "static", "body": "hello"}}
SOON_S: Final = 0.3
MANY: Final = 1000  # connections of one after the other
ASKED: Final = 20  # times, while somebody attacks: more than are answered by luck
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with staged(tmp_path_factory.mktemp("admin"), ROUTES, balancer={"admin_token": "s3cret"}) as instance:
        yield instance


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One that waits for nobody for long."""
    limits = dict.fromkeys(("head_s", "idle_s", "body_s", "write_s"), SOON_S)
    with staged(tmp_path_factory.mktemp("hasty"), ROUTES, balancer={"limits": limits}) as instance:
        yield instance


class Attack:
    """Sends the same bytes without end, on one connection after the other."""

    def __init__(self, port: int, head: bytes, more: bytes) -> None:
        self._port, self._head, self._more = port, head, more * 2000
        self._over = threading.Event()
        self.rounds = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Attack:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self._port), timeout=SOON_S) as link,
            ):
                link.sendall(self._head)
                while not self._over.is_set():
                    link.sendall(self._more)
                    self.rounds += 1


def at(balancer: Instance, path: str, *, method: str = "GET", more: bytes = TOKEN, body: bytes | None = None) -> Answer:
    return ask(balancer.admin_port, "127.0.0.1", path, method=method, more=more, body=body)


HEADS: Final = {
    "chunks, to a page": said("/stats", "127.0.0.1", method="POST", more=TOKEN + CHUNKED),
    "chunks, behind a 401": said("/routes/x.example", "127.0.0.1", method="PUT", more=CHUNKED),
    "chunks, to nothing": said("/nothing", "127.0.0.1", more=TOKEN + CHUNKED),
    "chunks, to a route": said("/routes/x.example", "127.0.0.1", method="PUT", more=TOKEN + CHUNKED),
    "a long body": said("/stats", "127.0.0.1", method="POST", more=b"Content-Length: 1000000000000\r\n"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_body_without_end_stops_neither_traffic_nor_pages(balancer: Instance, name: str) -> None:
    with Attack(balancer.admin_port, HEADS[name], b"1\r\na\r\n") as attack:
        wait_for(lambda: attack.rounds, what="the attack")
        for _ in range(ASKED):
            assert ask(balancer.port, "a.example").status == 200
            assert at(balancer, "/health").status == 200


@pytest.mark.parametrize(
    ("more", "status"),
    [(b"Content-Length: 1000000000000\r\n", 401), (CHUNKED, 401), (TOKEN + b"Content-Length: 7\r\n", 405)],
)
def test_a_body_that_is_not_wanted_ends_the_connection_with_the_answer(
    balancer: Instance, more: bytes, status: int
) -> None:
    with Visitor(balancer.admin_port) as visitor:
        answer = visitor.get("/routes", host="127.0.0.1", method="POST", more=more)
        assert (answer.status, answer.value(b"connection")) == (status, b"close")
        assert visitor.has_ended()


TOO_LARGE: Final = f"a body of more than {BODY_BYTES} bytes"


@pytest.mark.parametrize(
    ("framing", "body", "words"),
    [
        (b"Content-Length: %d\r\n" % (BODY_BYTES + 1), b"", TOO_LARGE),
        (CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (BODY_BYTES + 1, b" " * (BODY_BYTES + 1)), TOO_LARGE),
        (CHUNKED, b"1\r\n \r\n" * FRAMING_BYTES, "a body in too many small chunks"),
    ],
    ids=["its length says so", "one chunk", "small chunks"],
)
def test_a_route_that_is_too_large_is_refused(balancer: Instance, framing: bytes, body: bytes, words: str) -> None:
    with Visitor(balancer.admin_port) as visitor:
        with contextlib.suppress(ConnectionError):
            visitor.send(said("/routes/x.example", "127.0.0.1", method="PUT", more=TOKEN + framing) + body)
        answer = visitor.answer()
    assert (answer.status, reason(answer)) == (413, words)


def test_a_route_is_taken_in_chunks_and_after_it_was_asked_for(balancer: Instance) -> None:
    more = TOKEN + CHUNKED + b"Expect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", balancer.admin_port), timeout=LONG_S) as link:
        link.sendall(said("/routes/x.example", "127.0.0.1", method="PUT", more=more))
        assert link.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in (b'12\r\n{"action": "empty"\r\n', b"1\r\n}\r\n", b"0\r\n\r\n"):
            link.sendall(piece)
        assert link.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_requests_follow_each_other_on_a_connection(balancer: Instance) -> None:
    with Visitor(balancer.admin_port) as visitor:
        for path in ("/health", "/routes/default", "/health"):
            assert visitor.get(path, host="127.0.0.1", more=TOKEN).status == 200
        answer = visitor.get("/health", host="127.0.0.1", more=TOKEN + b"Connection: close\r\n")
        assert answer.value(b"connection") == b"close"
        assert visitor.has_ended()


def test_its_own_refusals_are_for_no_script_and_kept_by_nobody(balancer: Instance) -> None:
    with Visitor(balancer.admin_port) as visitor:
        answer = visitor.ask(b"GET / HTTP/1.1\r\n\r\n")
        assert visitor.has_ended()
    assert (answer.status, reason(answer)) == (400, "no Host")
    assert answer.value(b"x-content-type-options") == b"nosniff"
    assert answer.value(b"cache-control") == b"no-store"
    assert answer.value(b"access-control-allow-origin") is None


def test_what_is_asked_and_what_is_refused_is_counted(hasty: Instance) -> None:
    def counted() -> tuple[int, int, int]:
        front = hasty.admin("GET", "/stats.json")["fronts"]["admin"]
        return front["requests"], front["errors"].get("400", 0), front["sessions"]

    requests, errors, _ = counted()
    with Visitor(hasty.admin_port) as visitor:
        visitor.ask(b"GET / HTTP/1.1\r\n\r\n")
    wait_for(lambda: counted()[2] == 1, what="only the one who asks to be there")
    more, more_errors, _ = counted()
    assert (more > requests, more_errors) == (True, errors + 1)


def test_one_connection_more_than_there_may_be_ends_the_one_that_waited_longest(balancer: Instance) -> None:
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(MAX_CONNECTIONS):
            idle.append(stack.enter_context(Visitor(balancer.admin_port)))
            idle[-1].send(b"GET /health HTTP/1.1\r\nHost")
        assert at(balancer, "/health").status == 200
        assert idle[0].has_ended()
        idle[-1].send(b": 127.0.0.1\r\n" + TOKEN + b"\r\n")
        assert idle[-1].answer().status == 200


def test_who_comes_and_goes_in_numbers_keeps_no_file_and_no_turn(balancer: Instance) -> None:
    def files() -> int:
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in balancer.workers())

    before = files()
    for _ in range(MANY):
        with contextlib.suppress(OSError), Visitor(balancer.admin_port) as visitor:
            visitor.send(said("/nothing", "127.0.0.1"))
    assert files() < before + 4 * MAX_CONNECTIONS
    began = time.monotonic()
    assert at(balancer, "/health").status == 200
    assert time.monotonic() < began + MANY * REQUEST_S / 4


# --- time limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "words"),
    [
        (b"GET /health HTTP/1.1\r\nHost: 127", "no whole request within 0.3 s"),
        (said("/routes/x.example", "127.0.0.1", method="PUT", more=b"Content-Length: 99999\r\n"), "no whole body"),
    ],
    ids=["head", "body"],
)
@pytest.mark.parametrize("every_s", [SOON_S / 3, 0.0005], ids=["now and then", "all the time"])
def test_who_sends_byte_by_byte_is_told_that_it_is_too_slow(
    hasty: Instance, begun: bytes, words: str, every_s: float
) -> None:
    with Visitor(hasty.admin_port) as visitor:
        visitor.send(begun)
        over = threading.Event()

        def drip() -> None:
            while not over.wait(every_s):
                with contextlib.suppress(OSError):
                    visitor.send(b"1")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            answer = visitor.answer()
        finally:
            over.set()
            dripping.join()
    assert answer.status == 408
    assert reason(answer).startswith(words)


def test_who_asks_nothing_is_not_waited_for(hasty: Instance) -> None:
    with Visitor(hasty.admin_port) as visitor:
        assert visitor.has_ended()
    with Visitor(hasty.admin_port) as visitor:
        assert visitor.get("/health", host="127.0.0.1").status == 200
        assert visitor.has_ended()


def test_who_takes_nothing_of_its_answers_is_not_waited_for(hasty: Instance) -> None:
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        taker.settimeout(LONG_S)
        taker.connect(("127.0.0.1", hasty.admin_port))
        # Before long nothing is taken of what it asks, and then it is cut.
        with contextlib.suppress(ConnectionError):
            while True:
                taker.sendall(said("/stats", "127.0.0.1"))
