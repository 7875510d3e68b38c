"""The servers that we start ourselves."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from hitmesh.store.consul_agent import HOST
from tests.services import PATIENCE_S, START_S, wait_for
from tests.services.consul import ConsulServer, free_agent_ports


def get(server: ConsulServer, path: str) -> Any:
    """The JSON that a server answers."""
    with urllib.request.urlopen(f"http://{HOST}:{server.ports.http}{path}", timeout=PATIENCE_S) as answer:
        return json.loads(answer.read())


def test_servers_of_two_datacenters_find_each_other(tmp_path: Path) -> None:
    eu_ports = free_agent_ports()
    us_ports = free_agent_ports(beside=[eu_ports])
    eu = ConsulServer(tmp_path / "eu", datacenter="eu-west", ports=eu_ports, join_wan=[us_ports.serf_wan])
    us = ConsulServer(tmp_path / "us", datacenter="us-west", ports=us_ports, join_wan=[eu_ports.serf_wan])
    try:
        eu.start()
        us.start()

        def see_each_other() -> bool:
            servers = (eu, us)
            if not all(server.has_leader() for server in servers):
                return False
            return all(sorted(get(each, "/v1/catalog/datacenters")) == ["eu-west", "us-west"] for each in servers)

        def reach_each_other() -> object:
            try:
                return get(eu, "/v1/status/leader?dc=us-west")
            except urllib.error.HTTPError:
                return None

        wait_for(see_each_other, within_s=START_S, what="both datacenters in both catalogs")
        leader = wait_for(reach_each_other, what="an answer of the other datacenter")
        assert leader == f"{HOST}:{us_ports.server}"
    finally:
        eu.stop()
        us.stop()


def test_a_server_that_is_stopped_or_killed_keeps_its_keys(tmp_path: Path) -> None:
    server = ConsulServer(tmp_path)
    server.start()
    try:
        wait_for(server.has_leader, within_s=START_S, what="a leader")
        url = f"http://{HOST}:{server.ports.http}/v1/kv/key"
        urllib.request.urlopen(urllib.request.Request(url, b"value", method="PUT"), timeout=PATIENCE_S).close()
        for end in (server.stop, server.kill):
            end()
            server.start()
            wait_for(server.has_leader, within_s=START_S, what="a leader")
            with urllib.request.urlopen(f"{url}?raw&consistent", timeout=PATIENCE_S) as answer:
                assert answer.read() == b"value"
    finally:
        server.stop()
