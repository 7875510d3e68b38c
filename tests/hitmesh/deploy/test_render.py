from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hitmesh import config as settings
from hitmesh.deploy.files import File
from hitmesh.deploy.fleet import Fleet, Host
from hitmesh.deploy.host import rules
from hitmesh.deploy.render import beanstalkd, consul, keepalived, nftables, supervisor, system
from hitmesh.errors import CommandError

TEXT = (Path(__file__).parents[3] / "config" / "us-west.toml").read_text(encoding="utf-8")
Render = Callable[[Fleet, Host], Sequence[File]]


def fleet(text: str = TEXT) -> Fleet:
    return Fleet.of(settings.loads(text.encode(), path=Path("/etc/hitmesh/us-west.toml")))


def with_firewall(more: str = "") -> Fleet:
    return fleet(TEXT.replace("[deploy] ", f"[deploy]\nfirewall = true\n{more}#"))


def rendered(render: Render, host: str, of: Fleet | None = None) -> dict[str, File]:
    of = of or fleet()
    return {file.path: file for file in render(of, of.host(host))}


def programs(of: Fleet, host: Host) -> Sequence[File]:
    return supervisor.files(of, host, TEXT)


def consul_of(host: str, of: Fleet | None = None) -> Any:
    return json.loads(rendered(consul.files, host, of)["/etc/hitmesh/consul.json"].text)


@pytest.mark.parametrize("host", [host.name for host in fleet().hosts])
@pytest.mark.parametrize(
    "render",
    [programs, beanstalkd.files, consul.files, nftables.files, system.files, keepalived.files],
)
def test_a_host_takes_whatever_is_rendered_for_it(render: Render, host: str) -> None:
    for file in rendered(render, host, with_firewall()).values():
        rules.check_file(file, "us-west")


def test_a_role_runs_the_release_of_its_instance_as_its_own_user() -> None:
    path = "/var/lib/hitmesh/supervisor.d/us-west-nexus-1.conf"
    values = rules.program_values(rendered(programs, "app-1")[path].text, "us-west-nexus-1")
    assert values["command"] == (
        "/opt/hitmesh/system/bin/hitmesh-run nexus-1 -m nexus --config /etc/hitmesh/us-west.toml --name nexus-1 "
        "--state-dir /var/lib/hitmesh/nexus-1"
    )
    assert (values["user"], values["stopwaitsecs"]) == ("hitmesh-nexus", "25")


def test_a_spool_listens_where_the_file_has_it() -> None:
    (file,) = rendered(beanstalkd.files, "store-2").values()
    assert "beanstalkd -l 10.2.0.22 -p 11300 -b /var/lib/hitmesh/beanstalkd-1 -f 0 -z 8388608\n" in file.text
    assert "user = hitmesh-beanstalkd\n" in file.text
    assert not rendered(beanstalkd.files, "app-1")


def test_consul_has_three_servers_that_look_for_each_other_and_agents_that_look_for_them() -> None:
    server, agent = consul_of("store-1"), consul_of("app-1")
    assert (server["server"], server["bootstrap_expect"], server["bind_addr"]) == (True, 3, "10.2.0.21")
    assert server["retry_join"] == ["10.2.0.22", "10.2.0.23"]
    assert (agent["server"], "bootstrap_expect" in agent) == (False, False)
    assert agent["retry_join"] == ["10.2.0.21", "10.2.0.22", "10.2.0.23"]
    assert server["client_addr"] == agent["client_addr"] == "127.0.0.1"


def test_consul_joins_other_datacenters_has_a_gossip_key_and_acls_where_they_are_configured() -> None:
    text = TEXT + '[deploy.consul]\njoin_wan = ["10.1.0.21", "[fd00::1]:9302"]\ngossip_key = "gossip"\nacl = true\n'
    token = "?token=/etc/hitmesh/keys/us-west/{role}/consul.token"
    of = fleet(text.replace('8500/hitmesh"', f'8500/hitmesh{token}"').replace('settings"', f'settings{token}"'))
    server = consul_of("store-1", of)
    assert server["retry_join_wan"] == ["10.1.0.21:8302", "[fd00::1]:9302"]
    assert server["acl"]["default_policy"] == "deny"
    program = rendered(consul.files, "store-1", of)["/var/lib/hitmesh/supervisor.d/us-west-consul-1.conf"].text
    for name in ("gossip", "agent"):
        assert f" -config-file=/etc/hitmesh/keys/us-west/consul/{name}.json" in program
    assert "retry_join_wan" not in consul_of("app-1", of)


def test_a_consul_elsewhere_is_nothing_that_a_host_can_run() -> None:
    of = fleet(TEXT.replace("consul://127.0.0.1:8500/hitmesh-settings", "consul://10.9.9.9:8500/hitmesh-settings"))
    with pytest.raises(CommandError, match="speaks HTTP on loopback"):
        consul.files(of, of.host("store-1"))


def test_a_balancers_host_lets_it_bind_a_low_port() -> None:
    text = rendered(system.files, "app-1")["/etc/sysctl.d/60-hitmesh.conf"].text
    assert "net.ipv4.ip_unprivileged_port_start = 80\n" in text
    assert rendered(system.files, "store-1")["/etc/sysctl.d/60-hitmesh.conf"].text == ""


def firewall(host: str, of: Fleet | None = None) -> str:
    return rendered(nftables.files, host, of or with_firewall())["/etc/hitmesh/firewall.nft"].text


def test_there_is_no_firewall_unless_the_file_says_so() -> None:
    assert firewall("app-1", fleet()) == ""


def test_a_firewall_lets_in_who_has_business_with_what_the_host_runs() -> None:
    hosts = "ip saddr { 10.2.0.11, 10.2.0.12/31, 10.2.0.21, 10.2.0.22/31 }"
    app, store = firewall("app-3"), firewall("store-1")
    assert f"{hosts} tcp dport 8010 accept\n" in app
    assert "ip saddr { 10.2.0.11, 10.2.0.12/31 } tcp dport 32768-60999 accept\n" in app
    assert "        tcp dport 8030 accept\n" in app, "rows: other datacenters come from anywhere"
    assert "dport 80 " not in app
    assert f"{hosts} tcp dport 11300 accept\n" in store
    assert f"{hosts} udp dport 8301 accept\n" in store
    assert "8010" not in store


def test_a_balancers_firewall_lets_in_clients_and_the_other_balancers_keepalived() -> None:
    text = firewall("app-1")
    assert "        tcp dport 80 accept\n" in text
    assert "ip saddr { 10.2.0.11, 10.2.0.12 } meta l4proto 112 accept\n" in text


def test_other_datacenters_come_from_the_networks_that_the_file_names() -> None:
    text = firewall("app-1", with_firewall('firewall_others = ["10.1.0.0/24", "fd00:1::/64"]\n'))
    assert "ip saddr { 10.1.0.0/24 } tcp dport { 8020, 8022 } accept\n" in text
    assert "ip6 saddr { fd00:1::/64 } tcp dport 8030 accept\n" in text


def test_a_firewall_knows_no_names() -> None:
    of = fleet(TEXT.replace('"10.2.0.13"', '"app-3.example.com"').replace("[deploy] ", "[deploy]\nfirewall = true\n#"))
    with pytest.raises(CommandError, match=r"app-3\.example\.com: a firewall knows addresses"):
        nftables.files(of, of.host("app-1"))


def test_a_dashboards_page_is_for_its_own_datacenter_and_its_news_are_for_others_too() -> None:
    assert "tcp dport 8040 accept\n" in firewall("app-3")
    assert "        tcp dport 8040 accept\n" not in firewall("app-3"), "whoever looks comes by a balancer, or by ssh"
    assert "        tcp dport 8041 accept\n" in firewall("app-3")
    text = firewall("app-3", with_firewall('firewall_others = ["192.0.2.0/24"]\n'))
    assert "10.2.0.21-10.2.0.23" not in text
    assert "192.0.2.0/24 } tcp dport 8041 accept\n" in text
    assert "192.0.2.0/24 } tcp dport 8040 accept\n" not in text
    assert "8041" not in firewall("app-1")
