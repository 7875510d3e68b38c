"""Which route a Host gets, where a redirect leads, and what stands in the settings store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.middle.routes import (
    MAX_HOST_BYTES,
    MAX_STATIC_BYTES,
    MEMO_HOSTS,
    RouteTable,
    location,
    read_static,
)
from hitmesh.config import Alias, Empty, Proxy, Redirect, Route, Static, parse_stored
from hitmesh.errors import ConfigError

COLLECTORS = Proxy(service="collector")
EXACT, NEAR, FAR, LIVE = Empty(status=200), Empty(status=201), Empty(status=202), Empty(status=203)
ROUTES: dict[str, Route] = {
    "default": COLLECTORS,
    "www.example.com": EXACT,
    "*.www.example.com": NEAR,
    "*.example.com": FAR,
    "[::1]": EXACT,
    "also.example.org": Alias(of="www.example.com"),
    "wild.example.org": Alias(of="*.example.com"),
    "lost.example.org": Alias(of="nowhere.example.org"),
    "chain.example.org": Alias(of="also.example.org"),
}


def route_of(host: str | bytes, table: RouteTable | None = None) -> Route | None:
    return (table or RouteTable(ROUTES, {})).find(host).route


# --- which one ----------------------------------------------------------------------------------


def test_an_exact_name_wins_over_a_suffix() -> None:
    assert route_of(b"www.example.com") is EXACT


def test_the_longest_suffix_wins() -> None:
    assert route_of(b"a.www.example.com") is NEAR
    assert route_of(b"a.example.com") is FAR


def test_a_suffix_matches_any_number_of_labels() -> None:
    assert route_of(b"c.b.a.example.com") is FAR
    assert route_of(b".".join([b"a"] * 100) + b".www.example.com") is NEAR


def test_a_suffix_does_not_match_the_name_itself_nor_what_only_ends_alike() -> None:
    assert route_of(b"example.com") is COLLECTORS
    assert route_of(b"badexample.com") is COLLECTORS
    assert route_of(b".example.com") is COLLECTORS


def test_every_other_host_gets_the_default() -> None:
    for host in (b"example.org", b"", b"default", b"127.0.0.1", b"[::2]", b"...", b"*.example.org"):
        assert route_of(host) is COLLECTORS


def test_an_ipv6_address_is_found_in_its_brackets() -> None:
    assert route_of(b"[::1]") is EXACT


def test_a_host_is_found_as_text_and_as_bytes() -> None:
    assert route_of("a.example.com") is route_of(b"a.example.com") is FAR
    assert route_of("\udcff") is COLLECTORS


def test_without_a_default_there_is_no_route_and_the_match_says_so() -> None:
    match = RouteTable({"www.example.com": EXACT}, {}).find(b"example.org")
    assert match.route is None
    assert "no route" in match.problem


def test_a_live_route_wins_over_the_configured_one_of_the_same_pattern() -> None:
    table = RouteTable(ROUTES, {"www.example.com": LIVE, "new.example.com": LIVE})
    assert route_of(b"www.example.com", table) is LIVE
    assert route_of(b"new.example.com", table) is LIVE
    assert [match.name for match in table if match.origin == "live"] == ["www.example.com", "new.example.com"]


def test_a_live_suffix_does_not_win_over_a_configured_exact_name() -> None:
    assert route_of(b"www.example.com", RouteTable(ROUTES, {"*.example.com": LIVE})) is EXACT


# --- aliases ------------------------------------------------------------------------------------


def test_an_alias_has_the_route_it_names_and_its_own_name() -> None:
    match = RouteTable(ROUTES, {}).find(b"also.example.org")
    assert (match.route, match.name, match.target) == (EXACT, "also.example.org", "www.example.com")


def test_an_alias_may_name_a_suffix() -> None:
    assert route_of(b"wild.example.org") is FAR


def test_an_alias_follows_the_live_route_of_what_it_names() -> None:
    assert route_of(b"also.example.org", RouteTable(ROUTES, {"www.example.com": LIVE})) is LIVE


def test_an_alias_of_nothing_has_no_route_and_says_why() -> None:
    match = RouteTable(ROUTES, {}).find(b"lost.example.org")
    assert match.route is None
    assert match.problem == "lost.example.org is an alias of nowhere.example.org, which has no route"


def test_an_alias_of_an_alias_has_no_route_and_says_why() -> None:
    match = RouteTable(ROUTES, {}).find(b"chain.example.org")
    assert match.route is None
    assert "which is an alias itself" in match.problem
    assert RouteTable({"a.example.org": Alias(of="a.example.org")}, {}).find(b"a.example.org").route is None


# --- the memo -----------------------------------------------------------------------------------


def test_the_memo_has_what_was_found() -> None:
    table = RouteTable(ROUTES, {})
    match = table.find(b"a.example.com")
    assert table.memo == {b"a.example.com": match}
    assert table.find(b"a.example.com") is match


def test_hosts_of_one_pattern_share_a_match_and_what_was_made_of_it() -> None:
    table = RouteTable(ROUTES, {})
    table.find(b"a.example.com").made = made = object()
    assert table.find(b"b.example.com").made is made


def test_the_memo_is_bounded_in_number_and_in_length() -> None:
    table = RouteTable(ROUTES, {})
    for number in range(2 * MEMO_HOSTS + 1):
        assert table.find(b"%d.example.com" % number).route is FAR
        assert len(table.memo) <= MEMO_HOSTS
    assert table.find(b"x" * (MAX_HOST_BYTES + 1)).route is COLLECTORS
    assert max(map(len, table.memo)) <= MAX_HOST_BYTES


def naive(host: str, patterns: list[str]) -> str:
    """The rule, said another way."""
    if host in patterns:
        return host
    suffixes = [each for each in patterns if each.startswith("*.") and host.endswith(each[1:]) and host != each[1:]]
    return max(suffixes, key=len, default="default")


names = st.lists(st.sampled_from(["a", "b", "com", "*"]), min_size=1, max_size=4).map(".".join)


@given(patterns=st.lists(names.filter(lambda name: name != "*"), max_size=8), hosts=st.lists(names, max_size=8))
def test_what_is_found_is_what_the_rule_says(patterns: list[str], hosts: list[str]) -> None:
    routes: dict[str, Route] = {name: Empty(status=200) for name in [*patterns, "default"]}
    table = RouteTable(routes, {})
    for host in hosts:
        if not host.startswith("*."):
            assert table.find(host).name == naive(host, list(routes))


# --- redirects ----------------------------------------------------------------------------------


def redirect(to: str = "https://www.example.com", *, keep_path: bool = True) -> Redirect:
    return Redirect(to=to, keep_path=keep_path)


def test_a_redirect_keeps_path_and_query() -> None:
    assert location(redirect(), b"/a/b?c=d%20e") == b"https://www.example.com/a/b?c=d%20e"


def test_a_redirect_without_keep_path_leads_to_its_url_alone() -> None:
    assert location(redirect("https://www.example.com/x?y", keep_path=False), b"/a") == b"https://www.example.com/x?y"


def test_a_path_is_put_behind_the_urls_own_with_one_slash_between() -> None:
    assert location(redirect("https://www.example.com/app/"), b"/a") == b"https://www.example.com/app/a"
    assert location(redirect("https://www.example.com/app"), b"/a") == b"https://www.example.com/app/a"
    assert location(redirect("https://www.example.com/"), b"/") == b"https://www.example.com/"


def test_a_target_in_absolute_form_gives_its_path_only() -> None:
    assert location(redirect(), b"http://other.example.org:80/a?b") == b"https://www.example.com/a?b"
    assert location(redirect(), b"http://other.example.org") == b"https://www.example.com"
    assert location(redirect(), b"http://other.example.org?b") == b"https://www.example.com/?b"


def test_a_target_that_is_no_path_leads_to_the_url_alone() -> None:
    for target in (b"*", b"@evil.example.net", b".evil.example.net", b":1/", b"evil.example.net:443"):
        assert location(redirect(), target) == b"https://www.example.com"


def test_a_path_of_two_slashes_stays_on_the_host() -> None:
    assert location(redirect(), b"//evil.example.net/x") == b"https://www.example.com//evil.example.net/x"
    assert (
        location(redirect("https://www.example.com/"), b"//evil.example.net")
        == b"https://www.example.com//evil.example.net"
    )


def test_what_no_url_may_hold_is_percent_encoded() -> None:
    assert location(redirect(), b'/\\evil"<\r\n\xc3\xa4 x') == b"https://www.example.com/%5Cevil%22%3C%0D%0A%C3%A4%20x"


TARGETS = st.one_of(
    st.binary(max_size=40),
    st.lists(
        st.sampled_from(
            [b"/", b"//", b"\\", b"@", b":", b"?", b"#", b"http://", b"evil.net", b"..", b"\r\n", b"\xff", b"%2f"]
        )
    ).map(b"".join),
)


@given(
    to=st.sampled_from(["https://www.example.com", "http://www.example.com:8080/", "https://www.example.com/a"]),
    target=TARGETS,
)
def test_a_redirect_never_leads_to_another_host(to: str, target: bytes) -> None:
    found = location(redirect(to), target).decode("ascii")
    assert found.isprintable() and " " not in found and "\\" not in found
    assert urlsplit(found)[:2] == urlsplit(to)[:2]
    rest = found.removeprefix(to.removesuffix("/"))
    assert rest[:1] in ("", "/")


# --- static answers -----------------------------------------------------------------------------


def test_a_static_body_is_answered_with_its_type_and_status(tmp_path: Path) -> None:
    answer = read_static(Static(body="grüße", status=503), tmp_path)
    assert (answer.status, answer.body, answer.type) == (503, "grüße".encode(), b"text/plain; charset=utf-8")


def test_a_static_file_is_read_from_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "maintenance.html").write_bytes(b"<h1>soon</h1>")
    answer = read_static(Static(file="maintenance.html"), tmp_path)
    assert (answer.body, answer.type) == (b"<h1>soon</h1>", b"text/html; charset=utf-8")


def test_a_static_file_has_a_largest_size(tmp_path: Path) -> None:
    file = tmp_path / "large.txt"
    file.write_bytes(b"x" * MAX_STATIC_BYTES)
    assert len(read_static(Static(file="large.txt"), tmp_path).body) == MAX_STATIC_BYTES
    file.write_bytes(b"x" * (MAX_STATIC_BYTES + 1))
    with pytest.raises(ConfigError, match=r"large\.txt: it has more than"):
        read_static(Static(file="large.txt"), tmp_path)


@pytest.mark.parametrize("name", ["missing.html", ".", "/dev/zero"])
def test_a_static_file_that_is_none_is_a_mistake(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"static route's file at .*(it is no file|No such file)"):
        read_static(Static(file=name), tmp_path)


# --- stored routes ------------------------------------------------------------------------------


def test_a_stored_route_is_read() -> None:
    assert parse_stored("www.example.com", b'{"action":"empty","status":204}') == Empty(status=204)


@pytest.mark.parametrize(
    ("pattern", "value", "word"),
    [
        ("www.example.com", b"", "not JSON"),
        ("www.example.com", b"\xff", "not JSON"),
        ("www.example.com", b"[" * 100_000, "not JSON"),
        ("www.example.com", b"[]", "a JSON object"),
        ("www.example.com", b'{"action":"empty","staus":204}', "staus"),
        ("www.example.com", b'{"action":"static","file":"/etc/passwd"}', "file"),
        ("WWW.example.com", b'{"action":"empty"}', "no Host"),
        ("a/b", b'{"action":"empty"}', "no Host"),
    ],
)
def test_a_stored_value_that_is_no_route_is_a_mistake_that_is_named(pattern: str, value: bytes, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_stored(pattern, value)
    assert word in str(caught.value)
    assert pattern in str(caught.value)
