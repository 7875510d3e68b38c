"""Somebody speaks for partitions that he doesn't own: hits are counted all the same, by those who do."""

from __future__ import annotations

import time

import zmq

from hitmesh.config import nexus_endpoints
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.network import Network, nexus_keys
from hitmesh.mesh.sockets import open_socket
from hitmesh.protocol.messages import MAX_TOTAL, Ack, Applied, encode, make
from hitmesh.protocol.names import with_key
from hitmesh.protocol.pages import partition_of
from tests.hitmesh.mesh.instances import heartbeat, instance
from tests.services import wait_for
from tests.services.keys import key_for
from tests.system.mesh import Mesh


def test_a_heartbeat_that_claims_every_partition_takes_none_away(mesh: Mesh) -> None:
    before = {books.partition: (books.owner, books.epoch) for books in mesh.books()}
    counted = mesh.totals().get("s/claimed", 0)
    keyring = key_for(mesh.config, "processor", "processor-9")
    assert keyring is not None
    nowhere = with_key("tcp://127.0.0.1:9", keyring.key)
    thief = instance(
        "processor-9", "processor-9.0f", dc=mesh.config.name,
        owns=dict.fromkeys(range(mesh.config.partitions), MAX_TOTAL), endpoints={"batches": nowhere, "rows": nowhere},
    )  # fmt: skip
    network = Network(zmq.Context(), keyring)
    voice = open_socket(network, zmq.PUB, heartbeat_s=1.0, receive_bytes=1000)
    for placement in mesh.config.instances("nexus"):
        where = nexus_endpoints(placement).heartbeats
        connect(network, voice, where, nexus_keys(keyring, mesh.config)(where))
    number = hits = 0

    def beat() -> None:
        nonlocal number
        number += 1
        voice.send(encode(heartbeat(thief, number, mesh.config.timing.heartbeat_s)))

    def is_believed() -> bool:
        beat()
        return any(seen.instance.id == thief.id for seen in mesh.living())

    def are_counted() -> bool:
        nonlocal hits
        beat()
        if hits < 20:
            assert mesh.hit("s/claimed").status == 200
            hits += 1
        return hits == 20 and mesh.totals().get("s/claimed", 0) == counted + hits

    wait_for(is_believed, what="the thief to be heard")
    wait_for(are_counted, what="the hits to be counted by the owners")
    after = {books.partition: (books.owner, books.epoch) for books in mesh.books()}
    assert after == before
    network.close()


def test_an_ack_of_another_processor_than_the_owner_loses_no_hit(mesh: Mesh) -> None:
    page = "s/acked"
    assert mesh.hit(page).status == 200
    wait_for(lambda: mesh.totals().get(page) == 1, what="the first hit")
    at = partition_of(page, mesh.config.partitions)
    epoch = next(books.epoch for books in mesh.books() if books.partition == at)
    collector = next(one.instance for one in mesh.living() if one.instance.role == "collector")
    network = Network(zmq.Context(), key_for(mesh.config, "processor", "processor-9"))
    liar = open_socket(network, zmq.PUSH, heartbeat_s=1.0, receive_bytes=1000)
    connect(network, liar, collector.endpoints["acks"])
    mesh.kill("processor-1")
    try:
        assert mesh.hit(page).status == 200
        for mark in range(1, 80):
            liar.send(encode(make(Ack, collector.id, (Applied(at, epoch, 10**6, mark, (), {}),))))
        time.sleep(1.0)  # in which they are taken in
    finally:
        mesh.start("processor-1")
        network.close()
    wait_for(lambda: mesh.totals().get(page) == 2, what="the second hit")
