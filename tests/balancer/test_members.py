"""Backends that the Nexus knows: who joins, who drains, who is gone."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import zmq

from hitmesh.config import Config, load
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.lookup import Lookups
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import Heartbeat, Leave, Message, encode, make
from hitmesh.protocol.messages import Instance as Described
from tests.balancer.stage import (
    Gate,
    Instance,
    ask,
    ask_at_once,
    backends,
    proxy,
    requests_to,
    said,
    statuses,
)
from tests.balancer.wire.answers import Answer
from tests.balancer.wire.scripted import ScriptedBackend
from tests.balancer.wire.visitor import Visitor
from tests.services import PATIENCE_S, wait_for
from tests.services.nexus import NexusProcess, endpoints

HEARTBEAT_S = 0.2
MISSED = 60  # so that nobody who is only slow is taken for dead
HOSTS = ("plain.example", "slow.example")
IDS = itertools.count(1)


class Member:
    """An instance that tells the Nexus of itself until it is silent; its front is `backend`."""

    def __init__(self, config: Config, backend: ScriptedBackend, name: str = "collector-1", **load: float) -> None:
        self.name = name
        self.state = "up"
        self._config = config
        self._port = backend.port
        self._load = load
        self._id = f"{name}-{next(IDS)}"
        self._started_ms = int(time.time() * 1000)
        self._silent = threading.Event()
        self._leaves = False
        self._numbers = itertools.count(1)
        self._network = Network(zmq.Context())
        self._socket = open_socket(self._network, zmq.PUB, heartbeat_s=HEARTBEAT_S, receive_bytes=1000)
        for each in endpoints(config):
            connect(self._network, self._socket, each.heartbeats)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def silence(self) -> None:
        """Say nothing more, as one that was killed."""
        self._silent.set()
        self._thread.join()

    def leave(self) -> None:
        """Say that it stops, as one that has drained."""
        self._leaves = not self._silent.is_set()
        self.silence()

    def _run(self) -> None:
        while not self._silent.wait(HEARTBEAT_S / 4):
            self._say(make(Heartbeat, next(self._numbers), int(HEARTBEAT_S * 1000), self._describe()))
        with Lookups([each.lookups for each in endpoints(self._config)], timeout_s=PATIENCE_S) as lookups:
            while self._leaves and self._is_known(lookups):  # there is no word that it was heard
                self._say(make(Leave, self._id))
                time.sleep(0.02)
        self._network.close()

    def _say(self, message: Message) -> None:
        self._socket.send(encode(message), zmq.NOBLOCK)

    def _is_known(self, lookups: Lookups) -> bool:
        return any(one.alive and one.instance.id == self._id for one in lookups.snapshot().seen)

    def _describe(self) -> Described:
        url = f"http://127.0.0.1:{self._port}"
        return Described(
            "stage", "collector", self.name, self._id, self.state, 1, self._started_ms, {"http": url}, self._load, {}
        )


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with beside_a_nexus(tmp_path_factory.mktemp("members"), missed=MISSED) as instance:
        yield instance


@contextlib.contextmanager
def beside_a_nexus(folder: Path, *, missed: int) -> Iterator[Instance]:
    plain = proxy(service="collector", hold=10, hold_s=120.0, check_s=0.5)
    routes = {"plain.example": plain, "slow.example": {**plain, "slow_start_s": 3600.0}}
    instance = Instance(folder, routes, timing={"heartbeat_s": HEARTBEAT_S, "missed_heartbeats": missed})
    nexus = NexusProcess(folder / "nexus", load(instance.file), 1)
    try:
        nexus.start()
        instance.start()
        yield instance
    finally:
        instance.stop()
        nexus.stop()


@pytest.fixture(scope="module")
def config(balancer: Instance) -> Config:
    return load(balancer.file)


@pytest.fixture
def nobody(balancer: Instance) -> None:
    wait_for_members(balancer)


def wait_for_members(balancer: Instance, *names: str, status: str = "UP") -> None:
    def found(host: str) -> set[str]:
        backends = balancer.service(host)["backends"]
        return {name for name, each in backends.items() if each["status"] == status}

    wait_for(lambda: all(found(host) == set(names) for host in HOSTS), what=f"{names} to be {status}")


@pytest.mark.usefixtures("nobody")
def test_held_requests_go_on_with_the_first_heartbeat_of_an_instance(balancer: Instance, config: Config) -> None:
    with backends(1) as [one], Visitor(balancer.port) as visitor, Visitor(balancer.port) as other:
        visitor.send(said("/held", "plain.example"))
        other.send(said("/held", "slow.example", method="POST", body=b"x" * 100_000))
        for host in HOSTS:
            wait_for(lambda host=host: balancer.waiting(host) == 1, what="it to be held")  # type: ignore[misc]
        with Member(config, one):
            assert visitor.answer().status == 200
            assert other.answer().status == 200
    assert requests_to([one], "/held") == 2


@pytest.mark.usefixtures("nobody")
def test_an_instance_that_drains_gets_nothing_new_and_finishes_what_it_has(balancer: Instance, config: Config) -> None:
    with backends(2) as [one, two], Member(config, one) as first:
        gate = one.scripts["/slow"] = Gate()
        assert isinstance(gate, Gate)
        wait_for_members(balancer, "collector-1")
        with Visitor(balancer.port) as visitor:
            visitor.send(said("/slow", "plain.example"))
            wait_for(lambda: gate.arrived == 1, what="the request to arrive")
            assert ask(balancer.port, "plain.example", "/kept").status == 200
            with Member(config, two, "collector-2"):
                wait_for_members(balancer, "collector-1", "collector-2")
                first.state = "draining"
                wait_for_members(balancer, "collector-1", status="DRAIN")
                wait_for(lambda: one.open_connections == 1, what="idle connections to it to be closed")
                for _ in range(20):
                    assert ask(balancer.port, "plain.example", "/new").status == 200
                assert (requests_to([one], "/new"), requests_to([two], "/new")) == (0, 20)
                gate.let()
                assert visitor.answer().body == b"late"
                first.leave()
                wait_for_members(balancer, status="DRAIN")


@pytest.mark.usefixtures("nobody")
def test_an_instance_that_cant_do_its_work_gets_nothing_until_it_can_again(balancer: Instance, config: Config) -> None:
    with backends(2) as [one, two], Member(config, one) as failing, Member(config, two, "collector-2"):
        wait_for_members(balancer, "collector-1", "collector-2")
        failing.state = "failing: a put into the spool has been under way for 15 s"
        wait_for_members(balancer, "collector-1", status="DRAIN")
        assert f"collector-1 is DRAIN: {failing.state} service=" in balancer.log()
        for _ in range(20):
            assert ask(balancer.port, "plain.example", "/now").status == 200
        assert (requests_to([one], "/now"), requests_to([two], "/now")) == (0, 20)
        failing.state = "up"
        wait_for_members(balancer, "collector-1", "collector-2")


@pytest.mark.usefixtures("nobody")
def test_an_instance_that_an_operator_drains_gets_nothing_new_until_it_is_undrained(
    balancer: Instance, config: Config
) -> None:
    with backends(2) as [one, two], Member(config, one), Member(config, two, "collector-2"):
        wait_for_members(balancer, "collector-1", "collector-2")
        said_of_it = balancer.admin("PUT", "/instances/collector-1", '{"drained": true}')
        assert (said_of_it["drained"], said_of_it["state"]) == (True, "up")  # this one never says so itself
        wait_for_members(balancer, "collector-1", status="DRAIN")
        workers = balancer.workers()
        balancer.signal(signal.SIGHUP)
        wait_for(lambda: not set(workers) & set(balancer.workers()), what="new workers")
        wait_for_members(balancer, "collector-1", status="DRAIN")
        for _ in range(20):
            assert ask(balancer.port, "plain.example", "/by-hand").status == 200
        assert (requests_to([one], "/by-hand"), requests_to([two], "/by-hand")) == (0, 20)
        balancer.admin("DELETE", "/instances/collector-1")
        wait_for_members(balancer, "collector-1", "collector-2")


def test_an_operators_word_counts_for_a_backend_that_a_route_names(balancer: Instance) -> None:
    with backends(2) as [one, two]:
        balancer.put_route("fixed.example", proxy(one.port, two.port, hold=10))
        names = [f"127.0.0.1:{each.port}" for each in (one, two)]

        def until(name: str, field: str, value: object) -> None:
            wait_for(
                lambda: balancer.service("fixed.example")["backends"][name][field] == value, what=f"{field} {value}"
            )

        wait_for(lambda: ask(balancer.port, "fixed.example", "/there").status == 200, what="the route in force")
        balancer.admin("PUT", f"/instances/{names[0]}", '{"weight": 25}')
        until(names[0], "weight", 0.25)
        gates = [Gate(), Gate()]
        for each, gate in zip((one, two), gates, strict=True):
            each.scripts["/weighed"] = gate
        answers = ask_at_once(20, lambda _: ask(balancer.port, "fixed.example", "/weighed"))
        wait_for(lambda: sum(gate.arrived for gate in gates) == 20, what="all to arrive")
        assert [gate.arrived for gate in gates] == [4, 16]
        for gate in gates:
            gate.let()
        assert statuses(answers) == [200] * 20
        balancer.admin("PUT", f"/instances/{names[0]}", '{"drained": true}')
        until(names[0], "status", "DRAIN")
        until(names[0], "weight", 1.0)
        for _ in range(10):
            assert ask(balancer.port, "fixed.example", "/drained").status == 200
        assert requests_to([one], "/drained") == 0
        balancer.admin("DELETE", f"/instances/{names[0]}")
        until(names[0], "status", "UP")


@pytest.mark.usefixtures("nobody")
def test_an_instance_that_is_started_again_under_its_name_is_another_one(balancer: Instance, config: Config) -> None:
    with backends(2) as [one, two], Member(config, one) as before:
        gate = one.scripts["/slow"] = Gate()
        assert isinstance(gate, Gate)
        wait_for_members(balancer, "collector-1")
        with Visitor(balancer.port) as visitor:
            visitor.send(said("/slow", "plain.example"))
            wait_for(lambda: gate.arrived == 1, what="the request to arrive")
            before.state = "draining"
            wait_for_members(balancer, "collector-1", status="DRAIN")
            with Member(config, two):
                wait_for_members(balancer, "collector-1")
                assert (
                    balancer.service("plain.example")["backends"]["collector-1"]["address"] == f"127.0.0.1:{two.port}"
                )
                assert ask(balancer.port, "plain.example", "/again").status == 200
                assert requests_to([two], "/again") == 1
                gate.let()
                assert visitor.answer().body == b"late"
                wait_for_members(balancer, "collector-1")


def test_an_instance_that_falls_silent_gets_nothing_more(tmp_path: Path) -> None:
    with (
        beside_a_nexus(tmp_path, missed=4) as balancer,
        backends(2) as [one, two],
        Member(load(balancer.file), one) as first,
        Member(load(balancer.file), two, "collector-2"),
    ):
        wait_for_members(balancer, "collector-1", "collector-2")
        first.silence()
        wait_for_members(balancer, "collector-2")
        for _ in range(10):
            assert ask(balancer.port, "plain.example", "/left").status == 200
        assert requests_to([one], "/left") == 0


@pytest.mark.usefixtures("nobody")
def test_while_all_instances_are_restarted_requests_wait_and_none_fails(balancer: Instance, config: Config) -> None:
    answers: list[Future[Answer]] = []
    with contextlib.ExitStack() as stack:
        for number in range(3):
            with backends(1) as [one], Member(config, one):
                wait_for_members(balancer, "collector-1")
                assert statuses(answers) == [200] * len(answers)
                assert ask(balancer.port, "plain.example", f"/{number}").status == 200
            # Its listener is gone, and the Nexus was told.
            answers = ask_at_once(5, lambda _: ask(balancer.port, "plain.example", "/between"))
            wait_for(lambda: balancer.waiting("plain.example") == 5, what="them to be held")
        [last] = stack.enter_context(backends(1))
        stack.enter_context(Member(config, last))
        assert statuses(answers) == [200] * 5


@pytest.mark.usefixtures("nobody")
def test_a_newcomer_beside_others_begins_with_a_small_share(balancer: Instance, config: Config) -> None:
    with backends(2) as [one, two], Member(config, one):
        wait_for_members(balancer, "collector-1")
        with Member(config, two, "collector-2"):
            wait_for_members(balancer, "collector-1", "collector-2")
            for host, least, most in (("slow.example", 1, 3), ("plain.example", 10, 10)):
                path = f"/share-{host}"
                gates = [Gate(), Gate()]
                for each, gate in zip((one, two), gates, strict=True):
                    each.scripts[path] = gate
                answers = ask_at_once(20, lambda _, host=host, path=path: ask(balancer.port, host, path))  # type: ignore[misc]
                wait_for(lambda gates=gates: sum(gate.arrived for gate in gates) == 20, what="all to arrive")  # type: ignore[misc]
                assert least <= gates[1].arrived <= most
                for gate in gates:
                    gate.let()
                assert statuses(answers) == [200] * 20


@pytest.mark.usefixtures("nobody")
def test_an_instance_that_says_it_is_late_gets_less(balancer: Instance, config: Config) -> None:
    with backends(2) as [one, two], Member(config, one), Member(config, two, "collector-2", hub_lag_s=0.15):
        wait_for_members(balancer, "collector-1", "collector-2")
        wait_for(
            lambda: balancer.service("plain.example")["backends"]["collector-2"]["weight"] == 0.25,
            what="its heartbeat to count",
        )
        gates = [Gate(), Gate()]
        for each, gate in zip((one, two), gates, strict=True):
            each.scripts["/late"] = gate
        answers = ask_at_once(20, lambda _: ask(balancer.port, "plain.example", "/late"))
        wait_for(lambda: sum(gate.arrived for gate in gates) == 20, what="all to arrive")
        assert [gate.arrived for gate in gates] == [16, 4]
        for gate in gates:
            gate.let()
        assert statuses(answers) == [200] * 20
