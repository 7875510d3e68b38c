"""The waiting for a change to be in force: who is asked, who is counted, and what is said of the others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import zmq
from msgspec.structs import replace

from hitmesh.cli import in_force
from hitmesh.cli.in_force import Wait
from hitmesh.config import Config, Node, Ports
from hitmesh.mesh.lookup import Line
from hitmesh.protocol.messages import Answer, Instance, Lookup, Seen, decode, encode, make
from hitmesh.settings import live
from tests.services import PATIENCE_S
from tests.services.nexus import free_ports

VERSION = 7
AWAY_S = 0.2  # a try with a Nexus that isn't there


def seen(
    name: str,
    version: float | None = VERSION,
    *,
    dc: str = "eu-west",
    alive: bool = True,
    state: str = "up",
    at: str = "",
) -> Seen:
    load = {} if version is None else {"settings": version}
    endpoints = {"lookups": at} if at else {}
    role = name.partition("-")[0]
    return Seen(Instance(dc, role, name, f"{name}.{dc}", state, 1, 1, endpoints, load, {}), 1, 0, alive)


class Nexus:
    """Answers every snapshot with what `shown` has at the time."""

    running: ClassVar[list[Nexus]] = []

    def __init__(self, port: int) -> None:
        self.port = port
        self.shown: tuple[Seen, ...] = ()
        self.warm = True
        self.asked = 0
        self.meanwhile: Callable[[int], None] = lambda number: None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(f"tcp://127.0.0.1:{port}")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.running.append(self)

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def _run(self) -> None:
        while not self._stopped.is_set():
            if not self._socket.poll(20):
                continue
            identity, data = self._socket.recv_multipart()
            request = decode(data, Lookup)
            self.asked += 1
            self.meanwhile(self.asked)
            answer = make(Answer, request.request, "", "nexus", 1, self.warm, self.shown)
            self._socket.send_multipart([identity, encode(answer)])

    def stop(self) -> None:
        self.running.remove(self)
        self._stopped.set()
        self._thread.join()
        self._socket.close(linger=0)
        self._context.term()


def config(name: str, first_port: int) -> Config:
    node = Node(address="127.0.0.1", nexus=1, processor=1, collector=1)
    return Config(name=name, nodes={"local": node}, ports=Ports(nexus=first_port))


@pytest.fixture
def ports() -> list[int]:
    return [free_ports(3) for _ in range(2)]


@pytest.fixture
def here(ports: list[int]) -> Iterator[Nexus]:
    made = Nexus(ports[0] + 2)  # lookups
    yield made
    made.stop()


@pytest.fixture
def there(ports: list[int]) -> Iterator[Nexus]:
    made = Nexus(ports[1] + 2)
    yield made
    made.stop()


@pytest.fixture
def configs(ports: list[int]) -> list[Config]:
    return [config("eu-west", ports[0]), config("us-west", ports[1])]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is there is waited for: a busy machine makes none of them look as if it were away."""

    def ask(line: Line, what: str, key: str, timeout_s: float, **options: Any) -> Answer:
        is_there = any(each.endpoint == line.endpoint for each in Nexus.running)
        answer: Answer = real(line, what, key, PATIENCE_S if is_there else AWAY_S, **options)
        return answer

    real = Line.ask
    monkeypatch.setattr(Line, "ask", ask)


def waited(configs: list[Config], **options: frozenset[str]) -> Wait:
    wait = Wait(configs, VERSION, **options)
    wait.run(2 * PATIENCE_S)
    return wait


def waited_in_vain(monkeypatch: pytest.MonkeyPatch, configs: list[Config], *asked: Nexus) -> Wait:
    """Until the time is over, which it is as soon as all these have been asked."""
    began_s = time.monotonic()
    now_s = itertools.chain([began_s], iter(lambda: inf if all(one.asked for one in asked) else time.monotonic(), None))
    monkeypatch.setattr(in_force, "time", SimpleNamespace(monotonic=lambda: next(now_s), sleep=time.sleep))
    return waited(configs)


def test_everybody_who_has_it_or_something_later_is_counted(configs: list[Config], here: Nexus, there: Nexus) -> None:
    here.shown = (seen("nexus-1"), seen("collector-1", VERSION + 1))
    there.shown = (seen("nexus-1", dc="us-west"),)
    wait = waited(configs)
    assert wait.result(0.44) == "in force in 3 of 3 instances of 2 datacenters after 0.4 s"
    assert (wait.lacking, list(wait.warnings())) == ([], [])


def test_those_of_elsewhere_the_dead_and_the_leaving_are_not_counted(configs: list[Config], here: Nexus) -> None:
    here.shown = (
        seen("nexus-1"),
        seen("collector-1", 1, state="draining"),
        seen("processor-1", 1, alive=False),
        seen("processor-2", 1, dc="elsewhere"),
    )
    assert waited(configs[:1]).result(0.0) == "in force in 1 of 1 instances of 1 datacenter after 0.0 s"


def test_it_waits_until_the_last_one_has_it(configs: list[Config], here: Nexus) -> None:
    def follow(number: int) -> None:
        here.shown = (seen("nexus-1"), seen("collector-1", VERSION if number > 3 else VERSION - 1))

    here.meanwhile = follow
    wait = waited(configs[:1])
    assert (wait.lacking, here.asked) == ([], 4)


@pytest.mark.parametrize("version", [VERSION - 1, None], ids=["an earlier version", "none"])
def test_who_lacks_it_when_the_time_is_over_is_named(
    configs: list[Config], here: Nexus, there: Nexus, version: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.shown = (seen("nexus-1"), seen("collector-1", version))
    there.shown = (seen("nexus-1", dc="us-west"),)
    wait = waited_in_vain(monkeypatch, configs, here, there)
    assert wait.lacking == ["eu-west collector-1"]
    assert wait.result(5.0) == (
        "it is set, and in force in 2 of 3 instances of 2 datacenters after 5.0 s; not yet in eu-west collector-1"
    )


def test_many_who_lack_it_are_named_in_part(
    configs: list[Config], here: Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.shown = tuple(seen(f"collector-{number}", 1) for number in range(10, 30))
    assert waited_in_vain(monkeypatch, configs[:1], here).result(5.0).endswith("eu-west collector-17 and 12 more")


def test_a_datacenter_that_does_not_answer_holds_up_nobody_and_is_told(configs: list[Config], here: Nexus) -> None:
    here.shown = (seen("nexus-1"),)
    wait = waited(configs)
    assert wait.lacking == []
    assert list(wait.warnings()) == ["no Nexus of us-west answers; it follows as soon as it is back"]


def test_a_datacenter_in_which_a_setting_does_not_apply_is_told(configs: list[Config], here: Nexus) -> None:
    one = seen("collector-1")
    here.shown = (
        seen("nexus-1"),
        replace(one, instance=replace(one.instance, load={"settings": 9, "settings_refused": 2})),
    )
    assert list(waited(configs[:1]).warnings()) == [
        "2 live settings don't apply in eu-west; `hitmesh config list` says why there"
    ]


def test_the_loads_are_what_the_roles_tell() -> None:
    assert (in_force.LOAD, in_force.LOAD_REFUSED) == (live.LOAD, live.LOAD_REFUSED)


def test_nobody_at_all_is_a_mesh_that_does_not_run(configs: list[Config]) -> None:
    wait = waited(configs)
    assert wait.result(2.0) == "it is set, and no mesh is running: in force when it starts"
    assert (wait.lacking, list(wait.warnings())) == ([], [])


def test_a_nexus_that_has_just_started_is_not_believed(configs: list[Config], here: Nexus) -> None:
    here.shown, here.warm = (seen("nexus-1"),), False

    def warm(number: int) -> None:
        if number > 4:
            here.shown, here.warm = (seen("nexus-1"), seen("collector-1")), True

    here.meanwhile = warm
    assert "2 of 2 instances" in waited(configs[:1]).result(0.0)


def test_datacenters_that_a_nexus_knows_are_asked_too(
    configs: list[Config], here: Nexus, there: Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.shown = (seen("nexus-1"), seen("nexus-1", dc="us-west", at=there.endpoint))
    there.shown = (seen("nexus-1", dc="us-west"), seen("balancer-1", 1, dc="us-west"))
    wait = waited_in_vain(monkeypatch, configs[:1], there)
    assert wait.lacking == ["us-west balancer-1"]


def test_a_retired_datacenter_is_not_waited_for(configs: list[Config], here: Nexus) -> None:
    here.shown = (seen("nexus-1"), seen("nexus-1", 1, dc="us-west", alive=False, at="tcp://127.0.0.1:1"))
    wait = waited(configs, retired=frozenset({"us-west"}))
    assert list(wait.warnings()) == []
    assert "1 of 1 instances of 1 datacenter" in wait.result(0.0)
