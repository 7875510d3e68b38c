"""Requests that wait while no backend lives. How long, in which order and how many: `middle/test_patience.py`."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.balancer.stage import (
    LONG_S,
    Gate,
    Instance,
    ask,
    ask_at_once,
    backends,
    proxy,
    reason,
    requests_to,
    said,
    sized,
    staged,
)
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.balancer.wire.visitor import Visitor
from tests.services import free_port, wait_for

HOLD = 5
CHECKED = {"check_s": 0.2, "hold": HOLD, "hold_s": 120.0}
BIG = bytes(range(256)) * 2000  # more than a connection keeps in memory while it waits


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def places() -> dict[str, int]:
    """Ports where nobody listens, until a test does."""
    names = ("comes", "asked", "leaving", "nobody")
    return {f"{name}.example": free_port() for name in names}


@pytest.fixture(scope="module")
def balancer(
    backend: ScriptedBackend, places: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    routes = {host: proxy(port, **CHECKED) for host, port in places.items()}
    routes["asked.example"] = proxy(places["asked.example"], check_path="/health", **CHECKED)
    routes["nobody.example"] = proxy(places["nobody.example"], hold=0)
    backend.scripts["/sick"] = lambda turn: turn.say(sized(b"", b"503 Service Unavailable"))
    routes["sick.example"] = proxy(backend.port, backend_connections=1, hold=0, check_path="/sick", check_s=0.1, fall=1)
    with staged(tmp_path_factory.mktemp("holding"), routes) as instance:
        yield instance


def wait_for_waiting(balancer: Instance, host: str, count: int) -> None:
    wait_for(lambda: balancer.waiting(host) == count, what=f"{count} requests to wait at {host}")


def echo(turn: Turn) -> None:
    """Answers with the body, however its length was told."""
    body = turn.body()
    if b"chunked" in turn.head:
        chunks, body = body, b""
        while not chunks.startswith(b"0\r\n"):
            size, _, chunks = chunks.partition(b"\r\n")
            body, chunks = body + chunks[: int(size, 16)], chunks[int(size, 16) + 2 :]
    turn.say(sized(body))


@pytest.mark.parametrize("host", ["comes.example", "asked.example"])
def test_requests_of_every_kind_wait_for_a_backend_and_go_on_when_it_comes(
    host: str, balancer: Instance, places: dict[str, int]
) -> None:
    chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    questions = [
        said("/get", host),
        said("/echo", host, method="POST", body=b"hello"),
        said("/echo", host, method="PUT", body=BIG),
        said("/echo", host, method="POST", more=b"Transfer-Encoding: chunked\r\n") + chunks,
    ]
    with contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(balancer.port)) for _ in questions]
        answers = ask_at_once(len(questions), lambda number: visitors[number].ask(questions[number]))
        wait_for_waiting(balancer, host, len(questions))
        one = ScriptedBackend(places[host])
        stack.callback(one.stop)
        one.scripts["/echo"] = echo
        found = [each.result(LONG_S) for each in answers]
    assert [each.status for each in found] == [200] * len(questions)
    assert [each.body for each in found] == [b"/get", b"hello", BIG, b"abcde"]
    assert requests_to([one], "/get") == 1
    assert requests_to([one], "/echo") == 3


def test_no_more_wait_than_are_allowed_to_and_who_leaves_frees_a_place(balancer: Instance) -> None:
    host = "leaving.example"
    with contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(balancer.port)) for _ in range(HOLD)]
        for visitor in visitors:
            visitor.send(said("/", host))
        wait_for_waiting(balancer, host, HOLD)
        answer = ask(balancer.port, host)
        assert answer.status == 503
        assert f"{HOLD} requests wait already" in reason(answer)
        wait_for_waiting(balancer, host, HOLD)
        closes, resets = visitors[0]._connection, visitors[1]._connection
        resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        resets.close()
        wait_for_waiting(balancer, host, HOLD - 1)
        closes.close()
        wait_for_waiting(balancer, host, HOLD - 2)
        visitors[0] = stack.enter_context(Visitor(balancer.port))
        visitors[0].send(said("/", host))
        wait_for_waiting(balancer, host, HOLD - 1)


def test_without_hold_nobody_waits(balancer: Instance) -> None:
    for _ in range(3):
        answer = ask(balancer.port, "nobody.example")
        assert answer.status in {502, 503}
        assert "can't connect" in reason(answer)
    assert balancer.service("nobody.example")["held_total"] == 0


def test_where_nobody_is_held_a_backend_that_is_down_is_tried_but_not_beyond_its_connections(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    gate = backend.scripts["/tried"] = Gate()
    assert isinstance(gate, Gate)
    name = f"127.0.0.1:{backend.port}"
    wait_for(lambda: balancer.service("sick.example")["backends"][name]["status"] == "DOWN", what="it to be down")
    with Visitor(balancer.port) as visitor:
        visitor.send(said("/tried", "sick.example"))
        wait_for(lambda: gate.arrived == 1, what="the request to arrive")
        assert ask(balancer.port, "sick.example", "/tried").status == 503
        gate.let()
        assert visitor.answer().status == 200
    assert gate.arrived == 1
