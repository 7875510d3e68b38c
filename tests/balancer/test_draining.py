"""A balancer that ends, reads its configuration anew or is replaced, while it is in use."""

from __future__ import annotations

import itertools
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from balancer.middle.traffic import QUIET_S
from hitmesh.config import load
from tests.balancer.late_nexus import LateNexus
from tests.balancer.stage import LONG_S, OK, Gate, Instance, ask, backends, proxy, requests_to, said, sized, staged
from tests.balancer.wire.scripted import ScriptedBackend, Turn
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

ENDS_S = 30.0  # much less than the time that it may take
LONG_DRAIN = {"drain_s": 120.0}
CLIENTS = 4


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


def ends(balancer: Instance) -> int:
    """Its exit status, soon."""
    assert balancer.process is not None
    return balancer.process.wait(ENDS_S)


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=LONG_S).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_requests_finish_closes_what_is_idle_and_ends(tmp_path: Path, backend: ScriptedBackend) -> None:
    gate = backend.scripts["/under-way"] = Gate()
    assert isinstance(gate, Gate)
    halves = threading.Event()

    def script(turn: Turn) -> None:
        turn.say(OK + b"Content-Length: 4\r\n\r\nha")
        halves.wait(LONG_S)
        turn.say(b"lf")

    backend.scripts["/half"] = script
    with (
        staged(tmp_path, {"default": proxy(backend.port)}, timing=LONG_DRAIN) as balancer,
        Visitor(balancer.port) as idle,
        Visitor(balancer.port) as silent,
        Visitor(balancer.port) as under_way,
        Visitor(balancer.port) as half,
        Visitor(balancer.port) as sending,
        Visitor(balancer.port) as pipelining,
    ):
        assert idle.get("/", host="a").value(b"connection") is None
        under_way.send(said("/under-way", "a"))
        half.send(said("/half", "a"))
        sending.send(b"POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        pipelining.send(said("/under-way", "a") + said("/second", "a"))
        wait_for(lambda: gate.arrived == 2, what="the requests to arrive")
        received = b""
        while not received.endswith(b"ha"):
            received += half._connection.recv(65_536)

        balancer.signal(signal.SIGTERM)
        wait_for(lambda: is_refused(balancer.port), what="new connections to be refused")
        gate.let()
        halves.set()
        sending.send(b"cd")
        for visitor, body in ((under_way, b"late"), (sending, b"/late"), (pipelining, b"late")):
            answer = visitor.answer()
            assert (answer.body, answer.value(b"connection")) == (body, b"close")
            assert visitor.has_ended()
            visitor.__exit__()
        assert half._connection.recv(100) == b"lf"
        assert half.has_ended(), "its head was sent before anybody knew"
        assert idle.has_ended()
        assert silent.has_ended()
        assert ends(balancer) == 0
    assert requests_to([backend], "/second") == 0


def test_a_head_that_has_begun_has_its_time_although_the_worker_ends(tmp_path: Path, backend: ScriptedBackend) -> None:
    with (
        staged(tmp_path, {"default": proxy(backend.port)}, timing=LONG_DRAIN) as balancer,
        Visitor(balancer.port) as slow,
        Visitor(balancer.port) as silent,
    ):
        head = said("/slow", "a")
        slow.send(head[:-2])
        balancer.signal(signal.SIGTERM)
        wait_for(lambda: is_refused(balancer.port), what="new connections to be refused")
        assert silent.has_ended()
        time.sleep(QUIET_S / 2)  # as long as it took to look, and more
        slow.send(head[-2:])
        answer = slow.answer()
        assert (answer.status, answer.value(b"connection")) == (200, b"close")
        assert ends(balancer) == 0


def test_what_does_not_finish_in_time_is_cut(tmp_path: Path, backend: ScriptedBackend) -> None:
    gate = backend.scripts["/never"] = Gate()
    assert isinstance(gate, Gate)
    with (
        staged(tmp_path, {"default": proxy(backend.port)}, timing={"drain_s": 0.5}) as balancer,
        Visitor(balancer.port) as visitor,
    ):
        visitor.send(said("/never", "a"))
        wait_for(lambda: gate.arrived == 1, what="the request to arrive")
        balancer.signal(signal.SIGTERM)
        assert ends(balancer) == 0
        assert visitor.has_ended()
    gate.let()


class Loop:
    """A client that asks again and again on one connection, and makes another when it is told that this one ends.

    A connection that was silent for long may have ended without a word: a client looks before it asks.
    """

    def __init__(self, port: int, host: str, pause_s: float) -> None:
        self.answers: list[bytes] = []
        self.failures: list[str] = []
        self.closes = 0
        self._port = port
        self._host = host
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=LONG_S)
        answered = time.monotonic()
        for number in itertools.count():
            if self._stopped.wait(self._pause_s):
                break
            if connection.sock is not None and time.monotonic() - answered >= QUIET_S and _has_ended(connection.sock):
                connection.close()
                self.closes += 1
            try:
                body = b"x" * 1000 if number % 3 == 0 else None
                connection.request("POST" if body else "GET", "/loop", body, {"Host": self._host})
                answer = connection.getresponse()
                self.answers.append(answer.read())
                answered = time.monotonic()
                if answer.status != 200:
                    self.failures.append(str(answer.status))
                self.closes += answer.will_close
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()


def _has_ended(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])


def test_no_request_fails_while_the_balancer_is_reloaded_and_replaced(tmp_path: Path) -> None:
    with backends(3) as three:
        for number, each in enumerate(three):
            each.scripts["/loop"] = lambda turn, number=number: _counts(turn, number)  # type: ignore[misc]
        routes = {"default": proxy(three[0].port), "gone.example": {"action": "empty", "status": 410}}
        with staged(tmp_path, routes, timing=LONG_DRAIN, balancer={"workers": 2}) as balancer:
            loops = [Loop(balancer.port, "a", 0.01 if number % 2 else 0.05) for number in range(CLIENTS)]
            fresh: list[int] = []
            stopped = threading.Event()

            def visit() -> None:
                while not stopped.is_set():
                    fresh.append(ask(balancer.port, "a", "/loop").status)

            newcomer = threading.Thread(target=visit)
            newcomer.start()
            for number, how in ((1, signal.SIGHUP), (2, signal.SIGUSR2)):
                wait_for(lambda: all(len(loop.answers) > 20 for loop in loops), what="some answers")
                workers = set(balancer.workers())
                balancer.configure({"default": proxy(three[number].port)})
                balancer.signal(how)
                # The next version is checked by a process of its own, which is no worker.
                wait_for(lambda before=workers: not before & set(balancer.workers()), what="the old ones to end")  # type: ignore[misc]
                wait_for(
                    lambda last=b"%d" % number: all(loop.answers[-1] == last for loop in loops),  # type: ignore[misc]
                    what="the new route",
                )
            stopped.set()
            newcomer.join()
            for loop in loops:
                loop.stop()
            assert [failure for loop in loops for failure in loop.failures] == []
            assert set(fresh) == {200}
            assert all(loop.closes >= 2 for loop in loops), "each is told that its connection ends"
            assert ask(balancer.port, "gone.example").status == 200, "its route is gone"


def _counts(turn: Turn, number: int) -> None:
    turn.body()
    turn.say(sized(b"%d" % number))


def test_a_worker_leaves_the_mesh_only_when_the_next_one_is_known_there(tmp_path: Path) -> None:
    balancer = Instance(tmp_path, {"default": proxy(service="collector")}, timing={"heartbeat_s": 0.2})
    with LateNexus(load(balancer.file), late_s=0.7) as nexus:
        try:
            balancer.start()
            wait_for(lambda: nexus.words, what="the first worker to be known")
            [(_, first)] = nexus.words
            balancer.signal(signal.SIGHUP)
            wait_for(lambda: {word for word in nexus.words if word[1] != first}, what="the next one to be known")
            assert ("left", first) not in nexus.words
        finally:
            balancer.stop()
