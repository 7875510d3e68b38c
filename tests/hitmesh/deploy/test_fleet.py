from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hitmesh import config as settings
from hitmesh.config import host_port_text
from hitmesh.deploy.fleet import Fleet, sees
from hitmesh.errors import CommandError

CONFIG = Path(__file__).parents[3] / "config"
US_WEST = settings.load(CONFIG / "us-west.toml")


def test_a_site_has_the_hosts_of_the_file_with_what_runs_on_each() -> None:
    fleet = Fleet.of(US_WEST)
    assert {host.name: [one.name for one in host.instances] for host in fleet.hosts} == {
        "app-1": ["nexus-1", "processor-1", "collector-1", "collector-2", "balancer-1", "recorder-1"],
        "app-2": ["nexus-2", "processor-2", "collector-3", "collector-4", "balancer-2", "dashboard-1"],
        "app-3": ["processor-3", "collector-5", "collector-6", "dashboard-2", "recorder-2"],
        "store-1": [],
        "store-2": [],
        "store-3": [],
    }
    assert fleet.has_consul
    assert [host.name for host in fleet.hosts if host.has_beanstalkd] == ["store-1", "store-2"]


def test_a_deploy_changes_balancers_after_whom_they_need_and_who_only_looks_last() -> None:
    roles = [one.role for _, one in Fleet.of(US_WEST).in_order()]
    changed = {"nexus": 2, "processor": 3, "collector": 6, "balancer": 2, "dashboard": 2, "recorder": 2}
    assert roles == [role for role, count in changed.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("ssh", "reached"),
    [("", ("10.2.0.11", 22)), ("app-1.example.com", ("app-1.example.com", 22)), ("[::1]:2222", ("::1", 2222)),
     ("gate:2200", ("gate", 2200)), ("fd00::1", ("fd00::1", 22))],
)  # fmt: skip
def test_a_host_is_reached_by_its_address_or_by_what_the_file_says(ssh: str, reached: tuple[str, int]) -> None:
    data = {"name": "dc", "insecure": True, "ports": {"balancer_admin": 0}}
    node = {"address": "10.2.0.11", "ssh": ssh, "nexus": 1, "processor": 1, "collector": 1}
    fleet = Fleet.of(settings.parse({**data, "nodes": {"app-1": node}}, source="test"))
    assert fleet.hosts[0].ssh == reached


def test_a_host_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(CommandError, match="us-west has no host ap-1; did you mean app-1"):
        Fleet.of(US_WEST).host("ap-1")


def seen(text: str, name: str) -> str:
    config = settings.parse(tomllib.loads(text), source="test")
    return sees(text, next(one for _, one in Fleet.of(config).in_order() if one.name == name))


TEXT = """name = "dc"
insecure = true
[ports]
balancer_admin = 0
[nodes.a]
address = "10.0.0.1"
nexus = 1
processor = 1
collector = 1
balancer = 1
[nodes.b]
address = "10.0.0.2"
processor = 1
collector = 1
"""


@pytest.mark.parametrize(
    ("was", "now", "concerned"),
    [
        ("insecure", "# for people\ninsecure", set()),
        ("collector = 1\n[nodes.b]", "collector = 1\n[nodes.b]", set()),
        (
            "processor = 1\ncollector = 1\n",
            "processor = 1\ncollector = 2\n",
            {"collector-2"},
        ),  # which is b's first no more
        ('[nodes.b]\naddress = "10.0.0.2"', '[nodes.b]\naddress = "10.0.0.3"', {"processor-2", "collector-2"}),
        (
            '"10.0.0.1"',
            '"10.0.0.4"',
            {"nexus-1", "processor-1", "processor-2", "collector-1", "collector-2", "balancer-1"},
        ),
        ("[ports]", "[balancer]\nworkers = 2\n[ports]", {"balancer-1"}),
        ("[ports]", "[deploy]\nbake_s = 1.0\n[ports]", set()),
        (
            "[ports]",
            "[timing]\ncommit_s = 0.1\n[ports]",
            {"nexus-1", "processor-1", "processor-2", "collector-1", "collector-2", "balancer-1"},
        ),
    ],
)
def test_an_instance_is_restarted_for_what_concerns_it_and_for_nothing_else(
    was: str, now: str, concerned: set[str]
) -> None:
    changed = TEXT.replace(was, now, 1)
    names = ["nexus-1", "processor-1", "processor-2", "collector-1", "collector-2", "balancer-1"]
    assert {name for name in names if seen(TEXT, name) != seen(changed, name)} == concerned


LOOKED_AT = TEXT.replace("[nodes.b]", "dashboard = 1\n[nodes.b]").replace(
    "[ports]", "[dashboard]\nopen = true\n[ports]"
)


@pytest.mark.parametrize(
    ("was", "now", "concerned"),
    [
        ("open = true", 'token = "x"', {"dashboard-1"}),
        (
            "dashboard = 1\n[nodes.b]",
            "dashboard = 1\n[virtual_ip]\nrouter_id = 3\n[nodes.b]",
            {"balancer-1", "dashboard-1"},
        ),
        ("collector = 1\n", "collector = 2\n", {"collector-2", "dashboard-1"}),
        ("[dashboard]", "[deploy]\nbake_s = 1.0\n[dashboard]", set()),
    ],
)
def test_a_dashboard_is_restarted_for_whatever_it_shows_and_nobody_for_what_is_its_own(
    was: str, now: str, concerned: set[str]
) -> None:
    changed = LOOKED_AT.replace(was, now, 1)
    names = ["nexus-1", "processor-1", "collector-2", "balancer-1", "dashboard-1"]
    assert {name for name in names if seen(LOOKED_AT, name) != seen(changed, name)} == concerned


RECORDED = TEXT.replace("[nodes.b]", "recorder = 1\n[nodes.b]")
EVERYBODY = {"nexus-1", "processor-1", "collector-2", "balancer-1"}


@pytest.mark.parametrize(
    ("was", "now", "concerned"),
    [
        ("recorder = 1\n", "", EVERYBODY),  # without one there is nobody to send to
        ("recorder = 1\n", "recorder = 2\n", set()),
        ("[ports]", "[recorder]\nmax_days = 3.0\n[ports]", {"recorder-1"}),
    ],
)
def test_everybody_is_restarted_for_the_first_recorder_and_the_last(was: str, now: str, concerned: set[str]) -> None:
    changed = RECORDED.replace(was, now, 1)
    names = [*EVERYBODY, *(["recorder-1"] if "recorder =" in changed else [])]
    assert {name for name in names if seen(RECORDED, name) != seen(changed, name)} == concerned


def test_the_two_examples_are_one_mesh_and_neither_consul_joins_what_a_router_hides() -> None:
    examples = {name: settings.load(CONFIG / f"{name}.toml") for name in ("eu-west", "us-west")}
    settings.check_partitions(examples.values())
    for here, there in (("eu-west", "us-west"), ("us-west", "eu-west")):
        outside = {
            host_port_text(node.wan_address or node.address, node.wan_ports.nexus or examples[there].ports.nexus)
            for node in examples[there].nodes.values()
            if node.nexus
        }
        assert set(examples[here].peers[there]) == outside
        reached = {node.wan_address or node.address for node in examples[there].nodes.values() if node.consul_server}
        behind = any(node.wan_address for node in examples[there].nodes.values())
        assert not behind or not reached & set(examples[here].deploy.consul.join_wan)
