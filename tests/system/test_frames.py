"""A few hundred forged frames to real processes' sockets, on the bare wire; `bench/run frames` sends a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
import zmq

from bench.frames import HONEST, Forger, living_of, send, targets
from hitmesh.books.reading import refused
from hitmesh.protocol.messages import Close, LaneEnd, Redirect, encode, make
from hitmesh.protocol.pages import partition_of
from tests.services import wait_for
from tests.system.mesh import Mesh

FRAMES = 600
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A Nexus, a processor and a collector whose lanes are past their first numbers."""
    with Mesh(tmp_path_factory.mktemp("mesh"), keys=False) as mesh:
        yield mesh


def hit_all(mesh: Mesh, times: int) -> None:
    for _ in range(times):
        for page in HONEST[:16]:
            assert mesh.hit(page).status == 200


def is_counted(mesh: Mesh, times: int) -> bool:
    totals = mesh.totals()
    return all(totals.get(page) == times for page in HONEST[:16])


def push(endpoint: str, frame: bytes) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        socket.setsockopt(zmq.LINGER, int(WITHIN_S * 1000))
        socket.send(frame)


def endpoint_of(mesh: Mesh, role: str, name: str) -> str:
    return next(one.instance.endpoints[name] for one in mesh.living() if one.instance.role == role)


def id_of(mesh: Mesh, role: str) -> str:
    return next(one.instance.id for one in mesh.living() if one.instance.role == role)


def test_forged_frames_end_no_process_and_every_answered_hit_counts_once(mesh: Mesh) -> None:
    hit_all(mesh, 6)
    seen, pids = mesh.living(), {name: mesh.pid(name) for name in mesh.names}
    random = Random(7)
    for _ in range(3):
        send(
            targets(seen, ("processor", "collector")), Forger(random, living_of(seen, mesh.config)), random, FRAMES // 3
        )
        hit_all(mesh, 1)
    wait_for(lambda: is_counted(mesh, 9), within_s=WITHIN_S, what="every answered hit, once")
    assert {name: mesh.pid(name) for name in mesh.names} == pids
    wait_for(
        lambda: refused(mesh.living()).keys() >= {"processor-1", "collector-1"}, within_s=WITHIN_S, what="who refused"
    )
    assert "refused" in mesh.log("processor-1")
    assert "bad message" in mesh.log("collector-1")


def test_a_lane_isn_t_closed_in_the_name_of_a_worker_that_goes_on(mesh: Mesh) -> None:
    page = "closed/page"
    at = partition_of(page, mesh.config.partitions)
    mesh.hit(page)
    wait_for(lambda: mesh.totals().get(page) == 1, within_s=WITHIN_S, what="the first hit")
    worker = id_of(mesh, "collector")
    epoch = next(one.instance.owns[at] for one in mesh.living() if one.instance.role == "processor")
    before = refused(mesh.living())["processor-1"]
    ends = tuple(LaneEnd(at, epoch, last) for last in range(50))
    push(endpoint_of(mesh, "processor", "batches"), encode(make(Close, worker, ends)))
    wait_for(lambda: refused(mesh.living())["processor-1"] > before, within_s=WITHIN_S, what="the refusal")
    mesh.hit(page)
    wait_for(lambda: mesh.totals().get(page) == 2, within_s=WITHIN_S, what="the second hit")


@pytest.mark.parametrize("ahead", [1, 2**62])
def test_a_redirect_that_lies_holds_hits_up_for_a_heartbeat_at_most(mesh: Mesh, ahead: int) -> None:
    page = f"redirected/{ahead}"
    at = partition_of(page, mesh.config.partitions)
    owner = id_of(mesh, "processor")
    epoch = next(one.instance.owns[at] for one in mesh.living() if one.instance.role == "processor")
    push(endpoint_of(mesh, "collector", "acks"), encode(make(Redirect, owner, {at: epoch + ahead})))
    mesh.hit(page)
    wait_for(lambda: mesh.totals().get(page) == 1, within_s=WITHIN_S, what="the hit")
