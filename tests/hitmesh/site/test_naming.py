"""Which page a URL is, by each rule and by several of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.config import Pages
from hitmesh.errors import PageError
from hitmesh.site.naming import Naming, NotAllowed
from hitmesh.site.patterns import matches, names

QUERY = "utm_source=a&b=2&id=1&b=3&flag"


@pytest.mark.parametrize(
    ("rules", "path", "query", "page"),
    [
        (Pages(), "s/a/", QUERY, "s/a"),
        (Pages(), "S/A/index.html", "", "S/A/index.html"),
        (Pages(trailing_slash="keep"), "s/a/", "", "s/a/"),
        (Pages(query="keep"), "s/a", QUERY, f"s/a?{QUERY}"),
        (Pages(query_keep=("id", "b")), "s/a", QUERY, "s/a?id=1&b=2&b=3"),
        (Pages(query_keep=("flag",)), "s/a/", QUERY, "s/a?flag"),
        (Pages(query_keep=("none",)), "s/a", QUERY, "s/a"),
        (Pages(query_keep=("id",)), "s/a", "", "s/a"),
        (Pages(case="lower"), "S.Example/CAFÉ", "", "s.example/café"),
        (Pages(case="lower", query="keep"), "S/A", "B=C", "s/a?B=C"),
        (Pages(index_files=("index.html", "index.php")), "s/a/index.php", "", "s/a"),
        (Pages(index_files=("index.html",)), "s/index.html", "", "s"),
        (Pages(index_files=("index.html",)), "index.html", "", "index.html"),
        (Pages(index_files=("index.html",)), "s/an-index.html", "", "s/an-index.html"),
        (Pages(index_files=("index.html",), case="lower"), "s/a/INDEX.html", "", "s/a"),
        (Pages(index_files=("index.html",), trailing_slash="keep"), "s/a/index.html", "", "s/a/"),
        (Pages(merge={"s/old": "t/new"}), "s/old/", "", "t/new"),
        (Pages(merge={"s/old": "s/new", "s/new": "s/newest"}), "s/old", "", "s/new"),
        (Pages(merge={"s/u/*": "s/u"}), "s/u/1/2", "", "s/u"),
        (Pages(merge={"s/u/*": "s/u", "s/u/me": "s/me"}), "s/u/me", "", "s/me"),
        (Pages(merge={"*/amp": "s/amp", "s/*": "s/other"}), "s/a/amp", "", "s/amp"),
        (Pages(query="keep", merge={"s/a?b=c": "s/c"}), "s/a", "b=c", "s/c"),
        (Pages(merge={"*.s/*": "s/any", "www.s/a*": "s/a"}), "www.s/a", "", "s/any"),
        (Pages(merge={"*.s/*": "s/any", "www.s/a*": "s/a"}), "ftp.s/b", "", "s/any"),
        (Pages(merge={"t/*": "s/t", "*": "s/rest"}), "u/a", "", "s/rest"),
        (Pages(query="keep", merge={"s?*": "s"}), "s", "b=c", "s"),
        (Pages(allow=("t/blog/*",), index_files=("index.html",)), "t/blog/index.html", "", "t/blog"),
        (Pages(allow=("s",)), "s/a", "", "s/a"),
        (Pages(allow=("*.s.example",)), "www.s.example/a", "", "www.s.example/a"),
        (Pages(allow=("t/blog/*", "t/blog")), "t/blog/", "", "t/blog"),
        (Pages(allow=("t",), merge={"s/*": "t/a"}), "s/b", "", "t/a"),
    ],
)
def test_a_page_is_named_by_the_rules(rules: Pages, path: str, query: str, page: str) -> None:
    assert Naming(rules).page(path, query) == page


@pytest.mark.parametrize(
    ("allow", "path"),
    [
        (("s",), "t/a"),
        (("s",), "t/s"),
        (("*.s.example",), "s.example/a"),
        (("t/blog/*",), "t/a"),
        (("s", "t/a"), "t/a/b"),
    ],
)
def test_a_page_that_is_not_allowed_is_refused(allow: tuple[str, ...], path: str) -> None:
    with pytest.raises(NotAllowed):
        Naming(Pages(allow=allow)).page(path)


@pytest.mark.parametrize("rules", [Pages(), Pages(case="lower", index_files=("index.html",), query="keep")])
@pytest.mark.parametrize("path", ["", "/", "/a", "s/../t", "s/\x00", "x" * 1025, "s/a\ud800"])
def test_what_is_no_page_is_none_by_any_rules(rules: Pages, path: str) -> None:
    with pytest.raises(PageError):
        Naming(rules).page(path, "a=b")


def test_a_query_that_makes_a_page_too_long_is_refused() -> None:
    with pytest.raises(PageError, match="limit is 1024"):
        Naming(Pages(query_keep=("q",))).page("s/" + "x" * 1000, "q=" + "y" * 30)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_a_pattern_matches_what_its_regular_expression_does(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL)
    assert matches(pattern, text) == bool(expected)


def test_an_entry_without_a_slash_is_a_site() -> None:
    assert names("*.example.com", "www.example.com/a/b")
    assert names("example.com", "example.com?id=1")
    assert not names("*.example.com", "evil.org/www.example.com")
    assert not names("*.example.com", "evil.org?www.example.com")
    assert not names("example.com", "example.com.evil.org/a")
    assert names("example.com/blog/*", "example.com/blog")
    assert not names("example.com/blog*", "example.com/blo")
