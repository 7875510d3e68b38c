"""What an answer tells anybody when a backend fails, and what only the log says."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.balancer.stage import Instance, ask, proxy, reason, staged
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.services import free_port, wait_for

MANY = 40  # failures of one kind, within less than the time between two lines


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    backend = ScriptedBackend()
    backend.scripts["/reset"] = Turn.reset
    backend.scripts["/garbage"] = lambda turn: turn.say(b"10.9.8.7 is no HTTP\r\n\r\n")
    backend.scripts["/nothing"] = lambda turn: turn.wait_for_close()
    yield backend
    backend.stop()


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory, backend: ScriptedBackend) -> Iterator[Instance]:
    dead = free_port()
    inner = "inner-name.example"
    routes = {
        inner: proxy(backend.port),
        "alias.example": {"action": "alias", "of": inner},
        "again.example": proxy(backend.port, retry="idempotent"),
        "dead.example": proxy(dead),
        "down.example": proxy(dead, fall=1, check_path="/health", check_s=0.2),
        "held.example": proxy(dead, fall=1, check_path="/health", check_s=0.2, hold=1, hold_s=0.3),
    }
    limits = {"first_byte_s": 0.5}
    with staged(tmp_path_factory.mktemp("strangers"), routes, balancer={"limits": limits}) as instance:
        yield instance


@pytest.mark.parametrize(
    ("host", "path", "status", "words"),
    [
        ("alias.example", "/reset", 502, "no whole answer"),
        ("again.example", "/reset", 502, "no whole answer"),
        ("alias.example", "/garbage", 502, "bad answer"),
        ("alias.example", "/nothing", 504, "no answer within"),
        ("dead.example", "/", 502, "can't connect"),
        ("held.example", "/", 503, "no backend is alive"),
    ],
)
def test_an_answer_says_what_is_wrong_and_neither_where_nor_of_whom(
    balancer: Instance, host: str, path: str, status: int, words: str
) -> None:
    answer = ask(balancer.port, host, path)
    assert (answer.status, words in reason(answer)) == (status, True), reason(answer)
    for told in ("127.0.0.1", "10.9.8.7", "example"):
        assert told not in reason(answer)


def test_what_an_answer_leaves_out_is_in_the_log(balancer: Instance) -> None:
    ask(balancer.port, "dead.example")
    wait_for(lambda: re.search(r" 502 127\.0\.0\.1:\d+: can't connect", balancer.log()), what="its line")


def test_however_often_something_fails_the_log_says_it_now_and_then(balancer: Instance) -> None:
    for _ in range(MANY):
        assert ask(balancer.port, "alias.example", "/reset").status == 502
    ask(balancer.port, "held.example")
    # Another kind of failure has a line of its own, however often the first one happens.
    wait_for(lambda: "no backend is alive for" in balancer.log(), what="the line of another kind")
    assert 1 <= balancer.log().count("no whole answer") < MANY / 2
