"""Lookups against real Nexuses that are killed, stopped and started."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from hitmesh.errors import MeshError
from hitmesh.mesh.lookup import Line, Lookups
from hitmesh.mesh.network import Network
from hitmesh.protocol.messages import Answer, Lookup, decode, encode, make
from tests.services import PATIENCE_S, START_S, free_port, wait_for
from tests.services.nexus import NexusProcess, peer, wait_for_names

AWAY_S = 0.5  # a try with a Nexus that is known to be away

Impatience = Callable[[NexusProcess], list[str]]


def lookups_of(nexuses: list[NexusProcess]) -> Lookups:
    return Lookups([one.endpoints.lookups for one in nexuses], timeout_s=PATIENCE_S)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Impatience:
    """From then on one Nexus is not waited for long, the others are; and who is asked is listed, by endpoint."""

    def make(away: NexusProcess) -> list[str]:
        asked: list[str] = []
        ask = Line.ask

        def ask_and_list(line: Line, what: str, key: str, timeout_s: float, **options: Any) -> Answer:
            asked.append(line.endpoint)
            is_away = line.endpoint == away.endpoints.lookups
            return ask(line, what, key, AWAY_S if is_away else timeout_s, **options)

        monkeypatch.setattr(Line, "ask", ask_and_list)
        return asked

    return make


def test_a_snapshot_shows_everybody_with_age_pid_and_load(nexuses: list[NexusProcess]) -> None:
    began_s = time.monotonic()
    with peer(nexuses[0].config, "processor-1") as process, lookups_of(nexuses) as lookups:
        wait_for_names(nexuses[0].config, "processor", {"processor-1"})
        shown = {one.instance.name: one for one in lookups.snapshot().seen}
        assert set(shown) == {"nexus-1", "nexus-2", "processor-1"}
        assert shown["processor-1"].instance.pid == process.pid
        assert shown["processor-1"].age_ms <= (time.monotonic() - began_s) * 1000
        assert "hub_lag_s" in shown["processor-1"].instance.load


def test_a_nan_in_a_load_does_not_make_an_instance_unheard(nexuses: list[NexusProcess]) -> None:
    with peer(nexuses[0].config, "processor-1"):  # it reports one
        wait_for_names(nexuses[0].config, "processor", {"processor-1"})
        with lookups_of(nexuses) as lookups:
            assert "queue" not in lookups.service("processor")[0].instance.load


def test_the_owner_of_a_partition_is_the_one_that_claims_it(nexuses: list[NexusProcess]) -> None:
    with peer(nexuses[0].config, "processor-1", owns="3:7"), lookups_of(nexuses) as lookups:
        wait_for_names(nexuses[0].config, "processor", {"processor-1"})
        owner = lookups.owner(3)
        assert owner is not None
        assert (owner.instance.name, owner.instance.owns) == ("processor-1", {3: 7})
        assert lookups.owner(4) is None


def test_an_answer_that_comes_late_is_none_to_the_next_question() -> None:
    network = Network(zmq.Context())
    with zmq.Context() as context, context.socket(zmq.ROUTER) as nexus, contextlib.closing(network):
        line = Line(network, f"tcp://127.0.0.1:{nexus.bind_to_random_port('tcp://127.0.0.1')}")
        while not nexus.poll(int(AWAY_S * 1000)):  # at first it isn't connected
            with pytest.raises(MeshError, match="no answer"):
                line.ask("snapshot", "", AWAY_S)
        *envelope, asked = nexus.recv_multipart()
        number = decode(asked, Lookup).request
        for request, name in ((number, "late"), (number + 1, "right")):
            nexus.send_multipart([*envelope, encode(make(Answer, request, "", name, 1, True, ()))])
        assert line.ask("snapshot", "", PATIENCE_S).nexus == "right"
        line.close()


def test_a_killed_nexus_is_passed_over(nexuses: list[NexusProcess], impatient: Impatience) -> None:
    with lookups_of(nexuses) as lookups:
        assert lookups.snapshot().nexus.startswith("nexus-1")
        nexuses[0].kill()
        impatient(nexuses[0])
        assert lookups.snapshot().nexus.startswith("nexus-2")


def test_a_stopped_nexus_is_passed_over_and_not_asked_first_again(
    nexuses: list[NexusProcess], impatient: Impatience
) -> None:
    stopped, other = (one.endpoints.lookups for one in nexuses)
    asked = impatient(nexuses[0])
    with lookups_of(nexuses) as lookups:
        nexuses[0].signal(signal.SIGSTOP)
        assert lookups.snapshot().nexus.startswith("nexus-2")
        assert lookups.snapshot().nexus.startswith("nexus-2")
    assert asked == [stopped, other, other], "it waited for the stopped one again"


def test_a_nexus_that_has_just_started_is_passed_over_for_one_that_knows_everybody(
    nexuses: list[NexusProcess], impatient: Impatience
) -> None:
    nexuses[0].kill()
    nexuses[0].launch()
    impatient(nexuses[0])

    def knows_everybody() -> bool:
        with lookups_of(nexuses) as lookups:
            answer = lookups.snapshot()
        assert answer.warm
        return answer.nexus.startswith("nexus-1")

    wait_for(knows_everybody, what="it to be believed")


def test_with_no_nexus_the_error_names_those_that_were_tried() -> None:
    tried = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    with Lookups(tried, timeout_s=0.05) as lookups, pytest.raises(MeshError) as caught:
        lookups.snapshot()
    assert all(endpoint in str(caught.value) for endpoint in tried)
    assert caught.value.retryable


def test_with_no_nexus_configured_there_is_an_error_too() -> None:
    with pytest.raises(MeshError):
        Lookups([]).snapshot()


def test_a_wrong_lookup_is_refused_and_not_retried(nexuses: list[NexusProcess]) -> None:
    with lookups_of(nexuses) as lookups, pytest.raises(MeshError, match="not a partition") as caught:
        lookups.owner(-1)
    assert not caught.value.retryable


def test_forget_makes_every_nexus_forget_a_dead_instance(nexuses: list[NexusProcess]) -> None:
    config = nexuses[0].config
    with peer(config, "processor-1") as process, lookups_of(nexuses) as lookups:
        wait_for_names(config, "processor", {"processor-1"})
        with pytest.raises(MeshError, match="alive"):
            lookups.forget("processor-1")
        process.kill()
        wait_for_names(config, "processor", set())
        assert "processor-1" in {one.instance.name for one in lookups.snapshot().seen}
        lookups.forget("processor-1")
    for nexus in nexuses:
        with lookups_of([nexus]) as lookups:
            assert "processor-1" not in {one.instance.name for one in lookups.snapshot().seen}


def test_forget_is_done_when_one_nexus_of_two_is_down(nexuses: list[NexusProcess], impatient: Impatience) -> None:
    config = nexuses[0].config
    with peer(config, "processor-1") as process:
        wait_for_names(config, "processor", {"processor-1"})
        process.kill()
        wait_for_names(config, "processor", set())
    nexuses[0].kill()
    impatient(nexuses[0])
    with lookups_of(nexuses) as lookups:
        lookups.forget("processor-1")
        assert "processor-1" not in {one.instance.name for one in lookups.snapshot().seen}


def test_a_plain_process_does_not_import_gevent_and_a_patched_one_does_not_stop_its_hub(
    nexuses: list[NexusProcess],
) -> None:
    endpoint = nexuses[0].endpoints.lookups
    plain = f"""
import sys
from hitmesh.mesh.lookup import Line, Lookups
assert Lookups([{endpoint!r}], timeout_s={PATIENCE_S}).snapshot().warm
assert "gevent" not in sys.modules
"""
    green = f"""
from gevent import monkey; monkey.patch_all()
import gevent, time
from hitmesh.mesh.lookup import Line, Lookups
ticks = []
def tick():
    while True:
        ticks.append(1); gevent.sleep(0.01)
gevent.spawn(tick)
assert Lookups([{endpoint!r}], timeout_s={PATIENCE_S}).snapshot().warm
before = len(ticks)
try: Lookups(["tcp://127.0.0.1:{free_port()}"], timeout_s=0.2).snapshot()
except Exception: pass
assert len(ticks) > before + 2, len(ticks) - before  # in three tries
"""
    for program in (plain, green):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=START_S, check=False
        )
        assert done.returncode == 0, done.stderr


def test_lookups_that_fail_make_no_more_sockets(nexuses: list[NexusProcess]) -> None:
    nexuses[0].kill()
    with Lookups([nexuses[0].endpoints.lookups], timeout_s=0.02) as lookups:
        for _ in range(20):
            with pytest.raises(MeshError):
                lookups.snapshot()
        assert lookups._network is not None
        assert len(lookups._network.context._sockets) <= 1, "one for each Nexus"
