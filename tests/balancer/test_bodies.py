"""A body that comes slowly holds no backend: a small one is gathered first, a large one rests while nothing comes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from balancer.measures.stats import FrontStats
from balancer.middle.client import Client
from balancer.middle.reporter import Reporter
from balancer.middle.traffic import GATHERED_BYTES, Traffic
from hitmesh.config import Balancer
from hitmesh.http.wire import CLOSED
from tests.balancer.stage import (
    LONG_S,
    Gate,
    Instance,
    ask,
    backends,
    proxy,
    requests_to,
    said,
    sized,
    staged,
)
from tests.balancer.wire.answers import read_answers
from tests.balancer.wire.scripted import ScriptedBackend
from tests.balancer.wire.visitor import Visitor
from tests.services import free_port, wait_for

SMALL = 16_384  # the default of small_body_bytes
PLACES = 2  # of the narrow route
LARGE_HEAD = b"Content-Length: 20000\r\n\r\n"
LARGE_BEGUN = b"x" * 17_000
LARGE_REST = b"x" * 3000


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    routes = {
        "default": proxy(backend.port),
        "narrow.example": proxy(backend.port, backend_connections=PLACES),
        "single.example": proxy(backend.port, backend_connections=1),
        "refused.example": proxy(free_port(), backend.port),
    }
    with staged(tmp_path_factory.mktemp("bodies"), routes) as instance:
        yield instance


@pytest.fixture(autouse=True)
def echo(backend: ScriptedBackend) -> None:
    for path in ("/sized", "/chunked", "/old", "/piped", "/expected", "/upload", "/queued", "/refused"):
        backend.scripts[path] = lambda turn: turn.say(sized(turn.body()))


def begun(path: str, framing: bytes, host: str = "a", version: bytes = b"1.1") -> bytes:
    return b"POST %b HTTP/%b\r\nHost: %b\r\n%b" % (path.encode(), version, host.encode(), framing)


FRAMINGS = {
    "/sized": (begun("/sized", b"Content-Length: 6\r\n\r\nabc"), b"def", b"abcdef"),
    "/old": (begun("/old", b"Content-Length: 6\r\n\r\nabc", version=b"1.0"), b"def", b"abcdef"),
    "/chunked": (
        begun("/chunked", b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
        b"1\r\nc\r\n3\r\ndef\r\n0\r\n\r\n",
        b"6\r\nabcdef\r\n0\r\n\r\n",
    ),
}


def is_known_to_be_there(balancer: Instance) -> None:
    """What was sent before on other connections has been read."""
    with balancer.frozen():
        pass
    assert ask(balancer.port, "a", "/marker").status == 200


@pytest.mark.parametrize("path", FRAMINGS)
def test_no_backend_is_asked_before_a_small_body_is_whole(
    path: str, balancer: Instance, backend: ScriptedBackend
) -> None:
    first, rest, whole = FRAMINGS[path]
    with Visitor(balancer.port) as visitor:
        visitor.send(first)
        is_known_to_be_there(balancer)
        assert requests_to([backend], path) == 0
        visitor.send(rest)
        answer = visitor.answer()
    assert (answer.status, answer.body) == (200, whole)
    assert requests_to([backend], path) == 1


def test_a_client_that_leaves_within_a_small_body_has_no_backend_asked(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    aborts = balancer.admin("GET", "/stats.json")["fronts"]["http"]["client_aborts"]
    with Visitor(balancer.port) as visitor:
        visitor.send(begun("/left", b"Content-Length: 6\r\n\r\nabc"))
    wait_for(
        lambda: balancer.admin("GET", "/stats.json")["fronts"]["http"]["client_aborts"] > aborts,
        what="its leaving to be seen",
    )
    assert requests_to([backend], "/left") == 0


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n"])
def test_a_body_of_more_than_a_small_one_is_streamed(
    framing: bytes, balancer: Instance, backend: ScriptedBackend
) -> None:
    gate = Gate()
    backend.scripts["/streamed"] = gate
    with Visitor(balancer.port) as visitor:
        visitor.send(begun("/streamed", framing % 20_000 + b"x" * (SMALL - 1)))
        is_known_to_be_there(balancer)
        assert gate.arrived == 0
        visitor.send(b"x")
        wait_for(lambda: gate.arrived == 1, what="the backend to be asked")
        gate.let()


def test_what_follows_a_gathered_body_is_the_next_request(balancer: Instance) -> None:
    with socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection:
        connection.sendall(begun("/piped", b"Content-Length: 6\r\n\r\nabc"))
        is_known_to_be_there(balancer)
        connection.sendall(b"def" + said("/next", "a") + said("/piped", "a", method="POST", body=b"more"))
        received = b""
        while len(answers := read_answers(received)) < 3 or not answers[-1].whole:
            received += connection.recv(65_536)
    assert [answer.body for answer in answers] == [b"abcdef", b"/next", b"more"]


@pytest.mark.parametrize("framing", [b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_who_waits_to_be_told_to_send_a_small_body_is_told_before_a_backend_is_asked(
    framing: bytes, balancer: Instance, backend: ScriptedBackend
) -> None:
    before = requests_to([backend], "/expected")
    with socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection:
        connection.sendall(begun("/expected", b"Expect: 100-continue\r\n" + framing + b"\r\n"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert requests_to([backend], "/expected") == before
        connection.sendall(b"abc" if b"Length" in framing else b"3\r\nabc\r\n0\r\n\r\n")
        [answer] = read_answers(connection.recv(1000))
    assert answer.body == (b"abc" if b"Length" in framing else b"3\r\nabc\r\n0\r\n\r\n")
    assert b"Expect" not in backend.heads[-1], "it was answered"


def test_whether_a_large_body_is_wanted_is_for_the_backend_to_say(balancer: Instance, backend: ScriptedBackend) -> None:
    backend.scripts["/unwanted"] = lambda turn: turn.say(sized(b"no", b"413 Content Too Large"))
    with Visitor(balancer.port) as visitor:
        visitor.send(begun("/unwanted", b"Expect: 100-continue\r\n" + LARGE_HEAD))
        assert visitor.answer().status == 413
    assert b"Expect: 100-continue" in backend.heads[-1]


def test_a_body_of_which_more_came_while_it_waited_for_a_place_arrives_whole(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    gate = Gate()
    backend.scripts["/busy"] = gate
    with Visitor(balancer.port) as first, Visitor(balancer.port) as second:
        first.send(said("/busy", "single.example"))
        wait_for(lambda: gate.arrived == 1, what="the place to be taken")
        second.send(begun("/queued", LARGE_HEAD + LARGE_BEGUN, host="single.example"))
        wait_for(lambda: balancer.waiting("single.example") == 1, what="the other to wait")
        second.send(LARGE_REST)
        is_known_to_be_there(balancer)
        gate.let()
        assert second.answer().body == LARGE_BEGUN + LARGE_REST


@pytest.mark.parametrize("length", [2, SMALL, 100_000])
def test_a_body_whose_first_backend_takes_no_connection_goes_to_another_whole_and_once(
    length: int, balancer: Instance, backend: ScriptedBackend
) -> None:
    before = requests_to([backend], "/refused")
    for _ in range(10):
        answer = ask(balancer.port, "refused.example", "/refused", method="POST", body=b"x" * length)
        assert (answer.status, len(answer.body)) == (200, length)
    assert requests_to([backend], "/refused") == before + 10


def stalled(balancer: Instance, stack: contextlib.ExitStack, count: int) -> list[Visitor]:
    """Large uploads whose rest doesn't come."""
    visitors = [stack.enter_context(Visitor(balancer.port)) for _ in range(count)]
    for number, visitor in enumerate(visitors, 1):
        visitor.send(begun("/upload", LARGE_HEAD + LARGE_BEGUN, host="narrow.example"))
        wait_for(lambda number=number: sessions(balancer) == number, what="the upload to be with its backend")  # type: ignore[misc]
    return visitors


def sessions(balancer: Instance) -> int:
    [one] = balancer.service("narrow.example")["backends"].values()
    return int(one["sessions"])


def test_uploads_that_stand_still_take_no_places_and_go_on_when_they_can(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    with contextlib.ExitStack() as stack:
        uploads = stalled(balancer, stack, PLACES)
        for number in range(5):
            assert ask(balancer.port, "narrow.example", f"/between-{number}").status == 200
        for upload in uploads:
            upload.send(LARGE_REST)
            assert upload.answer().body == LARGE_BEGUN + LARGE_REST
    wait_for(lambda: sessions(balancer) == 0, what="all places to be free")
    assert ask(balancer.port, "narrow.example", "/afterwards").status == 200


def test_what_is_gathered_of_all_clients_together_has_a_bound() -> None:
    reporter = Reporter(None, wall=lambda: 0.0)
    traffic = Traffic(Balancer(), services=(), reporter=reporter, wall=lambda: 0.0, id_prefix=b"")
    front = FrontStats(0.0)
    clients = [
        Client(traffic, CLOSED, stats=front, address="192.0.2.1", scheme="http", local="", now=0.0) for _ in range(3)
    ]
    assert traffic.gathered(clients[0], GATHERED_BYTES // 2)
    assert traffic.gathered(clients[1], GATHERED_BYTES // 2)
    assert not traffic.gathered(clients[2], 1)
    assert traffic.gathered(clients[2], 0)
    assert traffic.gathered(clients[0], 0)
    assert traffic.gathered(clients[2], GATHERED_BYTES // 2)
