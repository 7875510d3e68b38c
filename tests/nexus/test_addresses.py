"""Real Nexuses of two datacenters, one of which others reach at another address than its own instances do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from hitmesh.protocol.messages import Instance
from hitmesh.settings.open import open_settings
from tests.nexus.datacenters import Datacenter, everybody, wait_until_all_know_all
from tests.services import require_ipv6, wait_for
from tests.services.nexus import NexusProcess

ROWS = "tcp://127.0.0.1:9"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Datacenter]]:
    """us, which is known to others by IPv6 alone, and eu, which is known by IPv4 as ever."""
    require_ipv6()
    folder = tmp_path_factory.mktemp("datacenters")
    us = Datacenter(folder, "us", node={"wan_address": "::1"})
    eu = Datacenter(folder, "eu", {"us": [us.address.replace("127.0.0.1", "[::1]")]})
    with contextlib.ExitStack() as stack:
        for each in (us, eu):
            stack.callback(each.stop)
            each.processors.own("processor-1", 0, endpoints={"rows": ROWS})
            each.launch()
        wait_until_all_know_all(us, eu)
        yield [us, eu]


def of(dc: Datacenter, nexus: NexusProcess) -> list[Instance]:
    return [one.instance for one in everybody(nexus) if one.instance.dc == dc.name]


def test_others_are_told_the_address_outside_and_those_inside_the_other_one(mesh: list[Datacenter]) -> None:
    us, eu = mesh
    for nexus in eu.nexuses:
        for one in of(us, nexus):
            reached = {"rows"} if one.role == "processor" else {"heartbeats", "lookups"}
            assert set(one.endpoints) == reached
            assert all(endpoint.startswith("tcp://[::1]:") for endpoint in one.endpoints.values()), one
    for nexus in us.nexuses:
        for one in of(us, nexus):
            assert all(endpoint.startswith("tcp://127.0.0.1:") for endpoint in one.endpoints.values()), one
        assert {one.endpoints["rows"] for one in of(eu, nexus) if one.role == "processor"} == {ROWS}


def test_settings_go_both_ways_between_ipv4_and_ipv6(mesh: list[Datacenter]) -> None:
    stores = [open_settings(each.config.stores.settings, each.state_dir / each.name) for each in mesh]
    with contextlib.ExitStack() as stack:
        for store in stores:
            stack.callback(store.close)
        for (store, other), value in zip((stores, stores[::-1]), (b"0.3", b"0.4"), strict=True):
            store.set("timing.commit_s", value, author="anna")
            wait_for(
                lambda other=other, value=value: (  # type: ignore[misc]
                    (found := other.get("timing.commit_s")) is not None and found.value == value
                ),
                what="it to be there",
            )
