"""Where dashboards are, and who may look at them, by the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from hitmesh.config import Placement, ports_of
from hitmesh.config.outside import outside
from tests.hitmesh.dev_config import Change, configured, mistake

BEYOND = "192.0.2.7"


def beyond(**dashboard: object) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["insecure"] = True
        data["nodes"]["local"].update(address=BEYOND, balancer=0)
        data["dashboard"] = dashboard

    return change


def test_a_dashboard_takes_two_ports_for_http_and_for_its_news() -> None:
    first, second = configured(lambda data: data["nodes"]["local"].update(dashboard=2)).instances("dashboard")
    assert first == Placement("dashboard", "dashboard-1", "local", "127.0.0.1", 8030)
    assert (ports_of(first), ports_of(second)) == ([8030, 8031], [8032, 8033])


def test_a_datacenter_needs_no_dashboard() -> None:
    assert configured(lambda data: data["nodes"]["local"].pop("dashboard")).instances("dashboard") == []


def test_one_that_is_not_configured_is_on_any_port() -> None:
    assert ports_of(configured().placement("dashboard", "dashboard-9")) == []


def test_its_news_are_reached_from_elsewhere_by_the_routers_ports() -> None:
    def change(data: dict[str, Any]) -> None:
        data["nodes"]["local"].update(wan_address="203.0.113.7", wan_ports={"dashboard": 9040})
        data["insecure"] = True

    [one] = configured(change).instances("dashboard")
    assert outside(one, "tcp://127.0.0.1:8031") == "tcp://203.0.113.7:9041"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["ports"].update(dashboard=8024), "dashboard-1 and nexus-2 both want port 8024 of 127.0.0.1"),
        (lambda d: d["ports"].update(dashboard=65_535), "dashboard-1 would get port 65536; lower ports.dashboard"),
        (lambda d: d["ports"].update(dashboard=0), "ports.dashboard must be a whole number >= 1, not 0"),
        (
            lambda d: d["nodes"]["local"].update(wan_ports={"dashboard": 9040}),
            "nodes.local.wan_ports are of nobody: nodes.local.wan_address is missing",
        ),
        (
            beyond(),
            f"dashboard.token is missing: nodes.local.address ({BEYOND}) is beyond loopback, where anybody could",
        ),
        (beyond(token="x", open=True), "dashboard.open means nothing with dashboard.token"),
        (beyond(token="two words"), "dashboard.token must be a string that matches"),
    ],
)
def test_a_mistake_is_named(change: Change, message: str) -> None:
    assert mistake(change).startswith(message)


@pytest.mark.parametrize("dashboard", [{"token": "secret"}, {"open": True}])
def test_beyond_loopback_a_token_is_needed_or_the_word_that_none_is(dashboard: dict[str, object]) -> None:
    assert configured(beyond(**dashboard)).instances("dashboard")[0].address == BEYOND


def test_a_token_is_not_repeated_in_what_is_said_of_it() -> None:
    assert "hunter2" not in mistake(beyond(token="hunter2 "))
