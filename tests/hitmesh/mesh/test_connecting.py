"""Where sockets bind and connect: numeric addresses alone, and a name server that is silent stops nobody."""

from __future__ import annotations

import _socket
import socket
import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import zmq.green

from hitmesh.errors import MeshError
from hitmesh.mesh import resolving
from hitmesh.mesh.connecting import Connections, bind, connect
from hitmesh.mesh.network import Network
from hitmesh.mesh.resolving import resolve
from hitmesh.mesh.sockets import open_socket
from tests.hitmesh.mesh.test_client import until
from tests.services import PATIENCE_S, require_ipv6


@pytest.fixture
def network() -> Iterator[Network]:
    one = Network(zmq.green.Context())
    yield one
    one.close()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str | None]]:
    """What the name server says, by name; nothing for a name that it is silent about."""
    known: dict[str, str | None] = {}
    silence = threading.Event()

    def look_up(host: str, port: int, *_: object) -> list[Any]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        address = known[host]
        if address is None:
            silence.wait(PATIENCE_S)
            return []
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, 1, 6, "", (address, port))]

    monkeypatch.setattr(_socket, "getaddrinfo", look_up)
    monkeypatch.setattr(resolving, "AGAIN_S", 0.1)
    monkeypatch.setattr(resolving, "_found", {})
    yield known
    silence.set()


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://localhost:1",
        "tcp://a.example:1",
        "tcp://999.1.1.1:1",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:70000",
        "tcp://*:1",
    ],
)
def test_what_is_not_numeric_never_reaches_zeromq(network: Network, endpoint: str) -> None:
    one = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=100)
    with pytest.raises(MeshError, match="isn't a numeric address"):
        connect(network, one, endpoint)
    one.close(linger=0)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_both_families_bind_and_connect(network: Network, address: str) -> None:
    pull = open_socket(network, zmq.PULL, heartbeat_s=1.0, receive_bytes=100)
    push = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=100)
    if address == "[::1]":
        require_ipv6()
    endpoint = bind(network, pull, f"tcp://{address}:*", "batches")
    assert endpoint.startswith(f"tcp://{address}:")
    connect(network, push, endpoint)
    push.send(b"hello")
    with gevent.Timeout(PATIENCE_S):
        assert pull.recv() == b"hello"
    pull.close(linger=0)
    push.close(linger=0)


def test_a_name_is_looked_up_once(answers: dict[str, str | None]) -> None:
    answers["a.example"] = "192.0.2.7"
    assert resolve("tcp://a.example:8020") == "tcp://192.0.2.7:8020"
    del answers["a.example"]
    assert resolve("tcp://a.example:8020") == "tcp://192.0.2.7:8020"


def test_an_ipv6_address_that_is_found_stands_in_brackets(answers: dict[str, str | None]) -> None:
    answers["a.example"] = "2001:db8::7"
    assert resolve("tcp://a.example:8020") == "tcp://[2001:db8::7]:8020"


def test_a_silent_name_server_costs_its_time_limit_and_stops_nobody_else(
    answers: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "NAME_S", 0.3)
    answers["silent.example"] = None
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0.01)

    one = gevent.spawn(others)
    with pytest.raises(MeshError, match="no answer of a name server"):
        resolve("tcp://silent.example:1")
    one.kill()
    assert turns > 3


def test_a_name_that_is_not_known_yet_is_connected_once_it_is(network: Network, answers: dict[str, str | None]) -> None:
    pull = open_socket(network, zmq.PULL, heartbeat_s=1.0, receive_bytes=100)
    port = bind(network, pull, "tcp://127.0.0.1:*", "batches").rpartition(":")[2]
    push = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=100)
    answers["silent.example"] = None
    connections = Connections(
        network, push, [f"tcp://silent.example:{port}", f"tcp://late.example:{port}"], what="batches"
    )
    gevent.spawn(push.send, b"hello")  # waits for a connection
    reader = gevent.spawn(pull.recv)
    gevent.sleep(0.2)
    assert not reader.ready()
    answers["late.example"] = "127.0.0.1"
    assert reader.get(timeout=PATIENCE_S) == b"hello"
    connections.close()
    for each in (pull, push):
        each.close(linger=0)


def test_a_host_that_moves_is_followed(
    network: Network, answers: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "REFRESH_S", 0.05)
    push = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=100)
    answers["a.example"] = "127.0.0.1"
    connections = Connections(network, push, ["tcp://a.example:9"], what="batches")
    until(lambda: connections.numeric == {"tcp://127.0.0.1:9"})
    answers["a.example"] = "127.0.0.2"
    until(lambda: connections.numeric == {"tcp://127.0.0.2:9"})
    connections.close()
    push.close(linger=0)
