"""One number over networks as they are: a datacenter of IPv4 that others reach by IPv6, one of IPv6 only, and one
behind a router that translates and forwards; a firewall before each lets in what docs/operations.md lists.
"""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.services import require, wait_for
from tests.system.visitors import at_work
from tests.wan.agreement import wait_for_agreement
from tests.wan.bed import Bed
from tests.wan.clients import Guest
from tests.wan.datacenter import LET_IN
from tests.wan.mesh import NETWORKS, Mesh
from tests.wan.settings import time_in_force
from tests.wan.test_three_datacenters import AGREED_S, LOCK, PATIENCE_S, SETTINGS

HOSTS = {"eu-west": 2, "us-west": 2, "ap-south": 3}  # the last of each is for clients: two are behind the router


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    require("nft")
    folder = tmp_path_factory.mktemp("networks")
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            Bed(HOSTS, delay_ms=20, loss=0, networks=NETWORKS, let_in=LET_IN) as bed,
            Mesh(bed, folder, stores="sqlite", settings=SETTINGS) as mesh,
        ):
            yield mesh


def test_all_say_one_number(mesh: Mesh) -> None:
    guests = [Guest(dc, [f"networks/{number}" for number in range(20)]) for dc in mesh]
    with at_work(*guests):
        wait_for(
            lambda: all(guest.accepted.total() >= 40 for guest in guests), within_s=PATIENCE_S, what="hits everywhere"
        )
    assert [guest.troubles for guest in guests] == [0] * len(guests)
    wait_for_agreement(mesh, "networks", sum((guest.accepted for guest in guests), Counter()), within_s=AGREED_S)
    for dc in mesh:
        for page, entry in dc.totals("networks").items():
            parts = {guest.dc.name: guest.accepted[page] for guest in guests}
            assert {name: part["count"] for name, part in entry["dcs"].items()} == parts


def test_a_setting_reaches_all(mesh: Mesh) -> None:
    for number, dc in enumerate(mesh):
        time_in_force(mesh, dc.name, "timing.resend_s", f"1.{number + 1}", within_s=PATIENCE_S)


def test_nobody_is_told_an_address_that_leads_nowhere_from_there(mesh: Mesh) -> None:
    outside = {"eu-west": "tcp://[fd00:1::", "us-west": "tcp://[fd00:2::", "ap-south": "tcp://[fd00:3::1]:8"}
    for dc in mesh:
        for (name, _), instance in dc.living().items():
            told = instance.endpoints.values()
            if name == dc.name:
                inside = dc.hosts[0].address.rpartition("1")[0]
                assert all(inside in endpoint for endpoint in told), instance
            else:
                assert told
                assert all(endpoint.startswith(outside[name]) for endpoint in told), instance
