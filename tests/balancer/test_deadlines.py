"""How long a peer may take for each thing, and that nobody who gets on with it is cut."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.balancer.live import LiveLimits
from tests.balancer.stage import (
    LONG_S,
    OK,
    Instance,
    ask,
    backends,
    proxy,
    requests_to,
    said,
    sized,
)
from tests.balancer.wire.answers import Answer, read_answers
from tests.balancer.wire.scripted import ScriptedBackend, Turn, says_and_waits
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

SHORT_S = 0.5
WRITE_S = 2.5
HASTY = {
    **dict.fromkeys(("head_s", "idle_s", "body_s", "between_bytes_s"), SHORT_S),
    "write_s": WRITE_S,
    "backend_idle_s": 0.8,
}
PATIENT_S = 1.5  # many times what those who are slow take for a step, however busy the machine is
PATIENT = {**dict.fromkeys(("body_s", "between_bytes_s", "tunnel_s"), PATIENT_S), "least_rate": 5}
STEP_S = 0.1  # of those who are slow, but not too slow
STEPS = 20  # together longer than a patient time-out
BEGUN = b"x" * 17_000  # of a body that is too large to be read whole before a backend is asked
LARGE = 12_000_000  # more than the kernel takes for a receiver that doesn't read


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def quiet() -> Iterator[ScriptedBackend]:
    """A backend that only one test asks."""
    with backends(1) as [one]:
        yield one


class Both(NamedTuple):
    """Balancers before the same backend: who takes too long, and who is only slow."""

    hasty: Instance
    patient: Instance


@pytest.fixture(scope="module")
def both(backend: ScriptedBackend, quiet: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    routes = {
        "default": proxy(backend.port),
        "quiet.example": proxy(quiet.port),
        "page.example": {"action": "static", "body": "x" * 60_000},
    }
    folder = tmp_path_factory.mktemp("deadlines")
    instances = [
        Instance(folder / name, routes, balancer={"limits": limits})
        for name, limits in (("hasty", HASTY), ("patient", PATIENT))
    ]
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Instance.start, instances))
        yield Both(*instances)
    finally:
        for each in instances:
            each.stop()


Scenario = Callable[[Both, ScriptedBackend], None]
SCENARIOS: dict[str, Scenario] = {}


@pytest.fixture(scope="module")
def running(both: Both, backend: ScriptedBackend) -> Iterator[dict[str, Future[None]]]:
    """All scenarios at once: each is waiting most of its time."""
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {name: pool.submit(scenario, both, backend) for name, scenario in SCENARIOS.items()}


def meanwhile(scenario: Scenario) -> Callable[[dict[str, Future[None]]], None]:
    """A test that runs beside the others of its kind."""
    name = scenario.__name__

    def test(running: dict[str, Future[None]]) -> None:
        running[name].result(3 * LONG_S)

    SCENARIOS[name] = scenario
    test.__name__ = name
    return test


def spent(pieces: Iterable[bytes], port: int, *, step_s: float = 0.0) -> tuple[bytes, float]:
    """What comes back for these, sent in steps, until the end of the connection; and how long it took."""
    with socket.create_connection(("127.0.0.1", port), timeout=LONG_S) as connection:
        began = time.monotonic()
        received = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                if select.select([connection], [], [], step_s)[0]:
                    break  # an answer, or the end
            while data := connection.recv(65_536):
                received += data
        return received, time.monotonic() - began


def status(received: bytes) -> int:
    [answer] = read_answers(received)
    return answer.status


HEAD = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: a.example\r\n"


@meanwhile
def test_a_head_that_does_not_come_whole_is_a_408(both: Both, backend: ScriptedBackend) -> None:
    received, took_s = spent([HEAD], both.hasty.port)
    assert status(received) == 408
    assert took_s >= SHORT_S


@meanwhile
def test_a_head_that_comes_in_drops_has_no_more_time_than_another(both: Both, backend: ScriptedBackend) -> None:
    head = HEAD + b"X-Long: %b" % (b"x" * 400)  # twenty seconds of drops
    drops = (head[at : at + 1] for at in range(len(head)))
    received, took_s = spent(drops, both.hasty.port, step_s=0.05)
    assert status(received) == 408
    assert took_s >= SHORT_S
    assert any(drops), "there were more to come"


@meanwhile
def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(both: Both, backend: ScriptedBackend) -> None:
    assert spent([], both.hasty.port)[0] == b""


@meanwhile
def test_a_connection_that_stays_idle_is_closed_without_a_word_and_one_that_begins_a_request_gets_408(
    both: Both, backend: ScriptedBackend
) -> None:
    with Visitor(both.hasty.port) as idle, Visitor(both.hasty.port) as begun:
        for visitor in (idle, begun):
            assert visitor.get("/", host="page.example").status == 200
        begun.send(HEAD)
        assert begun.answer().status == 408
        assert idle.has_ended()


@meanwhile
def test_a_body_that_does_not_go_on_is_a_408_and_takes_its_backend_connection_with_it(
    both: Both, backend: ScriptedBackend
) -> None:
    ends: list[bytes] = []

    def script(turn: Turn) -> None:
        turn.wait_for_close()
        ends.append(turn.rest)

    backend.scripts["/body"] = script
    framings = [b"Content-Length: 18000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 18_000]
    with ThreadPoolExecutor(2) as pool:
        for received, took_s in pool.map(lambda framing: spent([POST + framing + BEGUN], both.hasty.port), framings):
            assert status(received) == 408
            assert took_s >= SHORT_S
    wait_for(lambda: len(ends) == 2, what="the backend's connections to be closed")


@meanwhile
def test_a_body_in_drops_is_a_408_and_no_backend_is_asked_for_it(both: Both, backend: ScriptedBackend) -> None:
    framings = [b"Content-Length: 16000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 16_000]

    def drops(framing: bytes) -> int:
        pieces = [b"POST /drops-in HTTP/1.1\r\nHost: a\r\n" + framing, *[b"x"] * 16_000]
        return status(spent(pieces, both.hasty.port, step_s=0.05)[0])

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(drops, framings)) == [408, 408]
    assert requests_to([backend], "/drops-in") == 0


@meanwhile
def test_a_large_body_whose_rest_comes_in_drops_is_cut(both: Both, backend: ScriptedBackend) -> None:
    backend.scripts["/rest"] = lambda turn: turn.say(sized(turn.body()))
    start = b"POST /rest HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + BEGUN
    assert status(spent([start, *[b"x"] * 16_000], both.hasty.port, step_s=0.05)[0]) == 408


@meanwhile
def test_a_backend_that_answers_slowly_is_waited_for(both: Both, backend: ScriptedBackend) -> None:
    def script(turn: Turn) -> None:
        turn.say(OK + b"Content-Length: %d\r\n\r\n" % STEPS)
        for _ in range(STEPS):
            time.sleep(STEP_S)
            turn.say(b"x")

    backend.scripts["/slowly"] = script
    assert ask(both.patient.port, "a.example", "/slowly").body == b"x" * STEPS


@meanwhile
def test_a_backend_that_stops_within_its_answer_is_cut(both: Both, backend: ScriptedBackend) -> None:
    backend.scripts["/stops"] = says_and_waits(OK + b"Content-Length: 10\r\n\r\nabc")
    answer = ask(both.hasty.port, "a", "/stops")
    assert (answer.body, answer.whole) == (b"abc", False)


def narrow(port: int, ahead_bytes: int = 4096) -> socket.socket:
    """A client's connection that takes little ahead of its reader, in packets as on a real line."""
    connection = socket.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ahead_bytes)
    connection.settimeout(LONG_S)
    connection.connect(("127.0.0.1", port))
    return connection


def whole_answer(connection: socket.socket) -> Answer:
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(1_000_000):
            received += data
    [answer] = read_answers(bytes(received))
    return answer


@meanwhile
def test_a_client_that_takes_nothing_of_its_answer_is_cut_and_the_backend_let_go(
    both: Both, backend: ScriptedBackend
) -> None:
    ended: list[int] = []

    def script(turn: Turn) -> None:
        turn.say(sized(b"x" * LARGE))
        turn.wait_for_close()
        ended.append(1)

    backend.scripts["/large"] = script
    with narrow(both.hasty.port) as connection:
        connection.sendall(said("/large", "a"))
        wait_for(lambda: len(ended) == 1, what="the backend's connection to be closed")
        assert not whole_answer(connection).whole


@meanwhile
def test_a_client_that_waits_before_it_takes_its_answer_gets_it_whole(both: Both, backend: ScriptedBackend) -> None:
    backend.scripts["/waits"] = lambda turn: turn.say(sized(b"x" * LARGE))
    with narrow(both.patient.port) as connection:
        connection.sendall(said("/waits", "a", more=b"Connection: close\r\n"))
        time.sleep(PATIENT_S + 0.5)  # more than a backend has, less than a client has
        assert whole_answer(connection).whole


def is_cut(connection: socket.socket) -> bool:
    """A reset can be seen without reading."""
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


@meanwhile
def test_a_client_that_takes_its_answer_in_drops_is_cut(both: Both, backend: ScriptedBackend) -> None:
    backend.scripts["/drops"] = lambda turn: turn.say(sized(b"x" * LARGE))

    def takes_a_drop() -> bool:
        with contextlib.suppress(ConnectionError):
            return not connection.recv(10)
        return True

    with narrow(both.hasty.port) as connection:
        connection.sendall(said("/drops", "a"))
        wait_for(takes_a_drop, what="its cut")


@meanwhile
def test_a_client_that_takes_nothing_of_what_the_kernel_has_for_it_is_cut_once_it_is_idle(
    both: Both, backend: ScriptedBackend
) -> None:
    backend.scripts["/in-kernel"] = lambda turn: turn.say(sized(b"x" * 500_000))
    with narrow(both.hasty.port) as connection:
        connection.sendall(said("/in-kernel", "a"))
        wait_for(lambda: is_cut(connection), what="its cut")


@meanwhile
def test_a_backend_that_stops_after_a_slow_client_is_cut_too(both: Both, backend: ScriptedBackend) -> None:
    def script(turn: Turn) -> None:
        turn.say(OK + b"Content-Length: %d\r\n\r\n" % (LARGE + 1) + b"x" * LARGE)
        turn.wait_for_close()

    backend.scripts["/stops-late"] = script
    with narrow(both.hasty.port) as connection:
        connection.sendall(said("/stops-late", "a"))
        time.sleep(SHORT_S)
        answer = whole_answer(connection)
    assert not answer.whole


@meanwhile
def test_a_client_that_takes_nothing_of_our_own_answers_is_cut_too(both: Both, backend: ScriptedBackend) -> None:
    request = said("/", "page.example")
    with narrow(both.hasty.port) as keeps, narrow(both.hasty.port) as closes:
        began = time.monotonic()
        keeps.sendall(100 * request)
        closes.sendall(100 * request + said("/", "page.example", more=b"Connection: close\r\n"))
        for connection in (keeps, closes):
            wait_for(lambda each=connection: is_cut(each), what="its cut")  # type: ignore[misc]
        assert time.monotonic() - began > WRITE_S


@meanwhile
def test_a_tunnel_lives_as_long_as_something_passes(both: Both, backend: ScriptedBackend) -> None:
    upgrade = b"Connection: upgrade\r\nUpgrade: websocket\r\n"

    def listens(turn: Turn) -> None:
        turn.say(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n")
        turn.wait_for_close()

    def speaks(turn: Turn) -> None:
        turn.say(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade + b"\r\n")
        for _ in range(STEPS):
            time.sleep(STEP_S)
            said_at["/speaks"] = time.monotonic()
            turn.say(b"ping")
        turn.wait_for_close()

    said_at: dict[str, float] = {}
    backend.scripts["/listens"], backend.scripts["/speaks"] = listens, speaks

    def hold(path: str) -> None:
        with socket.create_connection(("127.0.0.1", both.patient.port), timeout=LONG_S) as connection:
            connection.sendall(said(path, "a", more=upgrade))
            assert connection.recv(65_536).startswith(b"HTTP/1.1 101 ")
            for _ in range(STEPS):
                if path == "/listens":
                    time.sleep(STEP_S)
                    said_at[path] = time.monotonic()
                    connection.sendall(b"ping")
                else:
                    assert connection.recv(4) == b"ping"
            assert connection.recv(100) == b""
            assert time.monotonic() - said_at[path] >= PATIENT_S

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(hold, ["/listens", "/speaks"]))


# After all scenarios: what stops the balancer would stop them too.


@pytest.fixture
def live(both: Both) -> LiveLimits:
    """Of the patient one: what is in time there has time to get ready, on a busy machine too."""
    return LiveLimits(both.patient.folder / "var" / "stage" / "settings.db", both.patient.port)


def test_a_request_that_comes_while_its_connection_expires_is_answered(both: Both, live: LiveLimits) -> None:
    page = said("/", "page.example")
    with contextlib.ExitStack() as stack, live.of(idle_s=PATIENT_S):
        visitors = [stack.enter_context(Visitor(both.patient.port)) for _ in range(10)]
        with both.patient.frozen():  # so that all are answered at the same time
            for visitor in visitors:
                visitor.send(page)
        assert [visitor.answer().status for visitor in visitors] == [200] * 10
        with both.patient.frozen():
            time.sleep(PATIENT_S + 0.3)
            for visitor in visitors:
                visitor.send(said("/expired", "a"))
        assert [visitor.answer().status for visitor in visitors] == [200] * 10


def test_an_answer_that_comes_while_its_time_is_up_is_passed_on(
    both: Both, backend: ScriptedBackend, live: LiveLimits
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def script(turn: Turn) -> None:
        arrived.set()
        go_on.wait(LONG_S)
        turn.say(sized(b"in time"))

    backend.scripts["/late"] = script
    with live.of(first_byte_s=PATIENT_S), Visitor(both.patient.port) as visitor:
        visitor.send(said("/late", "a"))
        assert arrived.wait(LONG_S)
        with both.patient.frozen():
            go_on.set()
            time.sleep(PATIENT_S + 0.3)
        assert visitor.answer().body == b"in time"


def test_an_idle_connection_to_a_backend_is_closed_in_time(both: Both, quiet: ScriptedBackend) -> None:
    for _ in range(2):
        assert ask(both.hasty.port, "quiet.example", "/idle").status == 200
    wait_for(lambda: quiet.open_connections == 0, what="the balancer to close it")
    assert requests_to([quiet], "/idle") == 2
