"""A Nexus's words to other datacenters on real sockets, over links that are cut and heal.

It lives in this process, on gevent's hub: these tests wait by `until`, which lets it run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gevent
import pytest
import zmq.green

from hitmesh.mesh import connecting
from hitmesh.mesh.monitor import Event, events_of
from hitmesh.mesh.network import Network, Socket
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import Neighbours, Seen, decode
from nexus.federation import Federation
from nexus.wan import PING_S, Wan
from tests.hitmesh.mesh.instances import instance, seen
from tests.nexus.words import PARTITIONS, nexus
from tests.services import PATIENCE_S
from tests.services.nexus import free_ports
from tests.services.relay import Relay

INTERVAL_S = 60.0  # what comes sooner has another reason


def until(condition: Callable[[], object], *, what: str = "the condition") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        gevent.sleep(0.01)


class Ear:
    """The heartbeats socket of a Nexus elsewhere."""

    def __init__(self, network: Network, port: int = 0) -> None:
        self.port = port or free_ports(1)
        self.words: list[Neighbours] = []
        self._socket = open_socket(network, zmq.SUB, heartbeat_s=PING_S, receive_bytes=1024 * 1024)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        until(self._bind, what="the port to be free")  # one that was closed is so a moment later
        self._greenlet = gevent.spawn(self._listen)

    def _bind(self) -> bool:
        try:
            self._socket.bind(f"tcp://127.0.0.1:{self.port}")
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            return False
        return True

    def _listen(self) -> None:
        while True:
            try:
                self.words.append(decode(self._socket.recv(), Neighbours))
            except zmq.ZMQError:
                return

    def close(self) -> None:
        self._socket.close(linger=0)
        self._greenlet.join()


class Voice:
    """A Wan of dev that speaks to those on `ports`."""

    def __init__(self, network: Network, *ports: int) -> None:
        me = nexus("dev")
        self.picture: tuple[Seen, ...] | None = (seen(me),)
        self.federation = Federation(
            "dev",
            me.id,
            here=[],
            configured={"far": [f"tcp://127.0.0.1:{port}" for port in ports]},
            partitions=PARTITIONS,
            interval_s=INTERVAL_S,
            missed=5,
        )
        self.wan = Wan(self.federation, network, picture=lambda: self.picture, settings=lambda: "-")
        self._greenlets = [gevent.spawn(self.wan.run), gevent.spawn(self.wan.greet)]

    def own(self, number: int) -> None:
        """Let a processor here take over that many partitions."""
        assert self.picture is not None
        self.picture = (self.picture[0], seen(instance(owns=dict.fromkeys(range(number), 1)), number))
        self.wan.wake()

    def close(self) -> None:
        self.wan.close()
        gevent.joinall(self._greenlets, raise_error=True)


def close(*ends: Voice | Ear | Relay) -> None:
    for each in ends:
        each.close()


@pytest.fixture
def network() -> Iterator[Network]:
    one = Network(zmq.green.Context())
    yield one
    one.close()


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What ZeroMQ tells of the connections."""
    seen: list[int] = []

    def listened(monitor: Socket) -> Iterator[Event]:
        for event in events_of(monitor):
            seen.append(event.kind)
            yield event

    monkeypatch.setattr(connecting, "events_of", listened)
    monkeypatch.setattr(
        connecting, "_WATCHED", connecting._WATCHED | zmq.EVENT_CONNECT_DELAYED | zmq.EVENT_DISCONNECTED
    )
    return seen


def test_who_is_new_is_told_at_once_and_not_only_after_an_interval(network: Network) -> None:
    first = Ear(network)
    second_port = free_ports(1)
    voice = Voice(network, first.port, second_port)
    until(lambda: first.words, what="the first to be told")
    second = Ear(network, second_port)
    until(lambda: second.words, what="one that starts later to be told")
    second.close()
    gevent.sleep(0.1)
    second = Ear(network, second_port)
    until(lambda: second.words, what="one that restarts to be told")
    close(voice, first, second)


def test_a_change_reaches_everybody_at_once(network: Network) -> None:
    ears = [Ear(network), Ear(network)]
    voice = Voice(network, *(ear.port for ear in ears))
    until(lambda: all(ear.words for ear in ears))
    for number in range(1, 6):
        voice.own(number)
        until(
            lambda number=number: all(  # type: ignore[misc]
                len(ear.words[-1].seen) > 1 and len(ear.words[-1].seen[1].instance.owns) == number for ear in ears
            ),
            what=f"{number} partitions to be told",
        )
    close(voice, *ears)


def test_nothing_is_said_before_it_knows_its_own_datacenter(network: Network) -> None:
    ear = Ear(network)
    voice = Voice(network, ear.port)
    picture, voice.picture = voice.picture, None
    ear.words.clear()
    voice.federation.greet()
    voice.wan.wake()
    gevent.sleep(0.5)
    assert ear.words == []
    voice.picture = picture
    until(lambda: ear.words)
    close(voice, ear)


@pytest.mark.parametrize(("accepts", "tries"), [(False, 6), (True, 3)], ids=["cut", "cut in a handshake"])
def test_a_link_that_is_cut_is_tried_again_and_again_and_used_when_it_has_healed(
    network: Network, accepts: bool, tries: int, events: list[int]
) -> None:
    """By connections anew: the kernel itself waits longer with each of its tries, and ZeroMQ 30 s for a handshake."""
    ear = Ear(network)
    relay = Relay(ear.port)
    voice = Voice(network, relay.port)
    until(lambda: ear.words, what="the first word")
    relay.cut(accepts=accepts)
    gevent.sleep(0.2)
    ear.words.clear()
    events.clear()

    def is_tried_often() -> bool:
        voice.own(int(time.monotonic() * 10) % 10 + 1)
        return events.count(zmq.EVENT_CONNECT_DELAYED) >= tries

    until(is_tried_often, what=f"{tries} tries to connect")
    assert ear.words == [], "it isn't cut"
    relay.heal()
    until(lambda: ear.words, what="the link to be used again")
    close(voice, ear, relay)


def test_a_datacenter_out_of_reach_keeps_nobody_else_waiting_and_nothing_is_queued_for_it(
    network: Network, events: list[int]
) -> None:
    ear, cut_off = Ear(network), Ear(network)
    relay = Relay(cut_off.port)
    voice = Voice(network, ear.port, relay.port)
    until(lambda: ear.words and cut_off.words)
    relay.cut()
    until(lambda: zmq.EVENT_DISCONNECTED in events, what="the cut to be noticed")
    cut_off.words.clear()
    for number in range(1, 11):
        before = len(ear.words)
        voice.own(number)
        until(lambda before=before: len(ear.words) > before, what="the other one to be told")  # type: ignore[misc]
    relay.heal()
    until(lambda: cut_off.words, what="the link to be used again")
    gevent.sleep(0.3)
    assert {len(word.seen[1].instance.owns) for word in cut_off.words} == {10}, "it was told old news"
    close(voice, ear, cut_off, relay)


def test_where_nobody_can_be_reached_any_more_it_disconnects(network: Network) -> None:
    ear = Ear(network)
    voice = Voice(network, ear.port)
    until(lambda: ear.words)
    voice.federation._configured.clear()
    voice.wan.wake()
    until(lambda: not voice.wan._connections.numeric, what="the end of the connection")
    gevent.sleep(0.1)
    ear.words.clear()
    voice.own(3)
    gevent.sleep(0.5)
    assert ear.words == []
    close(voice, ear)
