"""A mesh that runs without keys gets them, one instance after the other, while hits go on; then somebody steals one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
import zmq

from hitmesh.books.reading import refused
from hitmesh.config import dump, nexus_endpoints
from hitmesh.errors import MeshError
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.lookup import Lookups
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import Addressed, Batch, Part, encode, make
from hitmesh.protocol.names import split_key, with_key
from hitmesh.protocol.pages import partition_of
from tests.services import wait_for
from tests.services.keys import key_for, with_keys
from tests.system.mesh import Mesh

ROUNDS: list[Mapping[str, Any]] = [{"insecure": True}, {"insecure": False, "insecure_until": "2999-01-01"}]
HITS = 8  # between two restarts
SOON_S = 60.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh without keys, in which the first test leaves some."""
    with Mesh(tmp_path_factory.mktemp("keys"), keys=False, timing={"retry_delay_s": 30.0}) as mesh:
        yield mesh


def give_keys(mesh: Mesh, page: str = "") -> int:
    """Give the mesh its keys round by round; how many hits the page has got meanwhile."""
    hits = 0
    for settings in ROUNDS:
        mesh.config = msgspec.structs.replace(with_keys(mesh.config, mesh.folder / "keys"), **settings)
        mesh.file.write_text(dump(mesh.config))
        for name in mesh.names:
            mesh.terminate(name)
            mesh.start(name)
            if page:
                hit(mesh, page, HITS)
                hits += HITS
                wait_for_total(mesh, page, hits)
    return hits


def hit(mesh: Mesh, page: str, times: int) -> None:
    for _ in range(times):
        assert mesh.hit(page).status == 200


def wait_for_total(mesh: Mesh, page: str, total: int) -> None:
    wait_for(lambda: mesh.totals().get(page) == total, within_s=SOON_S, what=f"{total} hits of {page}")


def answers(lookups: Lookups) -> bool:
    try:
        lookups.snapshot()
    except MeshError:
        return False
    return True


def test_a_mesh_gets_its_keys_round_by_round_and_no_hit_is_lost(mesh: Mesh) -> None:
    assert give_keys(mesh, "keys/page") == HITS * len(ROUNDS) * len(mesh.names)
    told = [where for one in mesh.living() for where in one.instance.endpoints.values() if where.startswith("tcp")]
    assert len(told) == 3 + 2 + 1
    assert all(split_key(where)[1] for where in told)
    nexus = nexus_endpoints(mesh.config.instances("nexus")[0])
    with Lookups([nexus.lookups], timeout_s=0.5) as without:
        assert not answers(without), "somebody without a key is heard"


def test_whoever_steals_a_collector_s_key_uses_up_no_numbers_of_another_one_that_lives(mesh: Mesh) -> None:
    if not mesh.config.keys:
        give_keys(mesh)
    page = "stolen/page"
    hit(mesh, page, 1)
    wait_for_total(mesh, page, 1)
    living = {one.instance.role: one.instance for one in mesh.living()}
    owner, worker = living["processor"], living["collector"].id
    number, stolen = partition_of(page, mesh.config.partitions), key_for(mesh.config, "collector", "collector-9")
    assert stolen is not None
    parts = tuple(Addressed(owner.owns[number], Part(number, seq, 1, {page: 1})) for seq in range(1, 100))
    network = Network(zmq.Context(), stolen)
    with contextlib.closing(network):
        socket = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=10_000)
        connect(network, socket, owner.endpoints["batches"])
        socket.send(encode(make(Batch, worker, with_key("tcp://127.0.0.1:9", stolen.key), parts)))
        wait_for(
            lambda: refused(mesh.living()).get("processor-1"), within_s=SOON_S, what="what was sent, to be refused"
        )
    hit(mesh, page, HITS)
    wait_for_total(mesh, page, 1 + HITS)
    said = "part 99 of partition {}: dc-test/collector/collector-9 sends it, and its worker lives and gets its acks"
    wait_for(lambda: said.format(number) in mesh.log("processor-1"), within_s=SOON_S, what="who it was, in the log")
