"""Routes, in a file and as live settings: what is right, and what each mistake is told as."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hitmesh.config import (
    Alias,
    Empty,
    Hold,
    Proxy,
    Redirect,
    Route,
    Static,
    host_pattern,
    host_port,
    network,
    parse_route,
    route_problems,
)
from hitmesh.errors import ConfigError
from tests.hitmesh.dev_config import Change, configured, mistake

JSON = dict[str, Any]


def refused(data: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_route(data, source="routes/x")
    message = str(raised.value)
    assert "\n" not in message
    return message.removeprefix("routes/x: ")


def test_a_file_without_routes_has_collectors_for_every_host() -> None:
    config = configured(lambda data: data.pop("routes"))
    assert config.routes == {}
    assert config.route_table() == {"default": Proxy(service="collector")}


def test_a_file_with_routes_has_no_others() -> None:
    config = configured(lambda data: data.update(routes={"a.org": {"action": "empty"}}))
    assert config.route_table() == {"a.org": Empty()}


@pytest.mark.parametrize(
    ("data", "route"),
    [
        ({"action": "proxy", "service": "collector"}, Proxy(service="collector")),
        ({"action": "proxy", "backends": ["[::1]:80", "h:1"]}, Proxy(backends=("[::1]:80", "h:1"))),
        ({"action": "redirect", "to": "https://x.org", "status": 308}, Redirect(to="https://x.org", status=308)),
        ({"action": "static", "body": "closed", "status": 503}, Static(body="closed", status=503)),
        ({"action": "empty"}, Empty(status=204)),
        ({"action": "alias", "of": "WWW.x.org."}, Alias(of="www.x.org")),
        ({"action": "hold", "hold_s": 5}, Hold(hold_s=5.0)),
    ],
)
def test_a_live_route_is_what_its_action_says_and_json_again(data: JSON, route: Route) -> None:
    assert parse_route(data, source="x") == route
    assert parse_route(msgspec.json.decode(msgspec.json.encode(route)), source="again") == route


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], 'must be an object such as {"action": "empty", "status": 204}'),
        ({}, 'action is missing ("proxy", "redirect", "static", "empty", "alias" or "hold")'),
        (
            {"action": "proxi"},
            'action must be "proxy", "redirect", "static", "empty", "alias" or "hold", not "proxi"; did',
        ),
        ({"action": 1}, 'action must be "proxy", "redirect"'),
        ({"action": "empty", "stat": 204}, "stat is not a setting; did you mean status?"),
        ({"action": "proxy"}, "service and backends: exactly one of them must be given"),
        ({"action": "proxy", "service": "a", "backends": ["h:1"]}, "service and backends: exactly one of them must"),
        ({"action": "proxy", "service": "No Such"}, "service: 'No Such' can't be a role"),
        ({"action": "proxy", "backends": ["h"]}, "backends: 'h' must be HOST:PORT"),
        ({"action": "proxy", "backends": ["h:0"]}, "backends: 'h:0' must be HOST:PORT"),
        ({"action": "proxy", "backends": ["h:1", "h:1"]}, "backends names the same backend twice"),
        ({"action": "proxy", "service": "a", "sticky": "path"}, 'sticky must be "", "page" or "client", not "path"'),
        ({"action": "proxy", "service": "a", "retry": "always"}, 'retry must be "never" or "idempotent", not "always"'),
        ({"action": "proxy", "service": "a", "rise": 0}, "rise must be a whole number >= 1, not 0"),
        ({"action": "proxy", "service": "a", "fall": 0}, "fall must be a whole number >= 1, not 0"),
        ({"action": "proxy", "service": "a", "check_path": "health"}, "check_path must be a string that matches"),
        ({"action": "proxy", "service": "a", "check_path": "/a b"}, "check_path must be a string that matches"),
        ({"action": "proxy", "service": "a", "check_path": "/a\n"}, "check_path must be a string that matches"),
        ({"action": "redirect"}, "to is missing (an absolute URL, such as https://www.example.com)"),
        ({"action": "redirect", "to": "/x"}, "to: '/x' must be an absolute URL"),
        ({"action": "redirect", "to": "ftp://x"}, "to: 'ftp://x' must be an absolute URL"),
        (
            {"action": "redirect", "to": "https://x\r\nSet-Cookie=a"},
            "to: 'https://x\\r\\nSet-Cookie=a' must be an",
        ),
        ({"action": "redirect", "to": "https://[x"}, "to: 'https://[x' must be an absolute URL"),
        ({"action": "redirect", "to": "https://x/?a=b"}, "to: 'https://x/?a=b' has a query or fragment"),
        ({"action": "redirect", "to": "https://x", "status": 300}, "status must be 301, 302, 303, 307 or 308, not 300"),
        ({"action": "static"}, "file and body: exactly one of them must be given"),
        ({"action": "static", "body": "x", "file": "y"}, "file and body: exactly one of them must be given"),
        ({"action": "static", "body": "x", "status": 204}, "status: an answer 204 has no body"),
        ({"action": "static", "body": "x", "status": 199}, "status must be a whole number >= 200, not 199"),
        ({"action": "static", "body": "x", "type": "text/html\r\nX: y"}, "type must be a string that matches"),
        ({"action": "static", "body": "x", "type": "text/html\n"}, "type must be a string that matches"),
        ({"action": "empty", "status": 600}, "status must be a whole number <= 599, not 600"),
        ({"action": "alias", "of": "x.org:80"}, "of: 'x.org:80' must have no port; did you mean x.org?"),
        ({"action": "hold", "hold_s": 0}, "hold_s must be a number >= 0.05, not 0"),
    ],
)
def test_a_wrong_live_route_is_told_in_one_line(data: object, message: str) -> None:
    assert refused(data).startswith(message)


def test_a_live_route_cannot_read_files() -> None:
    assert refused({"action": "static", "file": "/etc/passwd"}).startswith("file is for a datacenter's configuration")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("default", "default"),
        ("WWW.Example.com", "www.example.com"),
        ("example.com.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_has_one_way_of_writing(text: str, pattern: str) -> None:
    assert host_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("example.com:8000", "must have no port; did you mean example.com?"),
        ("*", 'must be a name; the pattern of every other Host is "default"'),
        ("www.*.com", "must be a name such as www.example.com"),
        ("*example.com", "must be a name such as www.example.com"),
        ("*.*.com", "must be a name such as www.example.com"),
        ("https://example.com", "must be a name such as www.example.com"),
        ("a..b", "must be a name such as www.example.com"),
        ("", "must be a name such as www.example.com"),
        ("a\n", "must be a name such as www.example.com"),
        ("a." * 126 + "aa", "must be a name such as www.example.com"),
        ("bücher.example", "must be ASCII, as browsers send it"),
    ],
)
def test_what_is_no_host_is_told(text: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        host_pattern(text)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "found"), [("h:1", ("h", 1)), ("127.0.0.1:65535", ("127.0.0.1", 65_535)), ("[::1]:80", ("::1", 80))]
)
def test_an_address_is_a_host_and_a_port(text: str, found: tuple[str, int]) -> None:
    assert host_port(text) == found


@pytest.mark.parametrize("text", ["h", "h:", ":1", "h:0", "h:65536", "::1:80", "[zz]:80", "[:::]:80", "h:1 ", "h:1\n"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        host_port(text)


def test_a_single_address_is_a_network() -> None:
    assert str(network("192.0.2.7")) == "192.0.2.7/32"


def routed(*routes: tuple[str, JSON]) -> Change:
    return lambda data: data.update(routes=dict(routes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (routed(("a:8", {"action": "empty"})), 'routes."a:8": a Host must have no port; did you mean a?'),
        (
            routed(("A.org", {"action": "empty"}), ("a.org", {"action": "hold"})),
            'routes."a.org": a.org has two routes',
        ),
        (routed(("a", {"action": "alias", "of": "b"})), 'routes."a".of: there is no route b'),
        (
            routed(("a", {"action": "alias", "of": "defalt"}), ("default", {"action": "empty"})),
            'routes."a".of: there is no route defalt; did you mean default?',
        ),
        (
            routed(("a", {"action": "alias", "of": "b"}), ("b", {"action": "alias", "of": "a"})),
            'routes."a".of: b is an alias itself',
        ),
        (routed(("default", {"action": "proxy"})), "routes.default.service and backends: exactly one of them"),
        (routed(("default", {"action": "prox"})), 'routes.default.action must be "proxy"'),
        (routed(("default", {"action": "empty", "x": 1})), "routes.default.x is not a setting; known here: status"),
        (lambda d: d.update(routes={"default": 3}), "routes.default must be a table, not 3"),
    ],
)
def test_a_wrong_table_is_told_with_the_route_that_is_wrong(change: Change, message: str) -> None:
    assert mistake(change).startswith(message)


def test_an_alias_may_be_of_any_pattern_however_it_is_written() -> None:
    config = configured(routed(("A.org", {"action": "alias", "of": "*.B.org"}), ("*.b.org", {"action": "empty"})))
    assert config.routes == {"a.org": Alias(of="*.b.org"), "*.b.org": Empty()}


def test_a_table_of_live_and_configured_routes_is_checked_as_a_whole() -> None:
    assert list(route_problems({"a": Alias(of="b"), "b": Empty()})) == []
    assert list(route_problems({"a": Alias(of="b")})) == ['routes."a".of: there is no route b']


@pytest.mark.parametrize(
    ("route", "content_type"),
    [
        (Static(file="x/maintenance.HTML"), "text/html; charset=utf-8"),
        (Static(file="x.unheard-of"), "application/octet-stream"),
        (Static(file="x.html", type="text/plain"), "text/plain"),
        (Static(body="x"), "text/plain; charset=utf-8"),
    ],
)
def test_a_static_answer_has_the_type_of_its_file_unless_told(route: Static, content_type: str) -> None:
    assert route.content_type == content_type
