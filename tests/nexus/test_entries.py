"""What is made of Consul's answers, which are those of a real 1.8.7 cut to what matters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nexus.entries import Directory, is_registered, registration
from nexus.federation import Catalogue


def agent(dc: str = "dc-a", **joining: Any) -> bytes:
    debug = {
        "RetryJoinWAN": [],
        "StartJoinAddrsWAN": [],
        "PrimaryGateways": [],
        "RetryJoinIntervalWAN": "1s",
        **joining,
    }
    return json.dumps({"Config": {"Datacenter": dc, "Server": True}, "DebugConfig": debug, "Stats": {}}).encode()


def entries(*found: tuple[str, str, int], prefix: str = "hitmesh") -> bytes:
    return json.dumps(
        [
            {
                "Node": "n",
                "Address": "192.0.2.1",
                "ServiceAddress": address,
                "ServicePort": port,
                "ServiceMeta": {"dc": dc, "partitions": "32", "prefix": prefix},
            }
            for dc, address, port in found
        ]
    ).encode()


def directory(*names: str, **joining: Any) -> Directory:
    one = Directory("hitmesh")
    one.agent(agent(**joining))
    one.datacenters(json.dumps(names).encode())
    return one


def test_before_any_answer_nothing_is_known() -> None:
    assert Directory("hitmesh").catalogue() == Catalogue({}, frozenset(), True)


def test_entries_are_found_by_the_name_that_they_give_themselves() -> None:
    one = directory("dc-a", "dc-b")
    one.entries("dc-a", entries(("eu", "10.0.0.1", 8020)))
    one.entries("dc-b", entries(("us", "10.1.0.1", 8020), ("us", "2001:db8::1", 8023), ("ap", "", 9000)))
    assert one.catalogue() == Catalogue(
        {
            "eu": ["tcp://10.0.0.1:8020"],
            "us": ["tcp://10.1.0.1:8020", "tcp://[2001:db8::1]:8023"],
            "ap": ["tcp://192.0.2.1:9000"],
        },
        frozenset(),
        False,
    )


def test_entries_of_another_mesh_and_of_nobody_are_left_alone() -> None:
    one = directory("dc-a")
    one.entries("dc-a", entries(("eu", "10.0.0.1", 8020), prefix="another"))
    assert one.catalogue().peers == {}
    one.entries("dc-a", b'[{"ServiceAddress": "x", "ServicePort": 1, "ServiceMeta": null, "Address": "y"}]')
    assert one.catalogue().peers == {}


def test_a_datacenter_that_has_not_answered_may_be_a_peer() -> None:
    one = directory("dc-a", "dc-b")
    one.entries("dc-a", b"[]")
    assert one.catalogue().unanswered == {"dc-b"}
    one.entries("dc-b", b"[]")
    assert one.catalogue().unanswered == set()


def test_one_that_is_listed_no_more_keeps_its_entries_until_it_says_otherwise() -> None:
    one = directory("dc-a", "dc-b")
    one.entries("dc-b", entries(("us", "10.1.0.1", 8020)))
    one.datacenters(b'["dc-a"]')
    assert "dc-b" in one.names
    assert one.catalogue().peers == {"us": ["tcp://10.1.0.1:8020"]}
    one.entries("dc-b", b"[]")
    assert one.catalogue().peers == {}


@pytest.mark.parametrize(
    "joining",
    [{"RetryJoinWAN": ["10.0.0.1"]}, {"StartJoinAddrsWAN": ["10.0.0.1"]}, {"PrimaryGateways": ["x"]}],
    ids=str,
)
def test_who_is_to_join_others_and_sees_only_himself_is_blind(joining: dict[str, list[str]]) -> None:
    one = directory("dc-a", **joining)
    assert one.catalogue().blind
    one.datacenters(b'["dc-a", "dc-b"]')
    assert not one.catalogue().blind


def test_who_is_to_join_nobody_sees_well_alone() -> None:
    assert not directory("dc-a").catalogue().blind
    assert directory().catalogue().blind, "not even itself: it has no leader yet"


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'"x"', b"[1]", b"\xff", b'{"Config": 1}'], ids=str)
def test_what_is_no_answer_raises_and_changes_nothing(body: bytes) -> None:
    one = directory("dc-a", "dc-b")
    one.entries("dc-b", entries(("us", "10.1.0.1", 8020)))
    before = one.catalogue()
    for take in (one.agent, one.datacenters, lambda data: one.entries("dc-b", data)):
        with pytest.raises(ValueError):
            take(body)
    assert one.catalogue() == before


def test_an_entry_says_whose_it_is() -> None:
    wanted = registration("eu", "nexus-1", "tcp://10.0.0.1:8020", 32, "hitmesh")
    assert wanted == {
        "ID": "hitmesh-nexus-eu-nexus-1",
        "Name": "hitmesh-nexus",
        "Address": "10.0.0.1",
        "Port": 8020,
        "Meta": {"dc": "eu", "partitions": "32", "prefix": "hitmesh"},
    }
    stored = {"ID": wanted["ID"], "Service": "hitmesh-nexus", "Tags": [], **wanted}
    assert is_registered(wanted, json.dumps(stored).encode())
    assert not is_registered(wanted, json.dumps({**stored, "Port": 8023}).encode())


def test_an_agent_that_says_nothing_of_joining_joins_nobody() -> None:
    one = Directory("hitmesh")
    one.agent(b'{"Config": {"Datacenter": "dc-a"}}')
    one.datacenters(b'["dc-a"]')
    assert not one.catalogue().blind
