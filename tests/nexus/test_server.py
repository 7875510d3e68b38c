"""A real Nexus process: what comes in from strangers, what it costs, how it ends."""

from __future__ import annotations

import itertools
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq

from hitmesh.config import dump
from hitmesh.mesh.lookup import Lookups
from hitmesh.mesh.sockets import COMPLAINT_S
from hitmesh.protocol.messages import Answer, Change, Heartbeat, Leave, Lookup, decode, encode, make
from nexus.federation import MAX_NEIGHBOURS_BYTES
from tests.hitmesh.mesh.instances import heartbeat, instance
from tests.services import PATIENCE_S, START_S, wait_for
from tests.services.nexus import NexusProcess, mesh_config

PEERS_S = 0.2  # the interval that peers state who beat faster than that, or are to be found dead soon
GREETING = b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL".ljust(64, b"\0")  # ZMTP 3.0's


@pytest.fixture
def context() -> zmq.Context[zmq.Socket[bytes]]:
    return zmq.Context()


def tcp_junk(endpoint: str, data: bytes) -> None:
    host, port = endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as stream:
        try:
            stream.sendall(data)
            stream.settimeout(0.05)
            stream.recv(1024)
        except OSError:
            pass  # it hung up, or has nothing to say to that


def patient(nexus: NexusProcess) -> Lookups:
    return Lookups([nexus.endpoints.lookups], timeout_s=PATIENCE_S)


def loads(nexus: NexusProcess) -> dict[str, float]:
    def own() -> dict[str, float]:
        with patient(nexus) as lookups:
            named = [one.instance for one in lookups.service("nexus") if one.instance.name == nexus.name]
        return named[0].load if named else {}

    return wait_for(own, what=f"{nexus.name} to know itself")


def known(nexus: NexusProcess, role: str = "processor") -> set[str]:
    with patient(nexus) as lookups:
        return {one.instance.name for one in lookups.service(role)}


class Peers:
    """Plain PUB sockets that send heartbeats by hand."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], nexus: NexusProcess) -> None:
        self.socket = context.socket(zmq.PUB)
        self.socket.linger = 0
        self.socket.connect(nexus.endpoints.heartbeats)

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart(list(frames))

    def send_until_known(self, nexus: NexusProcess, role: str) -> None:
        """Heartbeats of an instance that is the only one of its role: a PUB's first ones go nowhere."""
        numbers = itertools.count(1)

        def heard() -> bool:
            self.send(encode(heartbeat(instance(role, role=role), next(numbers), PEERS_S)))
            return known(nexus, role) == {role}

        wait_for(heard, what="a heartbeat to be heard")


def test_junk_on_every_socket_changes_nothing_and_the_nexus_goes_on(
    nexuses: list[NexusProcess], context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    nexus = nexuses[0]
    draw = random.Random(7)
    good = encode(heartbeat(instance("good", role="junk"), 1, PEERS_S))
    for endpoint in (nexus.endpoints.heartbeats, nexus.endpoints.changes, nexus.endpoints.lookups):
        for data in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"",
            GREETING,
            GREETING + b"\x04\xff" + b"x" * 300,
            draw.randbytes(5000),
        ):
            tcp_junk(endpoint, data)
    peers = Peers(context, nexus)
    asking = context.socket(zmq.DEALER)
    asking.linger = 0
    asking.connect(nexus.endpoints.lookups)
    following = context.socket(zmq.SUB)
    following.linger = 0
    following.connect(nexus.endpoints.changes)
    following.subscribe(draw.randbytes(100))
    peers.send_until_known(nexus, "connected")
    bad: list[list[bytes]] = [[b""], [b"\xff" * 50], [good[:-1]], [good + b"x"], [good, good], [b"", good]]
    bad += [[b"\x93\x01\x05" + struct.pack(">I", draw.getrandbits(32))] for _ in range(30)]
    bad += [
        [bytes([*good[:index], draw.getrandbits(8), *good[index + 1 :]])[: index + 1]]
        for index in range(3, len(good) - 1)
    ]
    before, complaints, began_s = loads(nexus)["bad_frames"], nexus.log().count("bad message"), time.monotonic()
    for frames in bad:
        peers.send(*frames)
        asking.send_multipart(frames)
    asking.send(encode(make(Change, "n", 1, True, (), ())))
    wait_for(lambda: loads(nexus)["bad_frames"] >= before + 2 * len(bad) + 1, what="the bad frames to be counted")
    peers.send_until_known(nexus, "good")
    assert nexus.process is not None
    assert nexus.process.poll() is None
    periods = 1 + int((time.monotonic() - began_s) / COMPLAINT_S)
    complaints = nexus.log().count("bad message") - complaints
    assert complaints <= 2 * (periods + 1), "the log is filled by strangers"  # by two sockets
    context.destroy(linger=0)


def test_a_frame_beyond_the_limit_is_not_taken_in(
    nexuses: list[NexusProcess], context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    nexus = nexuses[0]
    peers = Peers(context, nexus)
    other = Peers(context, nexus)
    one = instance("other")
    number = 0

    def heard() -> bool:
        nonlocal number
        number += 1
        peers.send(bytes(MAX_NEIGHBOURS_BYTES + 1))
        other.send(encode(heartbeat(one, number, PEERS_S)))
        return known(nexus) == {"other"} and number > 10

    bad = loads(nexus)["bad_frames"]
    wait_for(heard, what="another peer to be heard")
    time.sleep(nexus.config.timing.heartbeat_s * 2)  # until its own load tells of now
    assert loads(nexus)["bad_frames"] == bad, "it was read"
    context.destroy(linger=0)


def test_a_req_socket_is_answered_as_a_dealer_is(
    nexuses: list[NexusProcess], context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    asking = context.socket(zmq.REQ)
    asking.linger = 0
    asking.connect(nexuses[0].endpoints.lookups)
    asking.send(encode(make(Lookup, 42, "snapshot", "")))
    assert asking.poll(int(PATIENCE_S * 1000))
    answer = decode(asking.recv(), Answer)
    assert (answer.request, answer.error) == (42, "")
    context.destroy(linger=0)


def test_a_flood_of_heartbeats_does_not_keep_it_from_answering(
    nexuses: list[NexusProcess], context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    nexus = nexuses[0]
    frame = encode(heartbeat(instance("flood"), 1, PEERS_S))
    is_over = threading.Event()

    def flood() -> None:
        peers = Peers(context, nexus)
        while not is_over.is_set():
            peers.send(frame)
        peers.socket.close(linger=0)

    changes: set[tuple[str, int]] = set()

    def clock_goes_on() -> bool:
        """One that is kept from it has no more Changes of its own."""
        answer = lookups.snapshot()
        changes.add((answer.nexus, answer.number))
        return len(changes) > 5

    flooding = threading.Thread(target=flood)
    with patient(nexus) as lookups:
        flooding.start()
        try:
            wait_for(clock_goes_on, what="answers, and the clock to go on")
        finally:
            is_over.set()
            flooding.join()
    context.destroy(linger=0)


def test_a_second_one_on_the_same_ports_says_so_in_one_line_and_ends_with_1(nexuses: list[NexusProcess]) -> None:
    done = subprocess.run(nexuses[0].command(), capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert nexuses[0].endpoints.heartbeats in done.stderr
    assert "in use" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(tmp_path: Path, number: signal.Signals) -> None:
    nexus = NexusProcess(tmp_path, mesh_config(nexuses=1), 1)
    nexus.start()
    assert nexus.process is not None
    nexus.signal(number)
    assert nexus.process.wait(PATIENCE_S) == 0
    assert "Traceback" not in nexus.log()


def test_one_that_stops_is_forgotten_by_the_other_at_once(nexuses: list[NexusProcess]) -> None:
    def shown() -> set[str]:
        """The dead included, who are kept for minutes."""
        return {one.instance.name for one in nexuses[1].snapshot() if one.instance.role == "nexus"}

    wait_for(lambda: shown() == {"nexus-1", "nexus-2"}, what="both to be known")
    nexuses[0].signal(signal.SIGTERM)
    wait_for(lambda: shown() == {"nexus-2"}, what="it to be gone")
    nexuses[0].stop()


def test_a_name_that_is_not_configured_is_wrong_use(tmp_path: Path) -> None:
    file = tmp_path / "dc.toml"
    file.write_text(dump(mesh_config()))
    command = [sys.executable, "-m", "nexus", "--config", str(file), "--name", "nexus-9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 2
    assert "nexus-9 is not configured; known are nexus-1, nexus-2" in done.stderr


def test_a_wrong_config_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "dc.toml"
    file.write_text("nmae = 'x'\n")
    command = [sys.executable, "-m", "nexus", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(file) in done.stderr


def test_help_has_an_example() -> None:
    done = subprocess.run([sys.executable, "-m", "nexus", "--help"], capture_output=True, text=True, check=True)
    assert "nexus --config config/dev.toml" in done.stdout


def test_200_peers_that_come_and_go_leave_files_and_cpu_as_they_were(
    nexuses: list[NexusProcess], context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    nexus = nexuses[0]
    # One round before measuring: what libzmq and Python allocate once isn't a leak.
    come_and_go(nexus, 20)
    wait_for(lambda: known(nexus) == set(), what="the first to be gone")
    files = wait_for(lambda: steady_files(nexus), what="the files to settle")
    idle_s = cpu_over(nexus, 1.5)
    for _ in range(4):
        come_and_go(nexus, 50)
    wait_for(lambda: known(nexus) == set(), what="all to be gone")
    wait_for(lambda: nexus.open_files() <= files, what="the files to be closed")
    assert cpu_over(nexus, 1.5) < idle_s + 0.3, "it spins"
    context.destroy(linger=0)


def steady_files(nexus: NexusProcess) -> int:
    before = nexus.open_files()
    time.sleep(0.3)
    return before if nexus.open_files() == before else 0


def cpu_over(nexus: NexusProcess, span_s: float) -> float:
    before = nexus.cpu_s()
    time.sleep(span_s)
    return nexus.cpu_s() - before


def come_and_go(nexus: NexusProcess, count: int) -> None:
    """`count` peers with all the sockets of a role; half of them vanish, half leave."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    peers = [Peers(context, nexus) for _ in range(count)]
    asking: list[zmq.Socket[bytes]] = []
    for _ in range(count):
        for kind, endpoint in ((zmq.SUB, nexus.endpoints.changes), (zmq.DEALER, nexus.endpoints.lookups)):
            one = context.socket(kind)
            one.linger = 0
            if kind == zmq.SUB:
                one.subscribe(b"")
            one.connect(endpoint)
            asking.append(one)
    names = {f"processor-{index}" for index in range(count)}
    number = 0

    def heard() -> bool:
        nonlocal number
        number += 1
        for index, each in enumerate(peers):
            beat: Heartbeat = heartbeat(instance(f"processor-{index}"), number, PEERS_S)
            each.send(encode(beat))
            if number % 5 == 1 and asking[2 * index + 1].poll(0, zmq.POLLOUT):
                asking[2 * index + 1].send(encode(make(Lookup, 1, "snapshot", "")))
        time.sleep(0.05)
        return known(nexus) >= names

    wait_for(heard, what="all to be heard")
    for index, each in enumerate(peers):
        if index % 2:
            each.send(encode(make(Leave, f"processor-{index}-a")))
    time.sleep(0.05)
    context.destroy(linger=0)
