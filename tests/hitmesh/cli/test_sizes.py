"""How many instances a datacenter runs: what may be asked for, where they go, what is remembered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hitmesh.cli.layout import MAX_INSTANCES
from hitmesh.cli.sizes import Counts, Size, asked_for, remembered, resized, still_wanted
from hitmesh.config import ROLES, Config, Placement, parse
from hitmesh.errors import CommandError


def datacenter(*nodes: dict[str, Any]) -> Config:
    tables = {f"n{number}": {"address": f"127.0.0.{number}", **node} for number, node in enumerate(nodes, start=1)}
    return parse({"name": "dc", "nodes": tables}, source="test")


SMALL = datacenter({"nexus": 1, "processor": 2, "collector": 2, "balancer": 1})
TWO_NODES = datacenter({"nexus": 1, "processor": 1, "collector": 2}, {"nexus": 1, "processor": 1, "collector": 1})


def resize(config: Config, **counts: int) -> Config:
    wanted: Counts = counts  # type: ignore[assignment]
    return resized(config, wanted, limits=MAX_INSTANCES, source="dc")


def everybody(config: Config) -> list[Placement]:
    return [each for role in ROLES for each in config.instances(role)]


def test_words_say_how_many_of_which() -> None:
    assert asked_for(["collector=4", "processor=3", "balancer=0"]) == {"collector": 4, "processor": 3, "balancer": 0}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("colector=3", "'colector' is no role to be scaled (did you mean collector?)"),
        ("collector", "'collector': how many is a whole number, such as collector=3"),
        ("collector=", "'collector=': how many"),
        ("collector=-1", "'collector=-1': how many"),
        ("collector=²", "'collector=²': how many"),
        ("nexus=3", "nexus can't be scaled on a running mesh: a Nexus's address is in the configuration of every role"),
        ("beanstalkd=3", "beanstalkd can't be scaled on a running mesh: "),
        ("consul=3", "consul can't be scaled on a running mesh: "),
    ],
)
def test_words_that_cannot_be_meant_are_refused(word: str, message: str) -> None:
    with pytest.raises(CommandError) as raised:
        asked_for([word])
    assert str(raised.value).startswith(message)


def test_a_role_is_named_once() -> None:
    with pytest.raises(CommandError, match="collector is named twice"):
        asked_for(["collector=2", "collector=3"])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"processor": 0}, "processor=0: a datacenter can't do without a processor"),
        ({"collector": 0}, "collector=0: a datacenter can't do without a collector"),
        ({"collector": 11}, "collector=11: a datacenter of `hitmesh up` has ports for 10 of them"),
        ({"balancer": 6}, "balancer=6: a datacenter of `hitmesh up` has ports for 5 of them"),
        ({"processor": 11}, "processor=11: a datacenter of `hitmesh up` has ports for 10 of them"),
    ],
)
def test_what_cannot_run_is_refused(counts: dict[str, int], message: str) -> None:
    with pytest.raises(CommandError) as raised:
        resize(SMALL, **counts)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("config", [SMALL, TWO_NODES], ids=["one node", "two nodes"])
@pytest.mark.parametrize("count", range(1, 8))
def test_there_are_as_many_as_wanted_and_whoever_stays_keeps_name_node_and_port(config: Config, count: int) -> None:
    changed = resize(config, collector=count, processor=count)
    assert [len(changed.instances(role)) for role in ("collector", "processor")] == [count, count]
    before, after = ({(each.role, each.name): each for each in everybody(one)} for one in (config, changed))
    stayed = before.keys() & after.keys()
    assert len(stayed) == len(config.instances("nexus")) + len(config.instances("balancer")) + sum(
        min(count, len(config.instances(role))) for role in ("collector", "processor")
    )
    assert {key: before[key] for key in stayed} == {key: after[key] for key in stayed}


def test_a_datacenter_may_do_without_balancers() -> None:
    assert resize(SMALL, balancer=0).instances("balancer") == []


def test_nothing_else_changes() -> None:
    changed = resize(TWO_NODES, collector=4)
    assert msgspec.structs.replace(changed, nodes=TWO_NODES.nodes) == TWO_NODES


def test_what_was_wanted_holds_for_the_next_start() -> None:
    sizes = remembered({}, SMALL, {"collector": 4, "processor": 2})
    assert sizes == {"collector": Size(template=2, wanted=4)}
    assert still_wanted(sizes, SMALL) == {"collector": 4}


def test_scaled_twice_the_template_is_what_it_was_at_first() -> None:
    sizes = remembered({}, SMALL, {"collector": 4})
    assert remembered(sizes, resize(SMALL, collector=4), {"collector": 3}) == {"collector": Size(template=2, wanted=3)}


def test_scaled_back_there_is_nothing_to_remember() -> None:
    sizes = remembered({}, SMALL, {"collector": 4, "processor": 3})
    assert remembered(sizes, resize(SMALL, collector=4), {"collector": 2}) == {"processor": Size(template=2, wanted=3)}


def test_a_template_that_says_something_new_wins() -> None:
    sizes = remembered({}, SMALL, {"collector": 4, "processor": 3})
    assert still_wanted(sizes, resize(SMALL, collector=3)) == {"processor": 3}
