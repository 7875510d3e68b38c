"""A datacenter's configuration: what is right, and what each mistake is told as."""

from __future__ import annotations

import datetime
import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hitmesh.config import Placement, dump, load, nexus_endpoints, parse
from hitmesh.errors import ConfigError
from tests.hitmesh.dev_config import DEV, Change, configured, mistake, tables


def keys(table: dict[str, Any], path: str = "") -> set[str]:
    found = {path + key for key in table}
    return found.union(*(keys(value, f"{path}{key}.") for key, value in table.items() if isinstance(value, dict)))


def test_the_shipped_example_shows_every_setting_with_its_default() -> None:
    shown = tables()
    defaults = parse({"name": "dev", "nodes": shown["nodes"]}, source="defaults")
    assert msgspec.structs.replace(load(DEV), routes={}) == defaults
    del shown["routes"]
    assert keys(shown) == keys(msgspec.to_builtins(msgspec.structs.replace(load(DEV), routes={}))) - {"routes"}


def test_the_shipped_example_shows_the_route_of_a_file_without_routes_and_all_its_settings() -> None:
    shown = tables()
    assert load(DEV).route_table() == parse({**shown, "routes": {}}, source="defaults").route_table()
    [route] = load(DEV).routes.values()
    assert set(shown["routes"]["default"]) == {"action", *route.__struct_fields__}


def test_a_dumped_configuration_is_read_back_equal() -> None:
    config = configured(lambda data: data["stores"].update(totals='sqlite:///odd "name".db'))
    assert parse(tomllib.loads(dump(config)), source="dumped") == config


def test_what_is_at_its_default_is_left_out_of_a_dump_so_that_an_older_release_reads_it() -> None:
    one = dict.fromkeys(("nexus", "processor", "collector"), 1)
    given = {"name": "dev", "nodes": {"a": {"address": "127.0.0.1", **one}}, "timing": {"commit_s": 0.5}}
    assert tomllib.loads(dump(parse(given, source="test"))) == given


def test_instances_are_numbered_over_the_nodes_in_file_order() -> None:
    config = configured(lambda data: data["nodes"].update(b={"address": "127.0.0.2", "collector": 1}))
    assert config.instances("collector") == [
        Placement("collector", "collector-1", "local", "127.0.0.1", 8010),
        Placement("collector", "collector-2", "local", "127.0.0.1", 8011),
        Placement("collector", "collector-3", "b", "127.0.0.2", 8010),
    ]


def test_a_nexus_has_three_ports_in_a_row() -> None:
    second = nexus_endpoints(configured().instances("nexus")[1])
    assert second.heartbeats == "tcp://127.0.0.1:8023"
    assert (second.changes, second.lookups) == ("tcp://127.0.0.1:8024", "tcp://127.0.0.1:8025")


def test_an_instance_that_is_not_configured_runs_on_any_port() -> None:
    assert configured().placement("collector", "collector-9").port is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(stoers={}), "stoers is not a setting; did you mean stores?"),
        (lambda d: d["stores"].update(spool=[]), "stores.spool is not a setting; did you mean spools?"),
        (lambda d: d["timing"].update(heartbeat=1), "timing.heartbeat is not a setting; did you mean heartbeat_s?"),
        (
            lambda d: d["nodes"]["local"].update(colector=1),
            "nodes.local.colector is not a setting; did you mean collector?",
        ),
        (
            lambda d: d["ports"].update(zzz=1),
            (
                "ports.zzz is not a setting; known here: balancer, balancer_tls, balancer_admin, collector, "
                "collector_admin, processor_admin, nexus, nexus_admin, dashboard, recorder, recorder_admin, scaler_admin, rows"
            ),
        ),
    ],
)
def test_an_unknown_setting_is_named_with_the_nearest_right_one(change: Change, message: str) -> None:
    assert mistake(change) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("name"), "name is missing (the datacenter's name, such as eu-west)"),
        (lambda d: d.pop("nodes"), "nodes is missing (the hosts, by name)"),
        (lambda d: d["nodes"]["local"].pop("address"), "nodes.local.address is missing (IP address or name"),
    ],
)
def test_a_missing_setting_is_named_with_what_it_is_for(change: Change, message: str) -> None:
    assert mistake(change).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["nodes"]["local"].update(nexus="1"), 'nodes.local.nexus must be a whole number, not "1" (Nexus'),
        (lambda d: d["nodes"]["local"].update(nexus=65), "nodes.local.nexus must be a whole number <= 64, not 65"),
        (lambda d: d["nodes"].update(x=3), "nodes.x must be a table, not 3"),
        (lambda d: d["nodes"].update({"Big Box": {"address": "127.0.0.1"}}), 'nodes has an entry named "Big Box"'),
        (lambda d: d.update(nodes=[1]), "nodes must be a table, not [1] (the hosts, by name)"),
        (lambda d: d.update(nodes={}), "nodes must be a table with >= 1 entries, not {}"),
        (lambda d: d.update(ports=3), "ports must be a table, not 3"),
        (lambda d: d.update(name="EU"), "name must be a string that matches ^[a-z0-9]"),
        (lambda d: d.update(name="eu\n"), "name must be a string that matches ^[a-z0-9]"),
        (lambda d: d.update(insecure=1), "insecure must be true or false, not 1"),
        (lambda d: d["stores"].update(spools="sqlite:///x"), 'stores.spools must be an array, not "sqlite:///x"'),
        (lambda d: d["stores"].update(spools=[]), "stores.spools must be an array with >= 1 entries, not []"),
        (lambda d: d["stores"].update(spools=["sqlite:///x", 1]), "stores.spools[1] must be a string, not 1"),
        (lambda d: d["timing"].update(heartbeat_s="fast"), 'timing.heartbeat_s must be a number, not "fast" (between'),
        (lambda d: d["timing"].update(heartbeat_s=0), "timing.heartbeat_s must be a number >= 0.05, not 0"),
        (lambda d: d["timing"].update(heartbeat_s=float("nan")), "timing.heartbeat_s must be a number >= 0.05"),
        (lambda d: d["timing"].update(missed_heartbeats=2.5), "timing.missed_heartbeats must be a whole number"),
        (lambda d: d["timing"].update(commit_s=datetime.date(2026, 1, 1)), "timing.commit_s must be a number"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_right(change: Change, message: str) -> None:
    assert mistake(change).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["timing"].update(commit_s=5), "timing.commit_s (5.0) must be below timing.retry_delay_s (5.0)"),
        (lambda d: d["timing"].update(resend_s=6), "timing.resend_s (6.0) must be below timing.retry_delay_s (5.0)"),
        (lambda d: d["stores"].update(spool_copies=2), "stores.spool_copies (2) is more than the spools (1)"),
        (lambda d: d["stores"].update(spools=["sqlite:///x"] * 2), "stores.spools names the same spool twice"),
        (lambda d: d["stores"].update(settings="sqlite:///totals.db"), "stores.settings (sqlite:///totals.db) holds"),
        (lambda d: d["stores"].update(settings="sqlite:///spool.db"), "stores.settings (sqlite:///spool.db) holds"),
        (lambda d: d["nodes"]["local"].update(processor=0), "no node runs a processor; set nodes.<node>.processor"),
        (lambda d: d["nodes"]["local"].update(address="10.0.0.1"), "nodes.local.address (10.0.0.1) is beyond loopback"),
        (lambda d: d["ports"].update(nexus=8011), "collector-2 and nexus-1 both want port 8011"),
        (lambda d: d["ports"].update(nexus=65_535), "nexus-1 would get port 65536; lower ports.nexus"),
        (lambda d: d["ports"].update(rows=8024), "processor-1 and nexus-2 both want port 8024 of 127.0.0.1; see ports"),
        (lambda d: d["ports"].update(rows=65_535), "processor-2 would get port 65536; lower ports.rows"),
        (
            lambda d: d["nodes"]["local"].update(beanstalkd=True),
            "nodes.local.beanstalkd is nobody's spool: stores.spools",
        ),
        (lambda d: d["nodes"]["local"].update(ssh="a:b:c"), "nodes.local.ssh: 'a:b:c' "),
        (
            lambda d: d["virtual_ip"].update(address="10.2.0.1"),
            "virtual_ip.address: '10.2.0.1' lacks its network's prefix",
        ),
        (
            lambda d: d["virtual_ip"].update(address="10.2/8"),
            "virtual_ip.address: '10.2/8' must be an address with its",
        ),
        (
            lambda d: d["virtual_ip"].update(address="10.2.0.100/24", interface="eth0"),
            "virtual_ip.address (10.2.0.100/24) is of the network 10.2.0.0/24, and nodes.local.address (127.0.0.1) is",
        ),
        (lambda d: d["deploy"]["backup"].update(to="/srv"), "deploy.backup.to: '/srv' is not USER@HOST:/FOLDER"),
    ],
)
def test_settings_that_contradict_each_other_are_named(change: Change, message: str) -> None:
    found = mistake(change).replace("nexus-1 and collector-2", "collector-2 and nexus-1")
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("outside", "message"),
    [
        ({"wan_address": "203.0.113.7"}, "nodes.local.wan_address (203.0.113.7) is beyond loopback"),
        ({"wan_address": "[::1]"}, "nodes.local.wan_address ([::1]) is written without brackets here: ::1"),
        ({"wan_address": "::"}, "nodes.local.wan_address (::) stands for every address of a host, and leads to none"),
        ({"wan_address": "1.2.3"}, "nodes.local.wan_address (1.2.3) is not an IPv4 address"),
        ({"wan_ports": {"nexus": 1}}, "nodes.local.wan_ports are of nobody: nodes.local.wan_address is missing"),
        (
            {"wan_address": "::1", "wan_ports": {"rows": 9030}},
            "nodes.local.wan_ports.rows (9030) leads nowhere: ports.rows is 0, any port",
        ),
        (
            {"wan_address": "::1", "wan_ports": {"nexus": 65_532}},
            "nexus-2 would be port 65536 of ::1 to other datacenters; see nodes.local.wan_ports",
        ),
    ],
)
def test_a_wrong_address_for_other_datacenters_is_named(outside: dict[str, Any], message: str) -> None:
    assert mistake(lambda d: d["nodes"]["local"].update(outside)).startswith(message)


def behind_a_router(**ports: int) -> Change:
    """A second node, on another address, that shares the first one's for other datacenters."""
    second = {"address": "127.0.0.2", "processor": 1, "nexus": 1, "wan_address": "::1", "wan_ports": ports}

    def change(data: dict[str, Any]) -> None:
        data["nodes"]["local"].update(wan_address="::1", dashboard=0)
        data["nodes"]["b"] = second
        data["ports"]["rows"] = 8030

    return change


def test_two_nodes_of_one_address_clash_however_it_is_written() -> None:
    def change(data: dict[str, Any]) -> None:
        data["nodes"]["local"]["address"] = "::1"
        data["nodes"]["b"] = {"address": "0:0::1", "collector": 1}

    assert mistake(change) == "collector-3 and collector-1 both want port 8010 of ::1; see ports"


def test_two_nodes_behind_one_router_need_ports_of_their_own_there() -> None:
    words = "both are port {} of ::1 to other datacenters; see nodes.b.wan_ports"
    assert mistake(behind_a_router()) == f"nexus-3 and nexus-1 {words.format(8020)}"
    assert mistake(behind_a_router(nexus=9020)) == f"processor-3 and processor-1 {words.format(8030)}"
    config = configured(behind_a_router(nexus=9020, rows=9030))
    seen = [(one.name, one.port, one.wan_shift) for role in ("nexus", "processor") for one in config.instances(role)]
    assert seen == [
        ("nexus-1", 8020, 0), ("nexus-2", 8023, 0), ("nexus-3", 8020, 1000),
        ("processor-1", 8030, 0), ("processor-2", 8031, 0), ("processor-3", 8030, 1000),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "url", "hint"),
    [
        ("totals", "sqllite:///x", "sqllite:///x", "did you mean sqlite?"),
        ("settings", "consl://h:1/x", "consl://h:1/x", "did you mean consul?"),
        ("totals", "redis://h/x", "redis://h/x", "known here: sqlite, consul, consul+https"),
        ("totals", "/var/x", "/var/x", "known here: sqlite, consul, consul+https"),
        ("totals", "http://[x", "http://[x", "known here: sqlite, consul, consul+https"),
        ("spools", ["sqlite:///x", "beanstalkd://h:1/t"], "beanstalkd://h:1/t", "did you mean beanstalk?"),
    ],
)
def test_a_store_of_an_unknown_kind_is_named(key: str, value: object, url: str, hint: str) -> None:
    found = mistake(lambda data: data["stores"].update({key: value}))
    assert found == f"stores.{key}: {url!r} is not a URL of a known kind; {hint}"


def test_a_store_that_somebody_else_registered_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def registered(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [importlib.metadata.EntryPoint("etcd", "x:y", group)] if group == "hitmesh.stores" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", registered)
    assert configured(lambda data: data["stores"].update(totals="etcd://h:1/x")).stores.totals == "etcd://h:1/x"
    assert "known here: sqlite, beanstalk" in mistake(lambda data: data["stores"].update(spools=["etcd://h:1/x"]))


def test_a_trusted_network_beyond_loopback_is_allowed_when_it_is_said() -> None:
    def change(data: dict[str, Any]) -> None:
        data["insecure"] = True
        data["nodes"]["local"].update(address="10.0.0.1", balancer=0, dashboard=0)

    assert configured(change).instances("collector")[0].address == "10.0.0.1"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.toml: can't be read: No such file or directory"):
        load(tmp_path / "nope.toml")


@pytest.mark.parametrize("text", [b"name = ", b"\xff", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=r"x\.toml: not TOML: "):
        load(path)


@pytest.mark.parametrize(
    "stores",
    [
        {"totals": "consuls://h:1/p?token=s3cret"},
        {"totals": "consul://h:1/p?token=s3cret", "settings": "consul://h:1/p?token=s3cret"},
        {"totals": "consul://h:1/p?token=/a", "settings": "consul://h:1/p?token=/b"},
    ],
)
def test_how_to_get_into_a_store_is_neither_repeated_nor_part_of_where_it_is(stores: dict[str, str]) -> None:
    found = mistake(lambda data: data["stores"].update(stores))
    assert "not a URL of a known kind" in found or "holds something else already" in found
    assert "?" not in found.partition(";")[0]
