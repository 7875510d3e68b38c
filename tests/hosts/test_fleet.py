"""The datacenters that tests on whole hosts deploy."""

from __future__ import annotations

import tomllib

import pytest

from hitmesh.config import ROLES, parse
from hitmesh.deploy.fleet import Fleet
from hitmesh.deploy.render import files_for
from tests.hosts.fleet import MESH, text


@pytest.mark.parametrize("dc", MESH)
def test_each_has_two_of_every_role_and_spool_three_consul_servers_and_a_virtual_ip(dc: str) -> None:
    fleet = Fleet.of(parse(tomllib.loads(text(dc, {})), source=dc))
    assert {role: len(fleet.config.instances(role)) for role in ROLES} == {
        **dict.fromkeys(ROLES, 2),
        "dashboard": 0,
        "recorder": 0,
        "scaler": 0,
    }
    assert len(fleet.config.stores.spools) == sum(host.has_beanstalkd for host in fleet.hosts) == 2
    assert sum(host.is_consul_server for host in fleet.hosts) == 3
    assert fleet.config.virtual_ip.address
    assert all(files_for(fleet, host, text(dc, {})) for host in fleet.hosts)


def test_settings_replace_those_of_a_table() -> None:
    changed = tomllib.loads(text("us-west", {"deploy": {"bake_s": 9.0}, "partitions": 4}))
    assert (changed["deploy"]["bake_s"], changed["deploy"]["packages"], changed["partitions"]) == (9.0, False, 4)
