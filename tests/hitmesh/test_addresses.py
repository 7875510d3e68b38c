"""How hosts and addresses are written in settings and shown to people."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hitmesh.cli.endpoints import by_role
from hitmesh.config import Config, host_port, host_port_text, load, parse
from hitmesh.config.addresses import check_host
from hitmesh.errors import ConfigError
from hitmesh.spool.beanstalk import BeanstalkSpool

DEV = Path(__file__).parents[2] / "config" / "dev.toml"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::7", "localhost", "a-1.example", "1.example", "x_y"])
def test_a_host_and_its_port_are_read_back_as_they_are_written(host: str) -> None:
    check_host(host)
    assert host_port(host_port_text(host, 80)) == (host, 80)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert host_port_text("::1", 80) == "[::1]:80"


def test_an_ipv6_address_is_told_in_one_way_whoever_wrote_it() -> None:
    assert host_port_text("2001:DB8:0:0::7", 80) == "[2001:db8::7]:80"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.300", "is not an IPv4 address"),
        ("127.1", "is not an IPv4 address"),
        ("010.0.0.1", "is not an IPv4 address"),
        ("0x7f000001", "is not an IPv4 address"),
        ("[::1]", "is written without brackets here: ::1"),
        ("::g", "is not an IPv6 address"),
        ("127.0.0.1:80", "is not an IPv6 address"),
        ("fe80::1%eth0", "is not an IPv6 address"),
        ("a b", "is neither an address nor a name"),
        ("a..b", "is neither an address nor a name"),
        ("", "is neither an address nor a name"),
    ],
)
def test_what_is_no_address_of_a_node_is_said_to_be_none(address: str, problem: str) -> None:
    data = {"name": "dc", "nodes": {"one": {"address": address, "nexus": 1, "processor": 1, "collector": 1}}}
    with pytest.raises(ConfigError) as raised:
        parse(data, source="x.toml")
    assert raised.value.message == f"x.toml: nodes.one.address ({address}) {problem}"


def test_nor_is_it_one_of_a_peer() -> None:
    data = {
        "name": "dc",
        "nodes": {"one": {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}},
        "peers": {"other": ["127.0.0.300:8020"]},
    }
    with pytest.raises(ConfigError, match=r"peers.other: '127.0.0.300:8020' is not an IPv4 address"):
        parse(data, source="x.toml")


def on_ipv6() -> Config:
    config = load(DEV)
    return msgspec.structs.replace(config, nodes={"a": msgspec.structs.replace(config.nodes["local"], address="::1")})


def test_every_endpoint_of_a_datacenter_on_ipv6_is_in_brackets() -> None:
    urls = [url for found in by_role(on_ipv6()).values() for url in found]
    assert len(urls) == 7
    assert all("://[::1]:80" in url for url in urls)


def test_so_is_a_spools_url() -> None:
    assert BeanstalkSpool("::1", 11300, "tube", claim_s=1).url == "beanstalk://[::1]:11300/tube"
