"""A master that is told to end, with a virtual IP: here, where loopback's addresses all are, and elsewhere."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.process import listeners
from balancer.process.generation import USUAL, Generation, Plan
from balancer.process.parting import Parting
from balancer.vip import door
from balancer.vip.place import VirtualIp
from balancer.vip.word import Said, Stage, read
from tests.balancer.process.stubs import Stubs, answer_to, asking, is_alive, running
from tests.services import free_port, wait_for

HERE = "127.0.0.7"
ELSEWHERE = "192.0.2.7"


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[Stubs]:
    with running(tmp_path / "master") as stubs:
        yield stubs


def started(stubs: Stubs, address: str) -> int:
    """The port of the virtual IP."""
    port = free_port()
    stubs.write(listen={**stubs.config["listen"], "vip": f"{address}:{port}"}, vip=address, drain_s=8.0)
    stubs.start()
    return port


def said(stubs: Stubs) -> Said:
    found = read(stubs.folder / "said")
    assert found is not None
    return found


def test_where_the_address_is_clients_are_served_first_then_nobody_is_let_in_and_then_it_is_given_up(
    stubs: Stubs,
) -> None:
    port = started(stubs, HERE)
    assert (said(stubs).pid, said(stubs).stage, len(said(stubs).beats)) == (stubs.pid, Stage.SERVES, 2)
    stubs.signal(signal.SIGTERM)
    wait_for(lambda: said(stubs).stage == Stage.LEAVES, what="it to say that it will leave")
    with socket.create_connection((HERE, port)) as client:
        client.sendall(b"?")
        assert answer_to(client).kind == "vip"
    assert stubs.ask().kind == "http"
    wait_for(lambda: said(stubs).stage == Stage.GONE, what="it to give the address up")
    with pytest.raises(TimeoutError):  # not refused: another host will answer
        socket.create_connection((HERE, port), timeout=0.3)
    assert stubs.ended() == 0


def test_elsewhere_it_says_that_it_has_gone_and_ends_at_once(stubs: Stubs) -> None:
    started(stubs, ELSEWHERE)
    with asking(stubs.port) as client:
        answer_to(client)
    stubs.signal(signal.SIGTERM)
    assert stubs.ended() == 0
    assert said(stubs).stage == Stage.GONE
    assert "given up first" not in stubs.log()


@pytest.mark.parametrize("change", [signal.SIGHUP, signal.SIGUSR2])
def test_a_change_gives_nothing_up(stubs: Stubs, change: signal.Signals) -> None:
    port = started(stubs, HERE)
    stubs.write(label="b", workers=1)
    stubs.signal(change)
    wait_for(lambda: len(said(stubs).beats) == 1, what="the new workers")
    stubs.comes_to("b")
    assert said(stubs).stage == Stage.SERVES
    with socket.create_connection((HERE, port)) as client:
        client.sendall(b"?")
        assert answer_to(client).label == "b"


def test_an_impatient_end_waits_for_nobody(stubs: Stubs) -> None:
    started(stubs, HERE)
    stubs.signal(signal.SIGINT)
    wait_for(lambda: said(stubs).stage == Stage.LEAVES, what="it to say that it will leave")
    workers = list(stubs.children())
    stubs.signal(signal.SIGINT)
    assert stubs.ended() == 128 + signal.SIGINT
    wait_for(lambda: not any(map(is_alive, workers)), what="the workers to be killed")


def test_what_fails_is_said_and_the_rest_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    bounds = listeners.bind({"vip": listeners.Address(HERE, 0)}, workers=1)
    plan = Plan(listen={}, workers=1, drain_s=8.0, text=None, vip=VirtualIp(HERE, tmp_path / "said"))
    generation = Generation(plan, bounds, command=[], alive_fd=-1, patience=USUAL, hung=0)
    parting = Parting(generation, fail, fail, now=0.0)
    monkeypatch.setattr(socket, "socket", fail)  # the kernel doesn't tell where the address is
    monkeypatch.setattr(door, "shut", fail)
    assert [parting.advance(now, has_finished=False) for now in (0.0, 10.0, 20.0, 30.0, 40.0)] == [*[False] * 4, True]
    for step in ("TELL", "SHUT", "DISMISS", "GIVE_UP"):
        assert f"{step} failed; goes on: [Errno 1] Operation not permitted" in caplog.text
    assert bounds["vip"].sockets[0].fileno() == -1
