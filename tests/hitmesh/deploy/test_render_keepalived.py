from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from balancer.vip import judging
from balancer.vip.__main__ import main as check_command
from hitmesh import config as settings
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.host import rules
from hitmesh.deploy.render import keepalived
from hitmesh.errors import CommandError, ConfigError

US_WEST = settings.load(Path(__file__).parents[3] / "config" / "us-west.toml")


def fleet(addresses: list[str], **vip: Any) -> Fleet:
    """A datacenter whose hosts have these addresses, and a balancer each."""
    nodes = {
        f"app-{number}": {"address": address, "nexus": 1, "processor": 1, "collector": 1, "balancer": 2}
        for number, address in enumerate(addresses, start=1)
    }
    data = {"name": "dc", "insecure": True, "ports": {"balancer_admin": 0}, "nodes": nodes, "virtual_ip": vip}
    return Fleet.of(settings.parse(data, source="test"))


def rendered(fleet: Fleet) -> list[dict[str, str]]:
    """By host, the files' texts by their last names."""
    return [{Path(file.path).name: file.text for file in keepalived.files(fleet, host)} for host in fleet.hosts]


def confs(fleet: Fleet) -> list[str]:
    return [files["keepalived.conf"] for files in rendered(fleet)]


def test_each_balancers_host_has_it_with_the_others_as_peers_and_priorities_in_order() -> None:
    hosts = confs(fleet(["10.0.0.1", "10.0.0.2", "10.0.0.3"], address="10.0.0.100/24", interface="ens3"))
    for number, text in enumerate(hosts, start=1):
        assert f"unicast_src_ip 10.0.0.{number}\n" in text
        peers = re.search(r"unicast_peer \{\n(.*?)    \}", text, re.DOTALL)
        assert peers is not None
        assert peers[1].split() == [f"10.0.0.{other}" for other in (1, 2, 3) if other != number]
        assert f"priority {151 - number}\n" in text
        assert "        10.0.0.100/24 dev ens3\n" in text
        assert "state BACKUP" in text
        assert "nopreempt" not in text  # the check's numbers couldn't move the address
        assert keepalived.is_rendered(text)


def test_a_host_without_a_balancer_and_a_datacenter_without_a_virtual_ip_have_nothing() -> None:
    us_west = Fleet.of(US_WEST)
    assert [bool(keepalived.files(us_west, host)) for host in us_west.hosts] == [True, True, *[False] * 4]
    without = fleet(["10.0.0.1"])
    assert keepalived.files(without, without.hosts[0]) == []


def test_one_host_alone_has_no_peers() -> None:
    [text] = confs(fleet(["10.0.0.1"], address="10.0.0.100/24"))
    assert "unicast_peer" not in text
    assert keepalived.is_rendered(text)


def test_ipv6_is_as_good() -> None:
    text, _ = confs(fleet(["fd00::1", "fd00::2"], address="fd00::100/64"))
    assert "        fd00::100/64 dev eth0\n" in text
    assert "        fd00::2\n" in text
    assert keepalived.is_rendered(text)


def test_a_router_id_is_made_from_the_name_or_as_configured_and_the_same_on_all_hosts() -> None:
    two = confs(fleet(["10.0.0.1", "10.0.0.2"], address="10.0.0.100/24"))
    made = {re.findall(r"virtual_router_id (\d+)", text)[0] for text in two}
    assert len(made) == 1
    assert 1 <= int(made.pop()) <= 255
    [text] = confs(fleet(["10.0.0.1"], address="10.0.0.100/24", router_id=77))
    assert "virtual_router_id 77\n" in text


def test_whatever_the_check_adds_stays_within_vrrps_priorities_and_outweighs_their_order() -> None:
    high, low = keepalived.FIRST_PRIORITY, keepalived.LAST_PRIORITY
    assert high + judging.HOLDS <= 254
    assert low + judging.UNREACHED >= 1
    assert high - low < judging.HOLDS
    assert judging.HOLDS + high - low < -judging.UNREACHED
    assert judging.FAULT < -253


def test_many_standbys_have_priorities_too() -> None:
    texts = confs(fleet([f"10.0.0.{n}" for n in range(1, 61)], address="10.0.0.100/24"))
    priorities = [int(re.findall(r" priority (\d+)", text)[0]) for text in texts]
    assert priorities == sorted(priorities, reverse=True)
    assert priorities[-1] == keepalived.LAST_PRIORITY


@pytest.mark.parametrize("preempt", [False, True])
def test_the_check_is_started_with_options_that_it_has(preempt: bool) -> None:
    [files] = rendered(fleet(["10.0.0.1"], address="10.0.0.100/24", preempt=preempt))
    command = re.findall(r"command = (.*)", files["dc-vip-1.conf"])[0].split()
    given = check_command.make_context("vip", command[command.index("balancer.vip") + 1 :]).params
    assert given == {
        "said": Path("/var/lib/hitmesh/balancer-1/dc/balancer-1.vip"),
        "track": Path("/var/lib/hitmesh/balancer-1/vip.track"),
        "address": "10.0.0.100",
        "preempt": preempt,
    }
    assert "user = hitmesh-balancer\n" in files["dc-vip-1.conf"]


def test_the_host_program_takes_what_is_rendered_and_nothing_else_that_root_would_run() -> None:
    of = fleet(["10.0.0.1", "10.0.0.2"], address="10.0.0.100/24")
    conf, program, check = keepalived.files(of, of.hosts[0])
    for file in (conf, program, check):
        rules.check_file(file, "dc")
        assert rules.is_written(file.path, "dc")
    for file, before, after in (
        (conf, "/bin/false", "/bin/true"),
        (program, "keepalived.conf", "other.conf"),
        (check, "user = hitmesh-balancer", "user = root"),
    ):
        with pytest.raises(CommandError):
            rules.check_file(msgspec.structs.replace(file, text=file.text.replace(before, after)), "dc")


def test_a_configuration_that_would_run_something_else_as_root_is_not_rendered() -> None:
    text, _ = confs(fleet(["10.0.0.1", "10.0.0.2"], address="10.0.0.100/24"))
    assert not keepalived.is_rendered(text + 'vrrp_script x {\n    script "/bin/sh"\n}\n')
    assert not keepalived.is_rendered(text.replace("/bin/false", "/opt/false"))
    assert not keepalived.is_rendered(text.replace("interface eth0", "interface eth0\n    notify /opt/run", 1))
    assert not keepalived.is_rendered(text.replace("        10.0.0.2\n", "        10.0.0.2\n    }\n    notify x\n"))
    assert not keepalived.is_rendered(
        text.replace("/var/lib/hitmesh/balancer-1/", "/var/lib/hitmesh/balancer-1/../../")
    )


@pytest.mark.parametrize(
    ("addresses", "vip", "words"),
    [
        (["10.0.0.1"], "10.0.0.1/24", "is nodes.app-1.address; it must be one of its own"),
        (["app-1.example.com"], "10.0.0.100/24", "must be an IPv4 address"),
        (["10.0.0.1"], "fd00::100/64", "must be an IPv6 address"),
    ],
)
def test_what_keepalived_could_not_do_is_refused_with_the_file(addresses: list[str], vip: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fleet(addresses, address=vip)
