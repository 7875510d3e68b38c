"""Random but well-formed frames with extreme values, to every socket of a real Nexus: nobody ends, nobody is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hitmesh.config import Config, nexus_endpoints
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.lookup import Lookups
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import (
    MAX_TOTAL,
    Change,
    Control,
    Heartbeat,
    Instance,
    Leave,
    Lookup,
    Message,
    Neighbours,
    encode,
    make,
)
from tests.hitmesh.mesh.instances import heartbeat, instance
from tests.hitmesh.protocol.strategies import any_of
from tests.services import wait_for
from tests.services.nexus import NexusProcess, mesh_config, two_nexuses

FRAMES = 300
LIVING = [
    instance("processor-1", role="processor", endpoints={"batches": "tcp://127.0.0.1:1"}, owns={0: 3}),
    instance("collector-1", role="collector", endpoints={"http": "http://127.0.0.1:2"}),
]


def thieves() -> st.SearchStrategy[Message]:
    """Words about those who are alive, and from those who say that they are."""
    one = st.sampled_from(LIVING)
    numbers = st.sampled_from([0, 1, 2, 2**53, MAX_TOTAL])
    names = st.sampled_from(["processor-1-a", "thief", "thief-2", "collector-1-a"])
    forged: st.SearchStrategy[Instance] = st.builds(
        lambda of, id, epoch, started: replace(
            of,
            id=id,
            started_ms=started,
            owns=dict.fromkeys(range(32), epoch),
            endpoints={"batches": "tcp://192.0.2.1:9"},
        ),
        one,
        names,
        numbers,
        numbers,
    )
    return st.one_of(
        st.builds(lambda of, number, interval: make(Heartbeat, number, interval, of), forged, numbers, numbers),
        st.builds(lambda id: make(Leave, id), names),
        st.builds(
            lambda name: make(Control, 1, "forget", name), st.sampled_from(["processor-1", "collector-1", "nexus-1"])
        ),
    )


FRAME = st.one_of(
    thieves(), any_of(Heartbeat), any_of(Leave), any_of(Neighbours), any_of(Lookup), any_of(Control), any_of(Change)
)


@pytest.fixture(scope="module")
def nexuses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NexusProcess]]:
    with two_nexuses(tmp_path_factory.mktemp("attacked"), mesh_config(heartbeat_s=1.0, missed=4)) as both:
        for one in both:
            one.launch()
        for one in both:
            wait_for(one.is_warm, what=f"{one.name} to be warm")
        yield both


class Attacker:
    """Plain sockets to every port of every Nexus, and the heartbeats of those who are to live on."""

    def __init__(self, config: Config) -> None:
        self.network = Network(zmq.Context())
        self.sockets: list[zmq.Socket[Any]] = []
        self.honest = open_socket(self.network, zmq.PUB, heartbeat_s=1.0, receive_bytes=1000)
        self.number = 0
        for placement in config.instances("nexus"):
            where = nexus_endpoints(placement)
            connect(self.network, self.honest, where.heartbeats)
            for kind, endpoint in ((zmq.PUB, where.heartbeats), (zmq.DEALER, where.lookups), (zmq.XSUB, where.changes)):
                one = open_socket(self.network, kind, heartbeat_s=1.0, receive_bytes=4 * 1024 * 1024)
                connect(self.network, one, endpoint)
                self.sockets.append(one)

    def send(self, frame: bytes) -> None:
        for each in self.sockets:
            try:
                each.send(frame, zmq.NOBLOCK)
            except zmq.ZMQError:
                continue

    def live(self) -> None:
        self.number += 1
        for each in LIVING:
            self.honest.send(encode(heartbeat(each, self.number, 1.0)))

    def close(self) -> None:
        self.network.close()


def test_nobody_ends_and_the_living_stay_whatever_comes(nexuses: list[NexusProcess]) -> None:
    config = nexuses[0].config
    attacker = Attacker(config)
    frames: list[bytes] = []

    @settings(max_examples=FRAMES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(FRAME)
    def draw(message: Message) -> None:
        frames.append(encode(message))

    draw()
    random.shuffle(frames)

    def all_live() -> bool:
        attacker.live()
        found = []
        for placement in config.instances("nexus"):
            with Lookups([nexus_endpoints(placement).lookups]) as lookups:
                everybody = lookups.snapshot().seen
            found.append({one.instance.id: one.instance for one in everybody if one.alive})
        return all(each.get(one.id) == one for each in found for one in LIVING)

    wait_for(all_live, what="the living to be known")
    for number, frame in enumerate(frames):
        attacker.send(frame)
        if number % 20 == 0:
            attacker.live()
    wait_for(all_live, what="the living to be known again, as they are")
    assert all(one.process is not None and one.process.poll() is None for one in nexuses)
    attacker.close()
