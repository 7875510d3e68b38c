"""The balancer's part of a configuration: where it listens, and what is said of each mistake."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hitmesh.config import Config, Placement, dump, load, parse
from tests.hitmesh.dev_config import Change, configured, mistake

BEYOND = "10.0.0.1"


def test_a_balancer_has_a_port_for_clients_one_for_tls_and_one_for_its_admin() -> None:
    def change(data: dict[str, Any]) -> None:
        data["nodes"]["local"]["balancer"] = 2
        data["ports"]["balancer_tls"] = 8443
        data["balancer"]["tls"]["certificates"] = ["a.pem"]

    assert configured(change).instances("balancer") == [
        Placement("balancer", "balancer-1", "local", "127.0.0.1", 8000, 8443, 8005),
        Placement("balancer", "balancer-2", "local", "127.0.0.1", 8001, 8444, 8006),
    ]


def test_a_listener_whose_port_is_0_is_none() -> None:
    [first] = configured(lambda data: data["ports"].update(balancer_admin=0)).instances("balancer")
    assert (first.port, first.tls_port, first.admin_port) == (8000, None, None)


def test_a_balancer_that_is_not_configured_listens_where_others_do_and_on_any_port() -> None:
    ninth = configured().placement("balancer", "balancer-9")
    assert (ninth.port, ninth.tls_port, ninth.admin_port) == (None, None, 0)


def test_a_datacenter_needs_no_balancer() -> None:
    assert configured(lambda data: data["nodes"]["local"].pop("balancer")).instances("balancer") == []


def test_a_balancer_beyond_loopback_with_a_token_is_allowed() -> None:
    def change(data: dict[str, Any]) -> None:
        data["insecure"] = True
        data["nodes"]["local"].update(address=BEYOND, dashboard=0)
        data["balancer"]["admin_token"] = "secret"

    assert configured(change).instances("balancer")[0].address == BEYOND


def _beyond(data: dict[str, Any], **ports: int) -> None:
    data["insecure"] = True
    data["nodes"]["local"].update(address=BEYOND, dashboard=0)
    data["ports"].update(ports)


def test_a_balancer_beyond_loopback_without_admin_listener_needs_no_token() -> None:
    assert configured(lambda data: _beyond(data, balancer_admin=0)).balancer.admin_token == ""


def _tls(data: dict[str, Any], **tls: object) -> None:
    data["ports"]["balancer_tls"] = 8443
    data["balancer"]["tls"].update(tls)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["balancer"].update(trusted=["10.0.0.1/8"]),
            "trusted: '10.0.0.1/8' must be a network in CIDR or an",
        ),
        (lambda d: d["balancer"].update(trusted=["10.0.0.1/8"]), "did you mean 10.0.0.0/8?"),
        (lambda d: d["balancer"].update(proxy_protocol=["lan"]), "balancer.proxy_protocol: 'lan' must be a network in"),
        (lambda d: d["balancer"].update(admin_token="two words"), "balancer.admin_token must be a string that matches"),
        (lambda d: d["balancer"].update(admin_token="line\n"), "balancer.admin_token must be a string that matches"),
        (lambda d: d["balancer"].update(worker=2), "balancer.worker is not a setting; did you mean workers?"),
        (lambda d: d["balancer"].update(workers=0), "balancer.workers must be a whole number >= 1, not 0"),
        (lambda d: d["balancer"]["limits"].update(idle_s=0), "balancer.limits.idle_s must be a number >= 0.05, not 0"),
        (
            lambda d: d["balancer"]["limits"].update(head_s=-1),
            "balancer.limits.head_s must be a number >= 0.05, not -1",
        ),
        (lambda d: d["balancer"]["limits"].update(tries=0), "balancer.limits.tries must be a whole number >= 1, not 0"),
        (lambda d: d["balancer"]["limits"].update(head=1), "balancer.limits.head is not a setting; did you mean head"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_right(change: Change, message: str) -> None:
    assert message in mistake(change)


@pytest.mark.parametrize("token", ["s3cret word", ["s3cret"], {"token": "s3cret"}])
def test_a_wrong_token_is_not_repeated(token: object) -> None:
    found = mistake(lambda data: data["balancer"].update(admin_token=token))
    assert "balancer.admin_token must be a string" in found
    assert "s3cret" not in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_beyond, "balancer.admin_token is missing: nodes.local.address (10.0.0.1) is beyond loopback"),
        (_tls, "balancer.tls.certificates is empty, and ports.balancer_tls (8443) needs one"),
        (
            lambda d: d["balancer"]["tls"].update(certificates=["a.pem"]),
            "ports.balancer_tls is 0: nobody would be shown",
        ),
        (lambda d: d["balancer"]["tls"].update(redirect=True), "balancer.tls.redirect has nowhere to go"),
        (
            lambda d: d["balancer"]["tls"].update(admin=True),
            "balancer.tls.certificates is empty, and balancer.tls.admin",
        ),
        (
            lambda d: (
                d["balancer"]["tls"].update(admin=True, certificates=["a.pem"]),
                d["ports"].update(balancer_admin=0),
            ),
            "balancer.tls.admin has no listener: ports.balancer_admin is 0",
        ),
        (
            lambda d: d["balancer"]["limits"].update(backend_idle_s=75),
            "balancer.limits.backend_idle_s (75.0) must be below 75.0, after which a collector closes",
        ),
        (
            lambda d: d["balancer"]["limits"].update(line_bytes=20_000),
            "balancer.limits.line_bytes (20000) is more than balancer.limits.head_bytes (16384)",
        ),
        (
            lambda d: d["balancer"]["limits"].update(header_bytes=20_000),
            "balancer.limits.header_bytes (20000) is more than balancer.limits.head_bytes (16384)",
        ),
        (
            lambda d: d["balancer"]["limits"].update(client_burst=5),
            "balancer.limits.client_burst means nothing without",
        ),
        (lambda d: d["ports"].update(balancer=8011), "balancer-1 and collector-2 both want port 8011 of 127.0.0.1"),
        (lambda d: d["ports"].update(balancer_admin=8021), "balancer-1 and nexus-1 both want port 8021 of 127.0.0.1"),
        (lambda d: d["ports"].update(balancer_admin=8000), "balancer-1 wants one port twice; see ports.balancer"),
        (
            lambda d: (d["ports"].update(balancer=65_535), d["nodes"]["local"].update(balancer=2)),
            "balancer-2 would get port 65536; lower ports.balancer",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(change: Change, message: str) -> None:
    assert mistake(change).startswith(message)


def test_files_are_relative_to_the_configuration_that_names_them(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        _tls(data, certificates=["tls/a.pem", "/etc/b.pem"])
        data["routes"]["x.org"] = {"action": "static", "file": "maintenance.html"}

    path = tmp_path / "x.toml"
    path.write_text(dump(configured(change)))
    config = load(path)
    assert config.balancer.tls.certificates == (str(tmp_path / "tls/a.pem"), "/etc/b.pem")
    route = config.routes["x.org"]
    assert getattr(route, "file", "") == str(tmp_path / "maintenance.html")
    assert parse(tomllib.loads(dump(config)), source="dumped") == config


def test_a_configuration_of_every_kind_is_read_back_equal() -> None:
    def change(data: dict[str, Any]) -> None:
        _tls(data, certificates=["a.pem"], redirect=True)
        data["balancer"].update(trusted=["10.0.0.0/8", "::1"])
        data["balancer"]["limits"].update(connect_s=0.5)
        data["routes"] = {
            "*.example.com": {"action": "proxy", "backends": ["127.0.0.1:1", "[::1]:2"]},
            "[::1]": {"action": "static", "body": 'a "quoted"\nline \\ \x7f\x01\u2028é'},
            "a_b": {"action": "alias", "of": "*.example.com"},
        }

    config = configured(change)
    assert isinstance(config, Config)
    assert parse(tomllib.loads(dump(config)), source="dumped") == config
