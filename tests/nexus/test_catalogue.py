"""Nexuses that find each other by Consul's catalogue: real servers, joined over WAN."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hitmesh.store import consul_host
from hitmesh.store.consul_host import Host
from nexus import catalogue
from nexus.catalogue import ConsulCatalogue
from nexus.entries import SERVICE
from nexus.federation import Catalogue
from tests.nexus.datacenters import Datacenter, wait_until_all_know_all
from tests.services import PATIENCE_S, START_S, require, wait_for
from tests.services.consul import ConsulServer, free_agent_ports
from tests.services.faulty_proxy import Fault, FaultyProxy, Request


class Pair:
    """Two Consul datacenters of one server each, which are to join; only the first is started."""

    def __init__(self, folder: Path) -> None:
        require("consul")
        first = free_agent_ports()
        second = free_agent_ports(beside=[first])
        self.first = ConsulServer(folder / "a", datacenter="dc-a", ports=first, join_wan=[second.serf_wan])
        self.second = ConsulServer(folder / "b", datacenter="dc-b", ports=second, join_wan=[first.serf_wan])
        self.start(self.first)

    def start(self, server: ConsulServer) -> None:
        server.start()
        wait_for(server.has_leader, within_s=START_S, what="Consul's leader")

    def stop(self) -> None:
        self.first.stop()
        self.second.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    one = Pair(tmp_path / "consul")
    yield one
    one.stop()


def entries(server: ConsulServer) -> set[str]:
    """The ids of the entries in a server's own datacenter."""
    return {entry["ServiceID"] for entry in ask(server, f"/v1/catalog/service/{SERVICE}")}


def ask(server: ConsulServer, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.http, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_datacenters_find_each_other_with_nothing_listed(pair: Pair, tmp_path: Path) -> None:
    eu = Datacenter(tmp_path, "eu", totals=pair.first.url("hitmesh"))
    us = Datacenter(tmp_path, "us", totals=pair.second.url("hitmesh"))
    try:
        eu.launch()
        # Its agent is to join others and sees nobody: that there is nobody isn't known.
        for nexus in eu.nexuses:
            wait_for(nexus.load, within_s=START_S, what="it to answer")
            wait_for(lambda: len(entries(pair.first)) == 2, within_s=START_S, what="both to be registered")
            wait_for(lambda nexus=nexus: nexus.load().get("peers_unheard") == 1, what="somebody to be missed")  # type: ignore[misc]
        pair.start(pair.second)
        us.launch()
        wait_until_all_know_all(eu, us)
        for nexus in (*eu.nexuses, *us.nexuses):
            wait_for(lambda nexus=nexus: nexus.load().get("peers_unheard") == 0, what="nobody to be missed")  # type: ignore[misc]
        for nexus in eu.nexuses:
            wait_for(lambda nexus=nexus: "catalogue names eu, us" in nexus.log(), what="them to be in the catalogue")  # type: ignore[misc]

        pair.second.kill()
        wait_for(lambda: eu.hears(us), what="them to be known still: Consul's death is no news of a Nexus")
        for each in us.nexuses:
            each.kill()
        wait_for(lambda: not eu.hears(us), what="the others' death to be noticed")
        for nexus in eu.nexuses:
            wait_for(lambda nexus=nexus: nexus.load().get("peers_unheard") == 1, what="them to be missed")  # type: ignore[misc]

        eu.nexuses[0].stop()
        if "it stays registered" not in eu.nexuses[0].log():  # Consul took longer than a Nexus waits at its end
            wait_for(
                lambda: entries(pair.first) == {f"{SERVICE}-eu-nexus-2"}, what="the one that stopped to be gone"
            )  # fmt: skip
        assert "Traceback" not in eu.nexuses[0].log() + eu.nexuses[1].log()
    finally:
        eu.stop()
        us.stop()


class Reader:
    """A catalogue that is read through a proxy which can fail."""

    def __init__(self, server: ConsulServer) -> None:
        self.proxy = FaultyProxy(server.ports.http)
        self.found: list[Catalogue] = []
        self.catalogue = ConsulCatalogue(
            [Host("127.0.0.1", self.proxy.port)],
            dc="eu",
            name="nexus-1",
            endpoint="tcp://127.0.0.1:8020",
            partitions=32,
            prefix="hitmesh",
            on_found=self.found.append,
        )

    def poll(self) -> Catalogue:
        """One round of questions, as `run` asks them again and again."""
        self.catalogue.poll()
        return self.found[-1]


def of(part: str) -> Callable[[Request], bool]:
    return lambda request: part in request.path


@pytest.fixture
def reader(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.setattr(consul_host, "CONNECT_TIMEOUT_S", PATIENCE_S)
    for name in ("ANSWER_S", "FAREWELL_S"):
        monkeypatch.setattr(catalogue, name, PATIENCE_S)  # none of these tests is about a slow server
    one = Reader(pair.first)
    yield one
    one.proxy.close()


def put_entry(server: ConsulServer, dc: str, port: int) -> None:
    body = {"ID": f"{dc}-{port}", "Name": SERVICE, "Address": "127.0.0.1", "Port": port}
    body["Meta"] = {"dc": dc, "partitions": "32", "prefix": "hitmesh"}
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.http, timeout=PATIENCE_S)
    connection.request("PUT", "/v1/agent/service/register", json.dumps(body))
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(status=500), id="an error"),
        pytest.param(Fault(status=500, body=b"[]"), id="an error that looks like an answer"),
        pytest.param(Fault(status=403, body=b"Permission denied"), id="a refusal"),
        pytest.param(Fault(status=404, body=b"404 page not found"), id="a wrong page"),
        pytest.param(Fault(status=200, body=b"[]x"), id="junk"),
        pytest.param(Fault(status=200, body=b'{"datacenters": 1}'), id="another shape"),
        pytest.param(Fault(cut=True), id="a cut connection"),
    ],
)
def test_no_kind_of_error_takes_anybody_away(pair: Pair, reader: Reader, fault: Fault) -> None:
    put_entry(pair.first, "us", 9020)
    before = wait_for(lambda: "us" in (found := reader.poll()).peers and found, what="the entry to be found")
    reader.proxy.inject(fault)
    assert reader.poll() == before
    reader.proxy.heal()
    put_entry(pair.first, "us", 9023)
    wait_for(lambda: len(reader.poll().peers["us"]) == 2, what="the next entry to be found")


def test_before_the_first_answer_somebody_may_be_missing(reader: Reader) -> None:
    reader.proxy.inject(Fault(status=500))
    assert reader.poll().blind


def test_a_datacenter_that_has_never_answered_is_not_taken_for_empty(pair: Pair, reader: Reader) -> None:
    pair.start(pair.second)
    put_entry(pair.second, "us", 9020)
    reader.proxy.inject(Fault(status=500, when=of("dc=dc-b")))
    wait_for(lambda: reader.poll().unanswered == {"dc-b"}, within_s=START_S, what="the other datacenter to be listed")
    reader.proxy.heal()
    wait_for(lambda: reader.poll().peers.get("us") == ["tcp://127.0.0.1:9020"], what="its entry to be found")
    assert reader.poll().unanswered == set()
    assert not reader.poll().blind
    pair.second.kill()
    assert reader.poll().peers.get("us") == ["tcp://127.0.0.1:9020"]


def test_an_entry_that_is_gone_is_registered_again_and_one_that_stops_deregisters(pair: Pair, reader: Reader) -> None:
    mine = f"{SERVICE}-eu-nexus-1"
    reader.poll()
    wait_for(lambda: mine in entries(pair.first), what="it to be registered")
    registrations = sum("service/register" in request.path for request in reader.proxy.requests)
    reader.poll()
    assert sum("service/register" in request.path for request in reader.proxy.requests) == registrations
    connection = http.client.HTTPConnection("127.0.0.1", pair.first.ports.http, timeout=PATIENCE_S)
    connection.request("PUT", f"/v1/agent/service/deregister/{mine}")
    assert connection.getresponse().status == 200
    connection.close()
    wait_for(lambda: mine not in entries(pair.first), what="it to be gone")
    reader.poll()
    wait_for(lambda: mine in entries(pair.first), what="it to be registered again")
    reader.catalogue.stop()
    wait_for(lambda: mine not in entries(pair.first), what="it to be deregistered")
    reader.poll()
    assert mine not in entries(pair.first), "it came back after its end"
