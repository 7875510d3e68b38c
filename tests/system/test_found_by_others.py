"""A mesh on a real Consul is found in its catalogue and by DNS: who works, and nobody else."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services import PATIENCE_S, require, wait_for
from tests.services.consul import ELECTION_S, ConsulServer, free_agent_ports
from tests.system.mesh import Mesh

SRV, IN = 33, 1  # RFC 2782, RFC 1035


class Catalogue:
    """What a Consul says of services."""

    def __init__(self, server: ConsulServer, dns_port: int) -> None:
        self._server = server
        self._dns_port = dns_port

    def ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.ports.http, timeout=PATIENCE_S)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def states(self, role: str) -> dict[str, str]:
        """The status of each instance of a role, by its name."""
        return {
            entry["Service"]["Meta"]["name"]: next(c["Status"] for c in entry["Checks"] if c["ServiceName"] == role)
            for entry in self.ask(f"/v1/health/service/{role}")
        }

    def ports(self, role: str) -> list[int]:
        """The ports that DNS answers a query for ROLE.service.consul with."""
        name = b"".join(bytes([len(label)]) + label.encode() for label in (role, "service", "consul", ""))
        query = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", SRV, IN)
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENCE_S)
            asking.sendto(query, ("127.0.0.1", self._dns_port))
            answer = asking.recv(65_535)
        count, at = struct.unpack("!H", answer[6:8])[0], len(query)
        found = []
        for _ in range(count):
            while answer[at] and answer[at] < 0xC0:
                at += 1 + answer[at]
            at += 1 if not answer[at] else 2
            kind, _, _, length = struct.unpack("!2HIH", answer[at : at + 10])
            if kind == SRV:
                found.append(struct.unpack("!H", answer[at + 14 : at + 16])[0])
            at += 10 + length
        return sorted(found)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mesh, Catalogue]]:
    require("consul")
    folder = tmp_path_factory.mktemp("found")
    ports = free_agent_ports()
    dns_port = free_agent_ports(beside=[ports]).http
    server = ConsulServer(folder / "consul", ports=ports, dns=dns_port)
    try:
        server.start()
        wait_for(server.has_leader, within_s=ELECTION_S, what="Consul's leader")
        with Mesh(folder / "mesh", totals=server.url("pages"), processors=1, collectors=2) as mesh:
            mesh.start("balancer-1")
            yield mesh, Catalogue(server, dns_port)
    finally:
        server.stop()


def port_of(mesh: Mesh, name: str, kind: str) -> int:
    [one] = [seen.instance for seen in mesh.living() if seen.instance.name == name]
    return int(one.endpoints[kind].partition("://")[2].partition("/")[0].rpartition(":")[2])


def test_every_role_is_in_the_catalogue_and_answered_by_dns(found: tuple[Mesh, Catalogue]) -> None:
    mesh, catalogue = found
    names = {
        "collector": {"collector-1": "http", "collector-2": "http"},
        "processor": {"processor-1": "batches"},
        "nexus": {"nexus-1": "heartbeats"},
        "balancer": {"balancer-1": "http"},
    }
    for role, wanted in names.items():
        wait_for(lambda role=role, wanted=wanted: catalogue.states(role) == dict.fromkeys(wanted, "passing"), what=role)  # type: ignore[misc]
        assert catalogue.ports(role) == sorted(port_of(mesh, name, kind) for name, kind in wanted.items())
        tags = catalogue.ask("/v1/catalog/services")[role]
        assert mesh.config.name in tags


def test_who_drains_leaves_and_who_dies_is_answered_no_more(found: tuple[Mesh, Catalogue]) -> None:
    mesh, catalogue = found
    wait_for(lambda: len(catalogue.states("collector")) == 2, what="both collectors")
    mesh.terminate("collector-2")
    # Long before a minute has passed, after which the agent would take it out by itself.
    wait_for(lambda: set(catalogue.states("collector")) == {"collector-1"}, within_s=40, what="its end to be known")
    assert catalogue.ports("collector") == [port_of(mesh, "collector-1", "http")]
    wait_for(lambda: catalogue.states("processor") == {"processor-1": "passing"}, what="the processor")
    mesh.kill("processor-1")
    wait_for(lambda: catalogue.states("processor") == {"processor-1": "critical"}, within_s=60, what="its silence")
    assert catalogue.ports("processor") == []
