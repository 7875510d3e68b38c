"""How many a scaler may start and where, by the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hitmesh.config import Placement, dump, load
from hitmesh.config.live import check
from hitmesh.errors import ConfigError
from tests.hitmesh.dev_config import Change, configured, mistake


def scaled(**collector: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["nodes"]["local"]["scaler"] = 1
        data["scaler"] = {"collector": collector}

    return change


def test_spares_come_after_those_that_the_nodes_say_in_names_and_ports() -> None:
    def change(data: dict[str, Any]) -> None:
        scaled(max=5, node_max=3)(data)
        data["nodes"]["other"] = {"address": "127.0.0.2", "collector": 1, "scaler": 1}
        data["nodes"]["third"] = {"address": "127.0.0.3", "collector": 1}

    config = configured(change)
    assert [(one.name, one.node, one.port) for one in config.instances("collector")] == [
        ("collector-1", "local", 8010), ("collector-2", "local", 8011), ("collector-3", "other", 8010),
        ("collector-4", "third", 8010),
    ]  # fmt: skip
    assert [(one.name, one.node, one.port) for one in config.spares("collector")] == [
        ("collector-5", "local", 8012), ("collector-6", "other", 8011), ("collector-7", "other", 8012),
    ]  # fmt: skip
    assert config.placement("collector", "collector-6").port == 8011
    assert config.spares("processor") == config.spares("balancer") == []


def test_without_a_scaler_or_a_most_nobody_has_a_place_for_more() -> None:
    assert configured().spares("collector") == []
    assert configured(lambda data: data["nodes"]["local"].update(scaler=1)).spares("collector") == []
    assert configured(lambda data: data["nodes"]["local"].update(scaler=1)).placement("scaler", "scaler-1") == (
        Placement("scaler", "scaler-1", "local", "127.0.0.1", None)
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (scaled(min=4, max=3), "scaler.collector.min (4) is more than scaler.collector.max (3)"),
        (scaled(min=4), "scaler.collector.min (4) means nothing while scaler.collector.max is 0"),
        (scaled(max=1), "scaler.collector.max (1) is less than the nodes run anyway (2)"),
        (lambda d: d.update(scaler={"collector": {"max": 3}}), "scaler.collector.max (3) needs a scaler, and no node runs"),
        (
            lambda d: (scaled()(d), d["scaler"].update(processor={"max": 33})),
            "scaler.processor.max (33) is more than the partitions (32)",
        ),
        (
            lambda d: (scaled(max=12)(d), d["ports"].update(nexus=8020)),
            "collector-11 and nexus-1 both want port 8020 of 127.0.0.1; see ports",
        ),
        (
            lambda d: (scaled(max=8)(d), d["ports"].update(collector_admin=8013)),
            "both want port 8013 of 127.0.0.1; see ports",
        ),
        (lambda d: d.update(scaler={"hook_s": 5.0}), "scaler.hook_timeout_s (60.0) is more than scaler.hook_s (5.0)"),
        (scaled(busy=0.0), "scaler.collector.busy must be a number >= 0.01, not 0"),
        (scaled(up=1), "scaler.collector.up is not a setting"),
        (
            lambda d: (d["ports"].update(scaler_admin=8077), d.update(insecure=True),
                       d["nodes"]["local"].update(address="10.0.0.1", scaler=1, dashboard=0, balancer=0)),
            "metrics.token is missing: nodes.local.address (10.0.0.1) is beyond loopback",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_in_words(change: Change, problem: str) -> None:
    assert problem in mistake(change)


def test_the_hook_is_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "dev.toml"
    path.write_text(dump(configured(lambda data: data.update(scaler={"hook": "bring-a-host"}))))
    assert load(path).scaler.hook == str(tmp_path / "bring-a-host")


def test_a_live_most_beyond_the_programs_that_there_are_is_refused_with_how_many_that_is() -> None:
    config = configured(scaled(max=12, node_max=5))
    assert check("scaler.collector.max", "12", config) == "12", "as the file says"
    with pytest.raises(
        ConfigError, match=r"^scaler\.collector\.max \(50\) is more than .* 2 that its nodes say and 3 spares; "
    ):
        check("scaler.collector.max", "50", config)
    few = configured(scaled(max=4))
    assert check("scaler.collector.max", "3", few) == "3"
    with pytest.raises(ConfigError, match="2 that its nodes say and 2 spares"):
        check("scaler.collector.max", "5", few)
    assert check("scaler.balancer.max", "64", few) == "64", "a worker needs no program"


def test_a_most_of_workers_below_those_of_the_file_is_refused() -> None:
    def change(data: dict[str, Any]) -> None:
        scaled()(data)
        data["balancer"] = {"workers": 4}
        data["scaler"]["balancer"] = {"max": 3}

    assert "scaler.balancer.max (3) is less than balancer.workers (4)" in mistake(change)


def test_bounds_and_targets_are_changed_live_and_how_many_have_programs_isnt() -> None:
    config = configured(scaled(max=5))
    assert check("scaler.collector.min", "3", config) == "3"
    assert check("scaler.dry_run", "true", config) == "true"
    with pytest.raises(ConfigError, match=r"is more than scaler\.collector\.max"):
        check("scaler.collector.min", "6", config)
    with pytest.raises(ConfigError, match="can't be changed while the mesh runs"):
        check("scaler.collector.node_max", "6", config)
