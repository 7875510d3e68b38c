from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from balancer.accept.acceptor import ClientAcceptor
from balancer.measures.stats import FrontStats
from balancer.middle.networks import Networks
from balancer.vip.door import shut, welcome
from tests.services import PATIENCE_S, require_ipv6

ATTEMPT_S = 0.3
# Those of a client that the door doesn't stop, as none is that has begun to connect, and the usual one.
NEAR, USUAL = 255, 64


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    if ":" in request.param:
        require_ipv6()
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as sock:
        sock.settimeout(PATIENCE_S)
        yield sock


def connected(listener: socket.socket, timeout_s: float = PATIENCE_S, ttl: int = USUAL) -> socket.socket:
    client = socket.socket(listener.family)
    client.settimeout(timeout_s)
    reach(client, ttl)
    try:
        client.connect(listener.getsockname())
    except OSError:
        client.close()
        raise
    return client


def reach(client: socket.socket, ttl: int) -> None:
    if client.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)


def test_nobody_is_let_in_any_more_and_who_is_in_stays(listener: socket.socket) -> None:
    with connected(listener) as inside, listener.accept()[0] as served, connected(listener) as queued:
        shut([listener])
        with pytest.raises(TimeoutError):  # not refused
            connected(listener, ATTEMPT_S)
        with listener.accept()[0] as later:
            for client, sock in ((inside, served), (queued, later)):
                client.sendall(b"still here")
                sock.settimeout(PATIENCE_S)
                assert sock.recv(100) == b"still here"


def test_who_came_through_a_shut_door_is_heard_once_welcome(listener: socket.socket) -> None:
    shut([listener])
    with connected(listener, ttl=NEAR) as client, listener.accept()[0] as served:
        reach(client, USUAL)
        client.sendall(b"hello")
        served.settimeout(ATTEMPT_S)
        with pytest.raises(TimeoutError):
            served.recv(100)
        welcome(served)
        served.settimeout(PATIENCE_S)
        assert served.recv(100) == b"hello"


@pytest.mark.parametrize("draining", [True, False])
def test_a_worker_that_leaves_welcomes_whom_it_takes(
    listener: socket.socket, draining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(ClientAcceptor, "_serve", lambda _self, stream, _address: taken.append(stream))
    traffic: Any = SimpleNamespace(draining=draining, clients=set(), limits=SimpleNamespace(connections=9))
    shut([listener])
    listener.setblocking(False)
    with connected(listener, ttl=NEAR) as client:
        ClientAcceptor(traffic, listener, stats=FrontStats(0.0, sessions_limit=9), proxied=Networks(())).stop()
        reach(client, USUAL)
        client.sendall(b"hello")
        with socket.socket(fileno=taken[0].detach()) as served:
            served.settimeout(PATIENCE_S if draining else ATTEMPT_S)
            if draining:
                assert served.recv(100) == b"hello"
            else:
                with pytest.raises(TimeoutError):
                    served.recv(100)
