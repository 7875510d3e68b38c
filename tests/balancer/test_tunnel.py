"""Upgraded connections: bytes pass both ways, and nobody else's protocol is begun."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.balancer.stage import LONG_S, Instance, backends, constant_memory, proxy, said, sized, staged
from tests.balancer.wire.answers import read_answers
from tests.balancer.wire.scripted import Script, ScriptedBackend, Turn
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n" + UPGRADE + b"Sec-WebSocket-Accept: x\r\n\r\n"
LARGE = 30_000_000


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with staged(tmp_path_factory.mktemp("tunnel"), {"default": proxy(backend.port)}) as instance:
        yield instance


@contextlib.contextmanager
def tunnel(balancer: Instance, path: str, *, ahead: bytes = b"") -> Iterator[socket.socket]:
    """A client's end; the answer's head has been read, and no byte behind it."""
    with socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection:
        connection.sendall(said(path, "a", more=UPGRADE) + ahead)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" in head
        assert b"Sec-WebSocket-Accept: x" in head
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    received = bytearray()
    while data := connection.recv(1_000_000):
        received += data
    return bytes(received)


def switches(then: Script, *, ahead: bytes = b"") -> Script:
    """A script that agrees to the upgrade; `ahead` comes right behind the head of its answer."""

    def script(turn: Turn) -> None:
        turn.say(SWITCHED + ahead)
        then(turn)
        turn.close()
        turn.rest = b""

    return script


def echo(turn: Turn) -> None:
    turn.say(turn.rest)
    while data := turn.read():
        turn.say(data)


def test_bytes_pass_both_ways(balancer: Instance, backend: ScriptedBackend) -> None:
    backend.scripts["/echo"] = switches(echo)
    with tunnel(balancer, "/echo") as connection:
        for size in (1, 10, 500):
            message = bytes(range(256)) * size
            connection.sendall(message)
            received = b""
            while len(received) < len(message):
                received += connection.recv(1_000_000)
            assert received == message
    head = backend.heads[-1]
    assert b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" in head


def test_what_both_sides_say_right_behind_their_heads_is_passed_on(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    backend.scripts["/ahead"] = switches(echo, ahead=b"from the backend,")
    with tunnel(balancer, "/ahead", ahead=b"from the client") as connection:
        received = b""
        while len(received) < 32:
            received += connection.recv(100)
        assert received == b"from the backend,from the client"


def test_a_client_that_has_said_all_still_hears_all(balancer: Instance, backend: ScriptedBackend) -> None:
    heard: list[bytes] = []

    def script(turn: Turn) -> None:
        heard.append(turn.rest)
        while data := turn.read():
            heard.append(data)
        turn.say(b"x" * LARGE)

    backend.scripts["/half"] = switches(script)
    with tunnel(balancer, "/half") as connection:
        connection.sendall(b"all I have to say")
        connection.shutdown(socket.SHUT_WR)
        assert len(read_to_end(connection)) == LARGE
    assert b"".join(heard) == b"all I have to say"


def test_a_backend_that_has_said_all_still_hears_all(balancer: Instance, backend: ScriptedBackend) -> None:
    heard: list[int] = []

    def script(turn: Turn) -> None:
        turn.end()
        count = len(turn.rest)
        while data := turn.read():
            count += len(data)
        heard.append(count)

    backend.scripts["/other-half"] = switches(script, ahead=b"all I have to say")
    with tunnel(balancer, "/other-half") as connection:
        assert read_to_end(connection) == b"all I have to say"
        connection.sendall(b"x" * LARGE)
        connection.shutdown(socket.SHUT_WR)
        wait_for(lambda: heard == [LARGE], what="all of it to arrive")


def test_large_data_passes_both_ways_at_once_and_out_of_memory(balancer: Instance, backend: ScriptedBackend) -> None:
    heard: list[int] = []

    def script(turn: Turn) -> None:
        def speak() -> None:
            turn.say(b"y" * LARGE)
            turn.end()

        speaker = threading.Thread(target=speak)
        speaker.start()
        time.sleep(0.2)
        count = len(turn.rest)
        while data := turn.read():
            count += len(data)
        heard.append(count)
        speaker.join()

    backend.scripts["/both"] = switches(script)
    with constant_memory(balancer), tunnel(balancer, "/both") as connection:

        def speak() -> None:
            connection.sendall(b"x" * LARGE)
            connection.shutdown(socket.SHUT_WR)

        speaker = threading.Thread(target=speak)
        speaker.start()
        time.sleep(0.2)  # meanwhile the backend would like to say all of it
        assert len(read_to_end(connection)) == LARGE
        speaker.join()
    wait_for(lambda: heard == [LARGE], what="all of it to arrive")


@pytest.mark.parametrize("who", ["client", "backend"])
def test_when_one_side_breaks_the_other_is_closed(who: str, balancer: Instance, backend: ScriptedBackend) -> None:
    ended: list[int] = []

    def script(turn: Turn) -> None:
        if who == "backend":
            turn.read()
            turn.reset()
        else:
            turn.wait_for_close()
        ended.append(1)

    backend.scripts["/breaks"] = switches(script)
    with tunnel(balancer, "/breaks") as connection:
        if who == "backend":
            connection.sendall(b"go")
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100) == b""
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    wait_for(lambda: ended, what="the backend's connection to end")


NOT_ASKED = {
    "another protocol": UPGRADE.replace(b"websocket", b"chat"),
    "HTTP/2": b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "without Connection": b"Upgrade: websocket\r\n",
}


@pytest.mark.parametrize("name", NOT_ASKED)
def test_an_upgrade_that_is_none_of_ours_is_an_ordinary_request(
    name: str, balancer: Instance, backend: ScriptedBackend
) -> None:
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/plain", host="a", more=NOT_ASKED[name]).body == b"/plain"
        assert visitor.get("/after", host="a").body == b"/after"
    head = next(each for each in reversed(backend.heads) if b"/plain" in each).lower()
    assert b"upgrade" not in head
    assert b"http2-settings" not in head


def test_an_upgrade_in_http_1_0_is_an_ordinary_request(balancer: Instance, backend: ScriptedBackend) -> None:
    with socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection:
        connection.sendall(b"GET /old HTTP/1.0\r\nHost: a\r\n" + UPGRADE + b"\r\n")
        assert read_answers(read_to_end(connection))[0].body == b"/old"
    assert b"upgrade" not in backend.heads[-1].lower()


@pytest.mark.parametrize("asked", [b"", UPGRADE])
def test_a_switch_to_what_nobody_asked_for_is_a_502(asked: bytes, balancer: Instance, backend: ScriptedBackend) -> None:
    backend.scripts["/chat"] = lambda turn: turn.say(SWITCHED.replace(b"websocket", b"chat"))
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/chat", host="a", more=asked).status == 502
        assert visitor.get("/after", host="a").status == 200


def test_a_backend_may_decline_and_the_connection_goes_on(balancer: Instance, backend: ScriptedBackend) -> None:
    backend.scripts["/declined"] = lambda turn: turn.say(sized(b"no", b"426 Upgrade Required"))
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/declined", host="a", more=UPGRADE).status == 426
        assert visitor.get("/after", host="a").status == 200
