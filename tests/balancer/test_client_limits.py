"""How much one client may ask for: bodies, connections, requests a second."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator

import pytest

from tests.balancer.caller import Caller
from tests.balancer.stage import LONG_S, Instance, backends, proxy, requests_to, said, sized, staged
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.services import wait_for
from tests.services.nexus import cpu_s

BODY_BYTES = 1000
CONNECTIONS, CLIENT_CONNECTIONS = 8, 3
RPS, BURST = 1, 6
ADDRESSES = (f"127.0.1.{number}" for number in itertools.count(1))  # each test has clients of its own


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        one.scripts["/length"] = lambda turn: turn.say(sized(b"%d" % len(turn.body())))
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    limits = {
        "body_bytes": BODY_BYTES,
        "connections": CONNECTIONS,
        "client_connections": CLIENT_CONNECTIONS,
        "client_rps": RPS,
        "client_burst": BURST,
    }
    with staged(
        tmp_path_factory.mktemp("limits"), {"default": proxy(backend.port)}, balancer={"limits": limits}
    ) as one:
        yield one


def ask(balancer: Instance, *pieces: bytes) -> tuple[int, bytes]:
    with Caller(balancer.port, next(ADDRESSES)) as caller:
        answer = caller.ask(*pieces)
        assert answer is not None
        return answer.status, answer.body


def is_served(balancer: Instance, address: str) -> bool:
    with Caller(balancer.port, address) as caller:
        return caller.ask(said("/", "a")) is not None


def chunks(*sizes: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes)


POST = b"POST /length HTTP/1.1\r\nHost: a.example\r\n"
LONG_POST = POST + b"X-Long: %b\r\n" % (b"x" * 3000)  # a head isn't a body
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("start", [POST, LONG_POST])
def test_a_body_of_just_the_limit_is_taken_however_it_comes(start: bytes, balancer: Instance) -> None:
    sized_head = start + b"Content-Length: %d\r\n\r\n" % BODY_BYTES
    body = b"x" * BODY_BYTES
    assert ask(balancer, sized_head + body) == (200, b"1000")
    assert ask(balancer, sized_head, body[:900], body[900:]) == (200, b"1000")
    assert ask(balancer, start + CHUNKED + chunks(1000) + b"0\r\n\r\n")[0] == 200
    assert ask(balancer, start + CHUNKED, chunks(400), chunks(*[1] * 600), b"0\r\n\r\n")[0] == 200


@pytest.mark.parametrize(
    "pieces",
    [
        (POST + b"Content-Length: 1001\r\n\r\n",),
        (POST + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001,),
        (POST + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n",),
        (POST + CHUNKED + chunks(1001) + b"0\r\n\r\n",),
        (POST + CHUNKED, chunks(500), chunks(501)),
        (POST + CHUNKED + chunks(1000), chunks(1), b"0\r\n\r\n"),
        (POST + CHUNKED, *[chunks(50)] * 21),
    ],
    ids=["length", "length and body", "expected", "one chunk", "second chunk", "last byte", "small chunks"],
)
def test_a_longer_body_is_a_413_and_no_backend_gets_all_of_it(
    pieces: tuple[bytes, ...], balancer: Instance, backend: ScriptedBackend
) -> None:
    whole: list[bytes] = []

    def script(turn: Turn) -> None:
        body = turn.body()
        if body.endswith(b"0\r\n\r\n"):
            whole.append(body)

    backend.scripts["/long"] = script
    assert ask(balancer, *(piece.replace(b"/length", b"/long") for piece in pieces))[0] == 413
    assert not whole


def test_a_client_has_no_more_connections_than_allowed(balancer: Instance) -> None:
    address = next(ADDRESSES)
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Caller(balancer.port, address)) for _ in range(CLIENT_CONNECTIONS)]
        for caller in callers:
            assert caller.ask(said("/", "a")) is not None
        assert stack.enter_context(Caller(balancer.port, address)).ask(said("/", "a")) is None
        assert ask(balancer, said("/", "a"))[0] == 200, "others aren't concerned"
        callers[0].__exit__()
        wait_for(lambda: is_served(balancer, address), what="a connection to be free again")
        assert all(caller.is_open() for caller in callers[1:])
    assert balancer.admin("GET", "/stats.json")["fronts"]["http"]["denied_connections"] >= 1


def test_connections_beyond_the_limit_of_all_wait_until_others_close(balancer: Instance) -> None:
    with contextlib.ExitStack() as stack:
        callers = []
        for number in range(CONNECTIONS):
            callers.append(stack.enter_context(Caller(balancer.port, f"127.0.2.{number + 1}")))
            assert callers[-1].ask(said("/", "a")) is not None
        late = stack.enter_context(Caller(balancer.port, "127.0.2.99"))
        [worker] = balancer.workers()
        before = cpu_s(worker)
        late._connection.settimeout(1.0)
        with pytest.raises(TimeoutError):
            late.ask(said("/", "a"))
        assert cpu_s(worker) - before < 0.2, "it rests meanwhile"
        late._connection.settimeout(LONG_S)
        callers[0].__exit__()
        assert late.ask() is not None
        assert all(caller.is_open() for caller in callers[1:])


def test_a_client_that_asks_too_often_gets_429_and_when_to_try_again(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    address = next(ADDRESSES)
    with Caller(balancer.port, address) as caller, Caller(balancer.port, address) as same:
        statuses: list[int] = []
        while statuses.count(429) < 2:  # time passes meanwhile, so that one more or the other may have been due
            assert len(statuses) < 50
            answer = (caller, same)[len(statuses) % 2].ask(said("/often", "a", method="POST", body=b"hi"))
            assert answer is not None
            statuses.append(answer.status)
        assert statuses[:BURST] == [200] * BURST
        assert answer is not None
        assert answer.status == 429
        assert answer.value(b"retry-after") == b"1"
        assert caller.is_open()
        assert ask(balancer, said("/", "a"))[0] == 200, "others aren't concerned"
        time.sleep(1.0)
        answer = caller.ask(said("/often", "a"))
        assert answer is not None
        assert answer.status == 200
    assert requests_to([backend], "/often") == statuses.count(200) + 1
