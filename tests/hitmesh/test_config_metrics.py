"""Where roles tell their metrics, and who may read them: what the datacenter's file may say of that."""

from __future__ import annotations

from typing import Any

import pytest

from hitmesh.cli.endpoints import by_role
from hitmesh.config import ROLES, ports_of, served_ports
from tests.hitmesh.dev_config import Change, configured, mistake

ADMIN = {"collector_admin": 8050, "processor_admin": 8060, "nexus_admin": 8070}


def _with_admin(data: dict[str, Any]) -> None:
    data["ports"].update(ADMIN)


def _beyond(data: dict[str, Any], **metrics: object) -> None:
    _with_admin(data)
    data.update(insecure=True, metrics=metrics)
    data["nodes"]["local"].update(address="10.1.0.11", dashboard=0)
    data["ports"].update(balancer_admin=0)


def test_a_file_that_says_nothing_of_it_has_no_admin_listeners_but_the_balancers() -> None:
    config = configured()
    assert {role for role in ROLES for one in config.instances(role) if one.admin_port is not None} == {"balancer"}
    assert {config.placement(role, "other").admin_port for role in ROLES} == {None, 0}
    assert not {name for name in by_role(config) if name.endswith("_admin")} - {"balancer_admin"}


@pytest.mark.parametrize(("role", "first"), [("collector", 8050), ("processor", 8060), ("nexus", 8070)])
def test_each_instance_has_the_next_one(role: Any, first: int) -> None:
    config = configured(_with_admin)
    assert [one.admin_port for one in config.instances(role)] == [first, first + 1]
    assert by_role(config)[f"{role}_admin"] == [f"http://127.0.0.1:{first}", f"http://127.0.0.1:{first + 1}"]
    one = config.instances(role)[0]
    assert (first in ports_of(one), first in served_ports(one)) == (True, False)


def test_one_that_is_not_configured_has_any_free_port() -> None:
    assert configured(_with_admin).placement("collector", "collector-9").admin_port == 0


def test_a_port_is_wanted_once() -> None:
    clash = mistake(lambda data: data["ports"].update(collector_admin=8020))
    assert clash == "collector-1 and nexus-1 both want port 8020 of 127.0.0.1; see ports"
    assert mistake(lambda data: data["ports"].update(nexus_admin=8022)) == (
        "nexus-1 wants one port twice; see ports.nexus, and nexus_admin"
    )


def test_other_datacenters_are_told_nothing_of_them() -> None:
    """Behind a router only what it forwards may clash: two hosts have the same admin ports."""

    def behind_a_router(data: dict[str, Any]) -> None:
        _beyond(data, open=True)
        data["ports"].update(rows=8030)
        first = {**data["nodes"]["local"], "wan_address": "203.0.113.7", "collector": 0, "balancer": 0}
        second = {**first, "address": "10.1.0.12", "wan_ports": {"nexus": 8120, "rows": 8130}}
        data["nodes"] = {"a": {**first, "collector": 1, "wan_ports": {}}, "b": second}

    assert len(configured(behind_a_router).nodes) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            _beyond,
            (
                "metrics.token is missing: nodes.local.address (10.1.0.11) is beyond loopback, where anybody could read "
                "what ports.collector_admin (8050) tells; or metrics.open = true on a network that you trust"
            ),
        ),
        (
            lambda data: _beyond(data, token="a", open=True),
            "metrics.open means nothing with metrics.token; leave one of them out",
        ),
        (lambda data: _beyond(data, token="two words"), "metrics.token"),
        (lambda data: _beyond(data, tokn="a"), "metrics.tokn is not a setting; did you mean token?"),
    ],
)
def test_beyond_loopback_it_says_who_may_read_them(change: Change, said: str) -> None:
    assert mistake(change).startswith(said)


def test_a_token_is_in_no_message() -> None:
    assert "s3cr et" not in mistake(lambda data: _beyond(data, token="s3cr et"))


@pytest.mark.parametrize("metrics", [{"token": "a"}, {"open": True}])
def test_with_a_token_or_openly_that_is_right(metrics: dict[str, object]) -> None:
    assert configured(lambda data: _beyond(data, **metrics)).metrics is not None
