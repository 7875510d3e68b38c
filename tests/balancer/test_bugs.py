"""A bug in what is done for one connection is that connection's end, and nobody else's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from hitmesh.compiled import SWITCH
from tests.balancer.stage import Gate, Instance, backends, proxy, said
from tests.balancer.wire.scripted import ScriptedBackend
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for
from tests.services.nexus import cpu_s


class Buggy(Instance):
    def command(self) -> list[str]:
        words = ["tests.balancer.buggy_main" if word == "balancer" else word for word in super().command()]
        return ["env", f"{SWITCH}=0", *words]  # what is compiled takes no bugs


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buggy]:
    routes = {
        "default": proxy(backend.port),
        "fresh.example": proxy(backend.port),
        "busy.example": proxy(backend.port, backend_connections=1),
    }
    instance = Buggy(tmp_path_factory.mktemp("buggy"), routes, balancer={"limits": {"body_s": 0.3}})
    instance.start()
    yield instance
    instance.stop()


@pytest.fixture
def others(balancer: Buggy, backend: ScriptedBackend) -> Iterator[None]:
    """Connections that are there meanwhile: each is as before afterwards. The worker goes on, and rests."""
    gate = backend.scripts["/others"] = Gate()
    assert isinstance(gate, Gate)
    worker = balancer.workers()
    with Visitor(balancer.port) as idle, Visitor(balancer.port) as under_way:
        assert idle.get("/", host="a").status == 200
        under_way.send(said("/others", "a"))
        wait_for(lambda: gate.arrived == 1, what="the request to arrive")
        yield
        assert idle.get("/", host="a").status == 200
        gate.let()
        assert under_way.answer().status == 200
    wait_for(lambda: sessions(balancer) == 0, what="all connections to be over and forgotten")
    assert balancer.workers() == worker
    before = cpu_s(worker[0])
    time.sleep(0.2)
    assert cpu_s(worker[0]) - before < 0.15


def sessions(balancer: Buggy) -> int:
    count: int = balancer.admin("GET", "/stats.json")["fronts"]["http"]["sessions"]
    return count


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("path", ["/bug-head", "/bug-head/bug-again"])
def test_a_bug_while_a_request_is_read_closes_its_connection(path: str, balancer: Buggy) -> None:
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/", host="a").status == 200  # a connection to the backend is there, so that nobody waits
        visitor.send(said(path, "a"))
        assert visitor.has_ended()
    assert "RuntimeError: on purpose" in balancer.log()


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("path", ["/bug-head", "/bug-answered"])
def test_a_bug_on_the_backends_side_is_a_502(path: str, balancer: Buggy) -> None:
    with Visitor(balancer.port) as visitor:
        assert visitor.get(path, host="fresh.example").status == 502
        assert visitor.get("/", host="a").status == 200


@pytest.mark.usefixtures("others")
def test_a_bug_in_a_request_that_waited_is_none_of_those_who_woke_it(balancer: Buggy, backend: ScriptedBackend) -> None:
    gate = backend.scripts["/gate"] = Gate()
    assert isinstance(gate, Gate)
    with Visitor(balancer.port) as first, Visitor(balancer.port) as buggy, Visitor(balancer.port) as last:
        first.send(said("/gate", "busy.example"))
        wait_for(lambda: gate.arrived == 1, what="the request to arrive")
        buggy.send(said("/bug-head", "busy.example"))
        wait_for(lambda: balancer.waiting("busy.example") == 1, what="it to wait")
        last.send(said("/last", "busy.example"))
        wait_for(lambda: balancer.waiting("busy.example") == 2, what="it to wait")
        gate.let()
        assert first.answer().status == 200
        assert buggy.has_ended()
        assert last.answer().status == 200


@pytest.mark.usefixtures("others")
def test_a_bug_about_one_deadline_is_none_of_the_others(balancer: Buggy) -> None:
    with contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(Visitor(balancer.port)) for _ in range(6)]
        for number, visitor in enumerate(visitors):
            path = "/bug-late" if number % 2 else "/late"
            visitor.send(said(path, "a", method="POST", more=b"Content-Length: 10\r\n") + b"abc")
        assert [visitor.answer().status for visitor in visitors[::2]] == [408] * 3
        assert all(visitor.has_ended() for visitor in visitors[1::2])
