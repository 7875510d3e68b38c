"""Who is heard on a socket with keys: real sockets, real handshakes, each reason once."""

from __future__ import annotations

import contextlib
import os
import socket as tcp
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
import zmq.green

from hitmesh.cli import keyfolder
from hitmesh.config import Config, parse
from hitmesh.errors import ConfigError, MeshError
from hitmesh.hub.rest import rest
from hitmesh.mesh import guard, sockets
from hitmesh.mesh.connecting import Connections, bind, connect
from hitmesh.mesh.keyring import Keyring, list_path, new_pair, open_keyring, read_list, secret_path
from hitmesh.mesh.monitor import monitor_of
from hitmesh.mesh.network import Network, Socket
from hitmesh.mesh.pipes import Pushes
from hitmesh.mesh.sockets import FrameReader, open_socket
from hitmesh.protocol.messages import Close, Heartbeat, Instance, Lookup, Message, Read, Records, encode, make
from hitmesh.protocol.names import split_key, with_key
from hitmesh.state.keylist import Peer
from hitmesh.state.rights import LINKS, Link
from tests.hitmesh.mesh.test_client import until
from tests.services import PATIENCE_S, require_ipv6

DC = "eu-west"
COLLECTOR, PROCESSOR, NEXUS = (Peer(DC, role, f"{role}-1") for role in ("collector", "processor", "nexus"))
OTHER, FAR = Peer(DC, "collector", "collector-2"), Peer("us-west", "processor", "processor-1")
OPERATOR = Peer(DC, "operator", "operator")
TOLD: tuple[Link, ...] = ("changes", "news")  # where nobody but who is bound speaks
KINDS: dict[Link, int] = {
    "heartbeats": zmq.SUB, "changes": zmq.PUB, "lookups": zmq.ROUTER, "batches": zmq.PULL, "acks": zmq.PULL,
    "rows": zmq.PULL, "news": zmq.PUB, "records": zmq.PULL, "logs": zmq.ROUTER,
}  # fmt: skip
SPEAKS: dict[Link, int] = {
    "heartbeats": zmq.PUB, "changes": zmq.SUB, "lookups": zmq.DEALER, "batches": zmq.PUSH, "acks": zmq.PUSH,
    "rows": zmq.PUSH, "news": zmq.SUB, "records": zmq.PUSH, "logs": zmq.DEALER,
}  # fmt: skip
STRANGER: dict[Link, Peer] = {  # somebody of the list who has no business there
    "heartbeats": OPERATOR, "changes": FAR, "lookups": FAR, "batches": PROCESSOR, "acks": COLLECTOR,
    "rows": PROCESSOR, "news": COLLECTOR, "records": OPERATOR, "logs": COLLECTOR,
}  # fmt: skip
SILENCE_S = 0.5  # for somebody to be heard who isn't to be


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder of keys, with everybody's."""
    keyfolder.make_missing(tmp_path, [COLLECTOR, PROCESSOR, NEXUS, OTHER, FAR, OPERATOR])
    return tmp_path


@pytest.fixture
def networks() -> Iterator[Callable[[Keyring | None], Network]]:
    made: list[Network] = []

    def make_network(keyring: Keyring | None) -> Network:
        made.append(Network(zmq.green.Context(), keyring))
        return made[-1]

    yield make_network
    for each in made:
        each.close()


class Door:
    """A bound socket of the Nexus (or of whoever has such a one), and what is heard there."""

    def __init__(self, network: Network, link: Link, host: str = "127.0.0.1") -> None:
        self.network, self.link = network, link
        self.socket = open_socket(network, KINDS[link], heartbeat_s=1.0, receive_bytes=10_000)
        self.endpoint = bind(network, self.socket, f"tcp://{host}:*", link)
        self.heard: list[Message] = []
        if link == "heartbeats":
            self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        if link not in TOLD:
            gevent.spawn(self._read)

    def turned_away(self, reason: str) -> float:
        return self.network.load().get(f"turned_away.{self.link}.{reason}", 0)

    def _read(self) -> None:
        reader = FrameReader(
            self.network,
            self.socket,
            self.endpoint,
            link=self.link,
            clock=time.monotonic,
            rest=rest,
        )
        while (message := reader.receive(Close, Heartbeat, Lookup, Records, Read)) is not None:
            self.heard.append(message)


def configured(keys: Path, peer: Peer, **settings: Any) -> Config:
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}
    return parse({"name": peer.dc, "nodes": {"a": node}, "keys": str(keys), **settings}, source="test")


def keyring(keys: Path, peer: Peer) -> Keyring:
    made = open_keyring(configured(keys, peer), peer.role, peer.name)
    assert made is not None
    return made


def stranger(keys: Path, peer: Peer) -> Keyring:
    """A key of somebody's own making, in a list of his own: he knows us, and we don't know him."""
    folder = keys / "stranger"
    keyfolder.make_missing(folder, [peer])
    for key, one in read_list(keys).items():
        keyfolder.add(folder, one, key)
    return keyring(folder, peer)


def speak(network: Network, link: Link, endpoint: str) -> Socket:
    socket = open_socket(network, SPEAKS[link], heartbeat_s=1.0, receive_bytes=10_000)
    if link in TOLD:
        socket.setsockopt(zmq.SUBSCRIBE, b"")
    connect(network, socket, endpoint)
    return socket


def say(socket: Socket, message: Message) -> None:
    with contextlib.suppress(zmq.Again):  # it isn't connected
        socket.send(encode(message), zmq.NOBLOCK)


def until_turned_away(door: Door, reason: str, socket: Socket, message: Message) -> None:
    """Say it again and again, until it is counted as not heard."""

    def is_counted() -> bool:
        say(socket, message)
        return door.turned_away(reason) > 0

    until(is_counted, what=reason)


def close_of(worker: str) -> Message:
    return make(Close, worker, ())


def heartbeat_of(peer: Peer) -> Message:
    return make(Heartbeat, 1, 1000, Instance(*peer, f"{peer.name}.0a", "up", 1, 0, {}, {}, {}))


def is_heard(door: Door, socket: Socket, message: Message, within_s: float = 30.0) -> bool:
    """Whether a message gets through; a PUB's first ones get lost."""
    before, deadline = len(door.heard), time.monotonic() + within_s
    while time.monotonic() < deadline:
        say(socket, message)
        gevent.sleep(0.05)
        if len(door.heard) > before:
            return True
    return False


MESSAGE: dict[Link, Message] = {
    "heartbeats": heartbeat_of(COLLECTOR), "lookups": make(Lookup, 1, "snapshot", ""),
    "batches": close_of("collector-1.0a"), "acks": close_of("processor-1.0a"), "rows": close_of("processor-1.0a"),
    "records": make(Records, *COLLECTOR, "collector-1.0a", 1, 0, ()), "logs": make(Read, 1, 0, 1, 0, 0),
}  # fmt: skip
HONEST: dict[Link, Peer] = {
    "heartbeats": COLLECTOR, "lookups": COLLECTOR, "batches": COLLECTOR, "acks": PROCESSOR, "rows": FAR,
    "records": COLLECTOR, "logs": OPERATOR,
}  # fmt: skip
READ: list[Link] = [link for link in LINKS if link not in TOLD]


@pytest.mark.parametrize("link", READ)
def test_whoever_has_a_key_is_heard(keys: Path, networks: Any, link: Link) -> None:
    door = Door(networks(keyring(keys, NEXUS)), link)
    assert is_heard(door, speak(networks(keyring(keys, HONEST[link])), link, door.endpoint), MESSAGE[link])


@pytest.mark.parametrize("link", LINKS)
def test_nobody_else_is_and_each_is_counted_under_its_reason(keys: Path, networks: Any, link: Link) -> None:
    ours = keyring(keys, NEXUS)
    door = Door(networks(ours), link)
    place = split_key(door.endpoint)[0]
    revoked = keyring(keys, OTHER if link != "acks" else PROCESSOR)
    keyfolder.revoke(keys, lambda key, _: key == revoked.key)
    until(lambda: revoked.key not in ours.keys, what="the list to be seen")
    without = open_socket(networks(None), SPEAKS[link], heartbeat_s=1.0, receive_bytes=10_000)
    ill_informed = networks(keyring(keys, COLLECTOR))
    wrong_key = next(key for key, peer in read_list(keys).items() if peer == COLLECTOR)
    tried = {
        "no_key": without,
        "unknown_key": speak(networks(stranger(keys, COLLECTOR)), link, door.endpoint),
        "wrong_server_key": speak(ill_informed, link, with_key(place, wrong_key)),
        "wrong_role": speak(networks(keyring(keys, STRANGER[link])), link, door.endpoint),
    }
    tried_revoked = speak(networks(revoked), link, door.endpoint)

    def is_counted(reason: str) -> bool:
        if reason == "no_key":  # whichever side notices first breaks off, and ZeroMQ doesn't try again
            without.connect(place)
            gevent.sleep(0.05)
            without.disconnect(place)
        return door.turned_away(reason) > 0

    for reason in tried:
        until(partial(is_counted, reason), what=reason)
    if link not in TOLD:
        for socket in (*tried.values(), tried_revoked):
            say(socket, MESSAGE[link])
        gevent.sleep(SILENCE_S)
        assert door.heard == []
    else:
        say(door.socket, MESSAGE["lookups"])
        gevent.sleep(SILENCE_S)
        assert not any(socket.poll(0) for socket in (*tried.values(), tried_revoked))


@pytest.mark.parametrize(
    ("link", "peer", "message"),
    [
        ("heartbeats", COLLECTOR, heartbeat_of(OTHER)),
        ("heartbeats", COLLECTOR, heartbeat_of(Peer(DC, "nexus", "collector-1"))),
        ("batches", COLLECTOR, close_of("collector-2.0a")),
    ],
)
def test_a_right_key_that_says_another_s_name_is_not_heard(
    keys: Path, networks: Any, link: Link, peer: Peer, message: Message
) -> None:
    door = Door(networks(keyring(keys, NEXUS)), link)
    socket = speak(networks(keyring(keys, peer)), link, door.endpoint)
    assert is_heard(door, socket, MESSAGE[link])
    until_turned_away(door, "wrong_name", socket, message)
    assert message not in door.heard


def test_when_somebody_was_turned_away_last_is_said_with_it(
    keys: Path, networks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, now = Door(networks(keyring(keys, NEXUS)), "batches"), 1000.0
    ours = door.network.guard
    assert ours is not None
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: now))
    loads = []
    for passed_s in (0.0, 3600.0, 30.0):
        now += passed_s
        if passed_s != 30.0:
            assert ours.refusal("batches", "f" * 64)
        loads.append({name: load for name, load in door.network.load().items() if name.endswith("revoked_key")})
    counts = [load["turned_away.batches.revoked_key"] for load in loads]
    assert counts == [1, 2, 2]
    assert [load["turned_away_s.batches.revoked_key"] for load in loads] == [0, 0, 30]


def test_a_key_that_is_added_is_heard_at_once_without_a_new_try_of_its_owner_s(
    keys: Path, networks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sockets, guard):
        monkeypatch.setattr(module, "HANDSHAKE_MS", 10 * 60_000)  # so that there is one try
    door = Door(networks(keyring(keys, NEXUS)), "batches")
    new = stranger(keys, Peer(DC, "collector", "collector-3"))
    socket = speak(networks(new), "batches", door.endpoint)
    until(lambda: door.network.guard is not None and door.network.guard.waiting, what="the first try")
    keyfolder.add(keys, new.me, new.key)
    assert is_heard(door, socket, close_of("collector-3.0a"))
    assert door.turned_away("unknown_key") == 0


def test_a_key_that_is_revoked_is_silenced_on_its_open_connection(keys: Path, networks: Any) -> None:
    door = Door(networks(keyring(keys, NEXUS)), "batches")
    socket = speak(networks(keyring(keys, COLLECTOR)), "batches", door.endpoint)
    assert is_heard(door, socket, MESSAGE["batches"])
    keyfolder.revoke(keys, lambda _, peer: peer == COLLECTOR)
    until_turned_away(door, "revoked_key", socket, MESSAGE["batches"])
    heard = len(door.heard)
    assert not is_heard(door, socket, MESSAGE["batches"], within_s=SILENCE_S)
    assert len(door.heard) == heard


def test_whoever_only_listens_is_cut_off_when_its_key_is_revoked_and_the_others_go_on(
    keys: Path, networks: Any
) -> None:
    door = Door(networks(keyring(keys, NEXUS)), "changes")
    listeners = {peer: speak(networks(keyring(keys, peer)), "changes", door.endpoint) for peer in (COLLECTOR, OTHER)}
    heard: dict[Peer, int] = dict.fromkeys(listeners, 0)

    def listen() -> dict[Peer, int]:
        say(door.socket, MESSAGE["lookups"])
        for peer, socket in listeners.items():
            while socket.poll(0):
                socket.recv()
                heard[peer] += 1
        return heard

    until(lambda: all(listen().values()), what="both to hear")
    keyfolder.revoke(keys, lambda _, peer: peer == OTHER)
    until(lambda: door.turned_away("unknown_key"), what="the revoked one to be cut off, and to come again")
    listen()
    heard.update(dict.fromkeys(heard, 0))
    until(lambda: listen()[COLLECTOR] > 3, what="the other one to hear again")
    assert heard[OTHER] == 0


def test_without_a_guard_s_answer_nobody_is_let_in(keys: Path, networks: Any) -> None:
    door = Door(networks(keyring(keys, NEXUS)), "batches")
    assert door.network.guard is not None
    door.network.guard.close()
    socket = speak(networks(keyring(keys, COLLECTOR)), "batches", door.endpoint)
    assert not is_heard(door, socket, MESSAGE["batches"], within_s=SILENCE_S)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_of_two_keys_that_somebody_may_have_the_right_one_is_found(keys: Path, networks: Any, host: str) -> None:
    if host == "[::1]":
        require_ipv6()
    door = Door(networks(keyring(keys, NEXUS)), "heartbeats", host)
    keyfolder.add(keys, NEXUS, new_pair().public.hex())
    network = networks(keyring(keys, COLLECTOR))
    socket = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=10_000)
    there = network.keyring.keys.keys_of(NEXUS)[::-1]  # the wrong one first
    connections = Connections(network, socket, [split_key(door.endpoint)[0]], what="heartbeats", keys=lambda _: there)
    assert is_heard(door, socket, MESSAGE["heartbeats"])
    assert connections.failing == 0
    connections.close()


def test_a_connection_whose_key_is_revoked_is_given_up(keys: Path, networks: Any) -> None:
    door = Door(networks(keyring(keys, NEXUS)), "heartbeats")
    network = networks(keyring(keys, COLLECTOR))
    socket = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=10_000)
    place = split_key(door.endpoint)[0]
    connections = Connections(
        network, socket, [place], what="heartbeats", keys=lambda _: network.keyring.keys.keys_of(NEXUS)
    )
    assert is_heard(door, socket, MESSAGE["heartbeats"])
    keyfolder.revoke(keys, lambda _, peer: peer == NEXUS)
    until(lambda: not network.keyring.keys.keys_of(NEXUS), what="the list to be seen")
    assert not is_heard(door, socket, MESSAGE["heartbeats"], within_s=SILENCE_S)
    connections.close()


def test_nobody_connects_where_no_key_is_said_nor_to_a_key_that_the_list_lacks(keys: Path, networks: Any) -> None:
    network = networks(keyring(keys, COLLECTOR))
    socket = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=10_000)
    with pytest.raises(MeshError, match="nobody has said its key, and we speak with nobody without"):
        connect(network, socket, "tcp://127.0.0.1:9")
    with pytest.raises(MeshError, match=r"its key f{12} isn't in our list"):
        connect(network, socket, f"tcp://127.0.0.1:9/{'f' * 64}")


def test_who_is_configured_and_on_no_list_is_said_and_counted_and_connected_to_once_it_is(
    keys: Path, networks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(networks(keyring(keys, NEXUS)), "heartbeats")
    network, place = networks(keyring(keys, COLLECTOR)), split_key(door.endpoint)[0]
    there: tuple[str, ...] = ()
    socket = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=10_000)
    connections = Connections(network, socket, [place], what="heartbeats", keys=lambda _: there)
    assert connections.failing == 1
    assert f"heartbeats: whoever is at {place} has no key in our list" in caplog.text
    there = network.keyring.keys.keys_of(NEXUS)
    keyfolder.add(keys, Peer(DC, "collector", "collector-7"), new_pair().public.hex())  # another list
    assert is_heard(door, socket, MESSAGE["heartbeats"])
    assert connections.failing == 0
    connections.close()


def test_at_its_end_what_is_pushed_without_a_key_ends_too(
    keys: Path, networks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, network = Door(networks(None), "batches"), networks(phase(keys, COLLECTOR, **SWITCHING))
    with contextlib.closing(Pushes(network, heartbeat_s=1.0, queue_unconnected=False)) as pushes:
        until(lambda: pushes.send(door.endpoint, encode(MESSAGE["batches"])), what="a connection")
        monkeypatch.setattr(network.keyring, "_plain_until_s", 0.0)
        until(lambda: not pushes.send(door.endpoint, encode(MESSAGE["batches"])), what="the end")


def test_an_end_before_the_watch_has_begun_is_seen(keys: Path, networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = networks(phase(keys, COLLECTOR, **SWITCHING)), []
    network.on_change(lambda: seen.append("end"))
    monkeypatch.setattr(network.keyring, "_plain_until_s", 0.0)  # no greenlet has run yet
    until(lambda: seen, what="the end")


def test_events_that_nobody_reads_stop_no_message(networks: Any) -> None:
    network = networks(None)
    pull, push = (open_socket(network, kind, heartbeat_s=1.0, receive_bytes=100) for kind in (zmq.PULL, zmq.PUSH))
    place = bind(network, pull, "tcp://127.0.0.1:*", "batches")
    monitor = monitor_of(network.context, pull, zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
    host, _, port = place.removeprefix("tcp://").partition(":")
    for _ in range(2500):  # more than a pipe of ZeroMQ's holds by itself
        with tcp.create_connection((host, int(port))):
            pass
    connect(network, push, place)
    push.send(b"hello", zmq.NOBLOCK)
    with gevent.Timeout(PATIENCE_S):
        assert pull.recv() == b"hello"
    monitor.close(linger=0)


def test_without_keys_nobody_connects_to_somebody_with(networks: Any) -> None:
    network = networks(None)
    socket = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=10_000)
    with pytest.raises(MeshError, match="it has a key, and we have none"):
        connect(network, socket, f"tcp://127.0.0.1:9/{'f' * 64}")


def test_a_list_that_cannot_be_read_changes_nothing_and_is_told_once(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = keyring(keys, NEXUS)
    before = dict(ring.keys.items())
    list_path(keys).write_text("nonsense\n")
    assert [ring.look(), ring.look()] == [False, False]
    assert dict(ring.keys.items()) == before
    assert (
        caplog.records[0]
        .getMessage()
        .startswith(f"the list of keys stays as it was: {list_path(keys)}, line 1: it has 1 words")
    )
    for wrong in ("", "# nobody\n", f"{ring.key} eu-west nexus nexus-1"):
        list_path(keys).write_text(wrong)
        assert ring.look() is False
        assert dict(ring.keys.items()) == before
    list_path(keys).unlink()
    assert ring.look() is False
    os.mkfifo(list_path(keys))
    assert ring.look() is False
    assert dict(ring.keys.items()) == before


def test_whose_own_key_is_not_in_the_list_says_so(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    keyfolder.revoke(keys, lambda _, peer: peer == COLLECTOR)
    ring = keyring(keys, COLLECTOR)
    assert f"doesn't have our key {ring.key[:12]} for {COLLECTOR}: nobody hears us" in caplog.text


def test_connections_under_a_key_that_an_endpoint_says_end_with_it_too(keys: Path, networks: Any) -> None:
    door, pulled = Door(networks(keyring(keys, NEXUS)), "heartbeats"), Door(networks(keyring(keys, NEXUS)), "batches")
    network = networks(keyring(keys, COLLECTOR))
    socket = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=10_000)
    connections = Connections(network, socket, [door.endpoint], what="heartbeats")
    assert is_heard(door, socket, MESSAGE["heartbeats"])
    with contextlib.closing(Pushes(network, heartbeat_s=1.0, queue_unconnected=False)) as pushes:
        until(lambda: pushes.send(pulled.endpoint, encode(MESSAGE["batches"])), what="a connection")
        keyfolder.revoke(keys, lambda _, peer: peer == NEXUS)
        until(lambda: not pushes.send(pulled.endpoint, encode(MESSAGE["batches"])), what="the end of one")
    until(lambda: not is_heard(door, socket, MESSAGE["heartbeats"], within_s=SILENCE_S), what="the end of the other")
    connections.close()


def test_of_two_words_about_one_place_whoever_is_there_decides(keys: Path, networks: Any) -> None:
    """Or somebody could cut two others off from each other, by a word about one of them."""
    door = Door(networks(keyring(keys, NEXUS)), "heartbeats")
    network = networks(keyring(keys, COLLECTOR))
    place, right = split_key(door.endpoint)
    wrong = read_list(keys).keys_of(FAR)[0]
    socket = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=10_000)
    endpoints = [place, with_key(place, wrong)]
    connections = Connections(network, socket, endpoints, what="heartbeats", keys=lambda _: (right,))
    assert is_heard(door, socket, MESSAGE["heartbeats"])
    connections.close()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_secret_that_others_may_read_is_refused(keys: Path, mode: int) -> None:
    path = secret_path(keys, COLLECTOR)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=rf"others can read this secret \(mode {mode:04o}\) \(chmod 600\)"):
        keyring(keys, COLLECTOR)


@pytest.mark.parametrize("text", ["", "public 00\nsecret 00\n", "secret x\n", "public\n", "\0" * 5000])
def test_what_holds_no_key_pair_is_refused_and_not_shown(keys: Path, text: str) -> None:
    secret_path(keys, COLLECTOR).write_text(text)
    with pytest.raises(ConfigError, match="holds no key pair: a line `public` and a line `secret`, of one pair"):
        keyring(keys, COLLECTOR)


def test_who_has_no_key_is_told_what_makes_one(keys: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"collector-9: there is no such key \(copy it here, or `hitmesh keys add` makes one\)"
    ):
        keyring(keys, Peer(DC, "collector", "collector-9"))


# --- a mesh that gets its keys -----------------------------------------------------------------


def phase(keys: Path, peer: Peer, **settings: Any) -> Keyring:
    made = open_keyring(configured(keys, peer, **settings), peer.role, peer.name)
    assert made is not None
    return made


BEFORE: dict[str, Any] = {"insecure": True}
SWITCHING: dict[str, Any] = {"insecure_until": "2999-01-01"}
OVER: dict[str, Any] = {"insecure_until": "2020-01-01"}


@pytest.mark.parametrize("server", [None, BEFORE, SWITCHING], ids=["without", "before", "switching"])
@pytest.mark.parametrize("client", [BEFORE, SWITCHING], ids=["before", "switching"])
def test_while_a_mesh_gets_its_keys_whoever_has_some_reaches_everybody(
    keys: Path, networks: Any, server: dict[str, Any] | None, client: dict[str, Any]
) -> None:
    door = Door(networks(None if server is None else phase(keys, NEXUS, **server)), "heartbeats")
    assert bool(split_key(door.endpoint)[1]) is (server is SWITCHING)
    network = networks(phase(keys, COLLECTOR, **client))
    socket = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=10_000)
    there = network.keyring.keys.keys_of(NEXUS)
    place = split_key(door.endpoint)[0]
    connections = Connections(network, socket, [place], what="heartbeats", keys=lambda _: there)
    assert is_heard(door, socket, MESSAGE["heartbeats"])
    said = make(Heartbeat, 2, 1000, Instance(*COLLECTOR, "collector-1.0a", "up", 1, 0, {"acks": place}, {}, {}))
    assert is_heard(door, socket, said), "one that is itself reached without"
    connections.close()


def test_after_its_end_nobody_is_spoken_to_without_a_key(keys: Path, networks: Any) -> None:
    network = networks(phase(keys, COLLECTOR, **OVER))
    socket = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=10_000)
    with pytest.raises(MeshError, match="we speak with nobody without"):
        connect(network, socket, "tcp://127.0.0.1:9")
    assert network.ways(("a",)) == ("a",)


def test_at_its_end_a_connection_without_a_key_is_given_up(
    keys: Path, networks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(networks(None), "heartbeats")
    network = networks(phase(keys, COLLECTOR, **SWITCHING))
    socket = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=10_000)
    there = network.keyring.keys.keys_of(NEXUS)
    connections = Connections(network, socket, [door.endpoint], what="heartbeats", keys=lambda _: there)
    assert is_heard(door, socket, MESSAGE["heartbeats"])
    monkeypatch.setattr(network.keyring, "_plain_until_s", 0.0)
    until(lambda: not is_heard(door, socket, MESSAGE["heartbeats"], within_s=SILENCE_S), what="the end")
    connections.close()
