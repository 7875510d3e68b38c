"""What a process of a datacenter tells the others of where its instances are."""

from __future__ import annotations

import socket as sockets
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import zmq.green

from hitmesh.config import Config, parse
from hitmesh.errors import MeshError
from hitmesh.mesh.connecting import bind, connect
from hitmesh.mesh.network import Network, Socket
from hitmesh.mesh.outside import Outside, listen
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import Instance
from tests.hitmesh.mesh.instances import instance, seen
from tests.hitmesh.mesh.test_client import until
from tests.hitmesh.mesh.test_connecting import answers
from tests.services import PATIENCE_S, require_ipv6

__all__ = ["answers"]
NEXUS = instance(
    "nexus-1",
    role="nexus",
    endpoints={
        "heartbeats": "tcp://10.1.0.11:8020",
        "changes": "tcp://10.1.0.11:8021",
        "lookups": "tcp://10.1.0.11:8022",
    },
)
PROCESSOR = instance(endpoints={"batches": "tcp://10.1.0.11:40001", "rows": "tcp://10.1.0.11:8030"})
BY_HAND = instance("processor-9", endpoints={"batches": "tcp://10.1.0.11:40002", "rows": "tcp://10.1.0.11:40003"})


def configured(**node: Any) -> Config:
    ports = {"nexus": 8020, "rows": 8030}
    roles = {"nexus": 1, "processor": 1, "collector": 1}
    nodes = {"a": {"address": "10.1.0.11", **roles, **node}}
    return parse({"name": "dev", "insecure": True, "nodes": nodes, "ports": ports}, source="test")


def told(outside: Outside, *instances: Instance) -> list[dict[str, str]]:
    return [one.instance.endpoints for one in outside.seen(tuple(map(seen, instances)))]


def test_without_another_address_others_are_told_what_is_told_inside() -> None:
    assert told(Outside(configured()), NEXUS, PROCESSOR) == [NEXUS.endpoints, PROCESSOR.endpoints]


def test_others_are_told_of_what_they_reach_and_nothing_of_the_inside() -> None:
    outside = Outside(configured(wan_address="2001:db8::7", wan_ports={"nexus": 9020, "rows": 9030}))
    assert told(outside, NEXUS, PROCESSOR) == [
        {"heartbeats": "tcp://[2001:db8::7]:9020", "lookups": "tcp://[2001:db8::7]:9022"},
        {"rows": "tcp://[2001:db8::7]:9030"},
    ]


def test_an_instance_that_is_not_configured_has_its_own_port_there() -> None:
    assert told(Outside(configured(wan_address="203.0.113.7")), BY_HAND) == [{"rows": "tcp://203.0.113.7:40003"}]


def test_of_a_name_others_are_told_what_it_is_and_until_that_is_known_nothing(answers: dict[str, str | None]) -> None:
    config = configured(wan_address="router.example", wan_ports={"nexus": 9020})
    outside = Outside(config)
    outside.start()
    [place] = config.instances("processor")
    gevent.sleep(0.05)
    assert told(outside, NEXUS, PROCESSOR) == [{}, {}]
    assert outside.endpoint(place, "tcp://10.1.0.11:8030") == ""
    answers["router.example"] = "203.0.113.7"
    until(lambda: told(outside, PROCESSOR) == [{"rows": "tcp://203.0.113.7:8030"}])
    assert outside.endpoint(place, "tcp://10.1.0.11:8030") == "tcp://203.0.113.7:8030"
    outside.stop()


# --- listening -----------------------------------------------------------------------------


@pytest.fixture
def network() -> Iterator[Network]:
    one = Network(zmq.green.Context())
    yield one
    one.close()


def pull_of(network: Network, config: Config) -> tuple[Socket, str]:
    pull = open_socket(network, zmq.PULL, heartbeat_s=1.0, receive_bytes=100)
    bound = bind(network, pull, "tcp://127.0.0.1:*", "rows")
    listen(pull, config.instances("processor")[0], bound)
    return pull, bound.rpartition(":")[2]


def send_to_each(network: Network, pull: Socket, *endpoints: str) -> None:
    """From one socket, which is connected to all of them."""
    push = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=100)
    for endpoint in endpoints:
        connect(network, push, endpoint)
    for _ in endpoints:
        push.send(b"to the next one")
    with gevent.Timeout(PATIENCE_S):
        for _ in endpoints:
            pull.recv()
    push.close(linger=0)


@pytest.mark.parametrize("wan_address", ["127.0.0.2", "::1"])
def test_where_the_host_has_the_other_address_it_listens_there_too(network: Network, wan_address: str) -> None:
    if ":" in wan_address:
        require_ipv6()
    pull, port = pull_of(network, configured(wan_address=wan_address))
    host = f"[{wan_address}]" if ":" in wan_address else wan_address
    send_to_each(network, pull, f"tcp://127.0.0.1:{port}", f"tcp://{host}:{port}")
    pull.close(linger=0)


@pytest.mark.parametrize("wan_address", ["127.0.0.1", "203.0.113.7", "2001:db8::7", "router.example"])
def test_a_routers_address_is_none_to_listen_at(network: Network, wan_address: str) -> None:
    pull, port = pull_of(network, configured(wan_address=wan_address))
    send_to_each(network, pull, f"tcp://127.0.0.1:{port}")
    pull.close(linger=0)


def test_a_port_that_is_taken_there_is_an_error(network: Network) -> None:
    pull = open_socket(network, zmq.PULL, heartbeat_s=1.0, receive_bytes=100)
    bound = bind(network, pull, "tcp://127.0.0.1:*", "rows")
    with sockets.create_server(("127.0.0.2", int(bound.rpartition(":")[2]))):
        place = configured(wan_address="127.0.0.2").instances("processor")[0]
        with pytest.raises(MeshError, match="another process listens there"):
            listen(pull, place, bound)
    pull.close(linger=0)
