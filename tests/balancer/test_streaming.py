"""Bodies of any length, and any number of requests ahead of their answers, in constant memory."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.balancer.stage import LONG_S, OK, Instance, backends, constant_memory, proxy, said, sized, staged
from tests.balancer.wire.answers import read_answers
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

LARGE = 200 * 1024 * 1024
PIECE = b"x" * (1024 * 1024)
PAUSES = 10  # of a slow receiver
PAUSE_S = 0.03
UNREAD = 60_000  # requests, of a kilobyte each


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    routes = {
        "default": proxy(backend.port),
        "page.example": {"action": "static", "body": "page"},
        "long-page.example": {"action": "static", "body": "x" * 2000},
        "gone.example": {"action": "empty", "status": 410},
    }
    with staged(tmp_path_factory.mktemp("streaming"), routes) as instance:
        for _ in range(20):  # what the first requests take for good
            with Visitor(instance.port) as visitor:
                visitor.get("/")
        yield instance


def send_large(connection: socket.socket, *, chunked: bool) -> None:
    for _ in range(LARGE // len(PIECE)):
        connection.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
    if chunked:
        connection.sendall(b"0\r\n\r\n")


def received_slowly(connection: socket.socket, *, until: int = 0, until_end: bytes = b"") -> int:
    """How much came: so many bytes, or all up to these, or to the end of the connection."""
    count = 0
    last = b""
    while not ((until and count >= until) or (until_end and last.endswith(until_end))):
        data = connection.recv(len(PIECE))
        if not data:
            break
        if count * PAUSES // LARGE != (count + len(data)) * PAUSES // LARGE:
            time.sleep(PAUSE_S)
        count, last = count + len(data), (last + data)[-8:]
    return count


FRAMING = {False: b"Content-Length: %d\r\n\r\n" % LARGE, True: b"Transfer-Encoding: chunked\r\n\r\n"}


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_large_download_for_a_slow_client_stays_out_of_memory(
    chunked: bool, balancer: Instance, backend: ScriptedBackend
) -> None:
    def script(turn: Turn) -> None:
        turn.say(OK + FRAMING[chunked])
        with contextlib.suppress(OSError):
            send_large(turn.connection, chunked=chunked)

    backend.scripts["/download"] = script
    with (
        constant_memory(balancer),
        socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection,
    ):
        connection.sendall(said("/download", "a", more=b"Connection: close\r\n"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        count = received_slowly(connection)
    assert count == LARGE if not chunked else LARGE < count < LARGE * 1.01


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_large_upload_for_a_slow_backend_stays_out_of_memory(
    chunked: bool, balancer: Instance, backend: ScriptedBackend
) -> None:
    def script(turn: Turn) -> None:
        count, turn.rest = len(turn.rest), b""
        if chunked:
            count += received_slowly(turn.connection, until_end=b"\r\n0\r\n\r\n")
        else:
            count += received_slowly(turn.connection, until=LARGE - count)
        turn.say(sized(b"%d" % count))

    backend.scripts["/upload"] = script
    with (
        constant_memory(balancer),
        socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection,
    ):
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: a\r\n" + FRAMING[chunked])
        send_large(connection, chunked=chunked)
        count = int(read_answers(connection.recv(65_536))[0].body)
    assert count == LARGE if not chunked else LARGE < count < LARGE * 1.01


def test_an_answer_before_the_end_of_the_body_reaches_the_client_whatever_the_backend_does_then(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    def script(turn: Turn) -> None:
        turn.say(sized(b"no", b"403 Forbidden"))
        turn.reset()  # as the kernel does it when somebody closes with bytes unread

    backend.scripts["/early"] = script
    for _ in range(20):
        with Visitor(balancer.port) as visitor:
            visitor.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE)
            with contextlib.suppress(ConnectionError):
                for _ in range(8):
                    visitor.send(PIECE[:65_536])
            answer = visitor.answer()
            assert (answer.status, answer.body) == (403, b"no")


def test_an_answer_while_the_body_is_still_coming_is_passed_on_at_once(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    done: list[int] = []

    def script(turn: Turn) -> None:
        turn.say(OK + b"Content-Length: 4\r\n\r\nhe")
        body = turn.body()
        turn.say(b"re")
        done.append(len(body))

    backend.scripts["/meanwhile"] = script
    with Visitor(balancer.port) as visitor:
        begun = b"x" * (20_000 - 7)  # too large to be waited for
        visitor.send(b"POST /meanwhile HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + begun)
        received = b""
        while b"\r\n\r\nhe" not in received:
            received += visitor._connection.recv(65_536)
        visitor.send(b"defghij")
        while not received.endswith(b"here"):
            received += visitor._connection.recv(65_536)
        wait_for(lambda: done == [20_000], what="the backend to have noted the body")
        assert visitor.has_ended()


def test_pipelined_requests_are_answered_in_their_order(balancer: Instance, backend: ScriptedBackend) -> None:
    backend.scripts["/echo"] = lambda turn: turn.say(sized(turn.body()))
    requests = b""
    for number in range(100):
        if number % 4 == 3:
            requests += said("/", "gone.example")
        elif number % 4 == 2:
            requests += said("/echo", "a", method="POST", body=b"%d" % number)
        else:
            requests += said(f"/{number}", "a")
    with socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection:
        connection.sendall(requests)
        received = b""
        while len(answers := read_answers(received)) < 100 or not answers[-1].whole:
            received += connection.recv(65_536)
    for number, answer in enumerate(answers):
        if number % 4 == 3:
            assert answer.status == 410
        else:
            assert answer.body == (b"%d" if number % 4 == 2 else b"/%d") % number


@pytest.mark.parametrize("host", ["long-page.example", "a.example"])
def test_requests_ahead_of_answers_that_nobody_reads_stay_out_of_memory(
    host: str, balancer: Instance, backend: ScriptedBackend
) -> None:
    backend.scripts["/unread"] = lambda turn: turn.say(sized(b"x" * 2000))
    sent = 0
    with constant_memory(balancer), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", balancer.port))
        request = said("/unread", host, more=b"X-Pad: %b\r\n" % (b"x" * 1000))
        connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < UNREAD:
                connection.sendall(request * 100)
                sent += 100
    assert sent < UNREAD, "the balancer takes all of them"
    wait_for(lambda: balancer.admin("GET", "/stats.json")["fronts"]["http"]["sessions"] == 0, what="it to be over")


def test_a_client_that_reads_goes_on_after_a_pause_in_which_it_did_not(balancer: Instance) -> None:
    count = 20_000
    request = said("/", "page.example")
    with socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection:
        sender = threading.Thread(target=connection.sendall, args=(request * count,))
        sender.start()
        time.sleep(0.3)
        received = bytearray()
        answers = 0
        while answers < count:
            received += connection.recv(1_000_000)
            answers += received.count(b"\r\n\r\npage")
            del received[: received.rfind(b"page") + 4]
        sender.join()
