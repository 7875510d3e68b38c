"""A virtual IP that real keepaliveds move between two hosts, with all that is rendered for them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import msgspec
import pytest

from hitmesh.config import dump
from tests.services import wait_for
from tests.wan.virtual_ip import PORT, READY_S, VirtualIp
from tests.wan.visits import Retrying, Steady

PAGE = "example.com/page"


@pytest.fixture(scope="module")
def vip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualIp]:
    with VirtualIp(tmp_path_factory.mktemp("vip")) as vip:
        yield vip


@pytest.fixture
def holder(vip: VirtualIp) -> int:
    """The host that has the address while both are well."""
    wait_for(vip.is_settled, within_s=READY_S, what="both hosts to be well")
    return vip.holders()[0]


def other(holder: int) -> int:
    return 3 - holder


def stays(vip: VirtualIp, holder: int) -> None:
    """A host is back, and all is well: the address is where it was."""
    wait_for(vip.is_settled, within_s=READY_S, what="both hosts to be well")
    assert vip.holders() == [holder]


def test_a_killed_balancers_address_moves_and_its_return_moves_nothing(vip: VirtualIp, holder: int) -> None:
    with Retrying(vip.client, vip.address, PORT) as client:
        vip.signal(f"balancer-{holder}", signal.SIGKILL)
        vip.comes_to(other(holder))
        client.is_served()
        failed = client.failed
        vip.start(f"balancer-{holder}")
        stays(vip, other(holder))
        assert client.failed == failed


def test_a_stopped_balancers_address_moves(vip: VirtualIp, holder: int) -> None:
    vip.signal(f"balancer-{holder}", signal.SIGSTOP)
    try:
        vip.comes_to(other(holder))
    finally:
        vip.signal(f"balancer-{holder}", signal.SIGCONT)
    stays(vip, other(holder))


def test_a_host_that_was_cut_off_gives_the_address_up_when_it_is_back(vip: VirtualIp, holder: int) -> None:
    with Retrying(vip.client, vip.address, PORT) as client:
        vip.cut(holder)
        try:
            wait_for(lambda: vip.has_address(other(holder)), what="the other host to have the address")
            client.is_served()
            wait_for(lambda: (vip.told(holder) or 0) < 0, what="the host to find that it is cut off")
        finally:
            vip.heal(holder)
        vip.comes_to(other(holder))
        stays(vip, other(holder))


def test_a_balancer_without_collectors_gives_the_address_up_only_where_another_has_some(
    vip: VirtualIp, holder: int
) -> None:
    with vip.without_collectors(other(holder)):
        wait_for(lambda: (vip.told(other(holder)) or 0) < 0, what="the other host to be worse")
        with vip.without_collectors(holder):
            wait_for(lambda: (vip.told(holder) or 0) < 0, what="both hosts to be as bad")
            assert vip.holders() == [holder]
        wait_for(lambda: (vip.told(holder) or 0) > 0, what="the holder to be well")
        assert vip.holders() == [holder]
    stays(vip, holder)
    with vip.without_collectors(holder):
        vip.comes_to(other(holder))


def test_ending_and_starting_a_balancer_fails_no_request_and_each_is_counted_once(vip: VirtualIp, holder: int) -> None:
    with Steady(vip.client, vip.address, PORT, PAGE) as load:
        load.goes_on()
        assert vip.stop(f"balancer-{holder}") == 0
        vip.comes_to(other(holder))
        load.goes_on()
        vip.start(f"balancer-{holder}")
        stays(vip, other(holder))
        load.goes_on()
    assert load.failed == []
    wait_for(lambda: vip.total(PAGE) == load.answered, what=f"{load.answered} to be counted")


def test_a_balancer_that_gets_more_workers_and_fewer_keeps_the_address_and_fails_no_request(
    vip: VirtualIp, holder: int
) -> None:
    before, page = vip.log(f"vip-{holder}"), f"{PAGE}-workers"
    with Steady(vip.client, vip.address, PORT, page) as load:
        for times, workers in enumerate((4, 2, 3, 1), 1):
            balancer = msgspec.structs.replace(vip.config.balancer, workers=workers)
            vip.file.write_text(dump(msgspec.structs.replace(vip.config, balancer=balancer)))
            vip.signal(f"balancer-{holder}", signal.SIGHUP, group=False)
            wait_for(
                lambda times=times: vip.log(f"balancer-{holder}").count("read again") >= times,  # type: ignore[misc]
                within_s=READY_S, what=f"{workers} workers",
            )  # fmt: skip
            load.goes_on()
    assert load.failed == []
    assert (vip.holders(), vip.log(f"vip-{holder}")) == ([holder], before), "the check has nothing to say"
    wait_for(lambda: vip.total(page) == load.answered, what=f"{load.answered} to be counted")


def test_without_its_check_a_host_has_no_address(vip: VirtualIp, holder: int) -> None:
    vip.signal(f"vip-{holder}", signal.SIGSTOP)
    try:
        vip.comes_to(other(holder))
    finally:
        vip.signal(f"vip-{holder}", signal.SIGCONT)
    stays(vip, other(holder))
