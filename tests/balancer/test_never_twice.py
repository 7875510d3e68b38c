"""A request goes to a second backend only if not a byte of it was sent to the first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.balancer.stage import (
    Instance,
    ask,
    ask_at_once,
    backends,
    on_all,
    proxy,
    reason,
    requests_to,
    sized,
    staged,
    statuses,
)
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.balancer.wire.trouble import Deaf
from tests.balancer.wire.visitor import Visitor
from tests.services import free_port, wait_for

MANY = 20  # so that the choice among two would fall on each of them


@pytest.fixture(scope="module")
def pair() -> Iterator[list[ScriptedBackend]]:
    with backends(2) as started:
        yield started


@pytest.fixture(scope="module")
def balancer(pair: list[ScriptedBackend], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    first, second = (each.port for each in pair)
    deaf = Deaf()
    routes = {
        "never.example": proxy(first, second),
        "again.example": proxy(first, second, retry="idempotent", hold=10, hold_s=1.0),
        "alone.example": proxy(first, retry="idempotent", hold=10, hold_s=1.0),
        "refused.example": proxy(free_port(), first),
        "held.example": proxy(free_port(), first, hold=10),
        "deaf.example": proxy(deaf.port, first),
        "single.example": proxy(first),
    }
    with staged(tmp_path_factory.mktemp("twice"), routes, balancer={"limits": {"connect_s": 0.3}}) as instance:
        yield instance
    deaf.close()


def test_a_request_that_was_read_and_then_reset_is_a_502_with_the_reason_and_goes_nowhere_else(
    balancer: Instance, pair: list[ScriptedBackend]
) -> None:
    on_all(pair, "/reset", Turn.reset)
    for number in range(MANY):
        answer = ask(balancer.port, "never.example", "/reset")
        assert answer.status == 502
        assert "no whole answer" in reason(answer)
        assert requests_to(pair, "/reset") == number + 1


def test_with_retry_an_idempotent_request_goes_to_another_backend(
    balancer: Instance, pair: list[ScriptedBackend]
) -> None:
    pair[0].scripts["/one-resets"] = Turn.reset
    for _ in range(MANY):
        assert ask(balancer.port, "again.example", "/one-resets").status == 200
    assert requests_to(pair[1:], "/one-resets") == MANY
    assert requests_to(pair[:1], "/one-resets") > 0, "one of them began with it"


@pytest.mark.parametrize(("method", "body"), [("POST", b"hi"), ("POST", None), ("PATCH", b"hi"), ("GET", b"hi")])
def test_with_retry_any_other_request_goes_nowhere_else(
    method: str, body: bytes | None, balancer: Instance, pair: list[ScriptedBackend]
) -> None:
    path = f"/{method}-{body!r}"
    on_all(pair, path, Turn.reset)
    assert ask(balancer.port, "again.example", path, method=method, body=body).status == 502
    assert requests_to(pair, path) == 1


def test_a_request_that_no_backend_survives_is_tried_a_few_times_only(
    balancer: Instance, pair: list[ScriptedBackend]
) -> None:
    on_all(pair, "/poison", Turn.reset)
    assert ask(balancer.port, "again.example", "/poison").status == 502
    assert requests_to(pair, "/poison") == 3
    assert ask(balancer.port, "alone.example", "/poison").status == 502
    assert requests_to(pair, "/poison") == 6


@pytest.mark.parametrize("host", ["refused.example", "held.example", "deaf.example"])
def test_a_request_whose_connection_fails_is_tried_elsewhere_and_succeeds(
    host: str, balancer: Instance, pair: list[ScriptedBackend]
) -> None:
    path = f"/{host}"
    answers = ask_at_once(MANY, lambda _: ask(balancer.port, host, path, method="POST", body=b"hi"))
    assert statuses(answers) == [200] * MANY
    assert requests_to(pair, path) == MANY


def test_an_idle_connection_that_the_backend_has_closed_fails_no_request_and_sends_none_twice(
    balancer: Instance, pair: list[ScriptedBackend]
) -> None:
    on_all(pair, "/first", lambda turn: turn.say(sized(b"1")))
    visitors = [Visitor(balancer.port) for _ in range(MANY)]
    for visitor in visitors:
        visitor.send(b"GET /first HTTP/1.1\r\nHost: single.example\r\n\r\n")
    assert [visitor.answer().status for visitor in visitors] == [200] * MANY
    for turn in range(5):
        path = f"/stale-{turn}"
        with balancer.frozen():
            # The end of the idle connections comes first, and both are found together.
            pair[0].hang_up()
            wait_for(lambda: pair[0].open_connections == 0, what="the backend's connections to be closed")
            for visitor in visitors:
                visitor.send(f"POST {path} HTTP/1.1\r\nHost: single.example\r\nContent-Length: 2\r\n\r\nhi".encode())
        assert [visitor.answer().status for visitor in visitors] == [200] * MANY
        assert requests_to(pair, path) == MANY
    for visitor in visitors:
        visitor.__exit__()
