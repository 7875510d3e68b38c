"""Which page a line of an access log counts."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitmesh.cli.accesslog import LineError, hit_path
from hitmesh.protocol.pages import page_from_path
from tests.hitmesh.cli.logs import LINES, access_log

TAIL = ' 200 1234 "http://other.example/" "Mozilla/5.0 (X11; Linux)"'


def combined(request: str, before: str = "83.149.9.216 - - [17/May/2015:10:05:03 +0000] ", tail: str = TAIL) -> bytes:
    return f'{before}"{request}"{tail}'.encode("utf-8", "surrogateescape")


def path_of(line: bytes, **options: str) -> str | None:
    try:
        return hit_path(line.decode("utf-8", "surrogateescape"), **options)  # type: ignore[arg-type]
    except LineError:
        return None


def page_of(line: bytes, **options: str) -> str | None:
    path = path_of(line, **options)
    return None if path is None else page_from_path(path)


@pytest.mark.parametrize(
    ("request_line", "page"),
    [
        ("GET /a/b.png HTTP/1.1", "example.com/a/b.png"),
        ("GET / HTTP/1.1", "example.com"),
        ("HEAD /a HTTP/1.0", "example.com/a"),
        ("POST /form HTTP/2.0", "example.com/form"),
        ("OPTIONS * HTTP/1.1", "example.com/*"),
        ("GET /a?page=2&x=/y HTTP/1.1", "example.com/a"),
        ("GET ?x HTTP/1.1", "example.com"),
        ("GET /a%20b HTTP/1.1", "example.com/a b"),
        ("GET /caf%C3%A9 HTTP/1.1", "example.com/café"),
        ("GET /café HTTP/1.1", "example.com/café"),
        ("GET /a%3Fb HTTP/1.1", "example.com/a?b"),
        ("GET /a#b HTTP/1.1", "example.com/a#b"),
        ("GET /a b c HTTP/1.1", "example.com/a b c"),
        ("GET /a//b HTTP/1.1", "example.com/a//b"),
        ("GET //a HTTP/1.1", "example.com//a"),
        ("GET /a/ HTTP/1.1", "example.com/a"),
        ("GET /a", "example.com/a"),
        ("GET http://Other.example:8080/x?y HTTP/1.1", "other.example/x"),
        ("GET http://other.example HTTP/1.1", "other.example"),
        (r"GET /say\"hi\" HTTP/1.1", 'example.com/say"hi"'),  # as Apache writes a quote
        (r"GET /say\x22hi\x22 HTTP/1.1", 'example.com/say"hi"'),  # as nginx does
        (r"GET /caf\xC3\xA9 HTTP/1.1", "example.com/café"),
        (r"GET /a\\b HTTP/1.1", "example.com/a\\b"),
        (r"GET /a\x5Cx22 HTTP/1.1", r"example.com/a\x22"),
        (r"GET /a\db HTTP/1.1", r"example.com/a\db"),
        ("GET /100% HTTP/1.1", "example.com/100%"),
    ],
)
def test_a_request_counts_its_path(request_line: str, page: str) -> None:
    assert page_of(combined(request_line)) == page


@pytest.mark.parametrize(
    ("request_line", "page"),
    [
        ("GET /%E8%F1 HTTP/1.1", "example.com/%E8%F1"),
        ("GET /vim/%094 HTTP/1.1", "example.com/vim/%094"),
        ("GET /%00 HTTP/1.1", "example.com/%00"),
        ("GET /%2e%2e/etc HTTP/1.1", "example.com/%2e%2e/etc"),
        ("GET /../etc HTTP/1.1", "example.com/%2E%2E/etc"),
        ("GET /./a HTTP/1.1", "example.com/%2E/a"),
        (r"GET /\xe8 HTTP/1.1", r"example.com/\xe8"),
        ("GET /a\tb HTTP/1.1", r"example.com/a\tb"),
        (r"GET /a\tb HTTP/1.1", r"example.com/a\tb"),
        (r"GET /a\x0Ab HTTP/1.1", r"example.com/a\x0Ab"),
        ("GET /a\udce8 HTTP/1.1", r"example.com/a\xe8"),  # a Latin-1 byte as it came
    ],
)
def test_a_path_that_is_no_page_counts_as_it_stands_in_the_log(request_line: str, page: str) -> None:
    assert page_of(combined(request_line)) == page


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not a log line",
        combined("-"),
        combined(""),
        combined("GET"),
        combined(r"\x16\x03\x01"),
        combined(r"\x16\x03 \x01"),
        combined("t3 12.2.1"),
        combined("CONNECT a.example:443 HTTP/1.1"),
        combined("OPTIONS sip:nm SIP/2.0"),
        combined("GET http://a b/x HTTP/1.1"),
        combined('GET /a"b HTTP/1.1'),  # a server that doesn't escape: where the target ends isn't told
        combined('GET /a"b HTTP/1.1', tail=' 200 5 "GET /of-the-referrer HTTP/1.1" "-"'),
        b'1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /cut-off-before-its-en',
    ],
)
def test_a_line_without_a_request_is_no_hit(line: bytes) -> None:
    assert path_of(line) is None


@pytest.mark.parametrize("tail", ["", " 200", ' 200 235 "-"', ' 200 235 "-" "Mozilla/5.0 (compat'])
def test_a_line_with_a_broken_tail_counts(tail: str) -> None:
    assert page_of(combined("GET /a HTTP/1.1", tail=tail)) == "example.com/a"


@pytest.mark.parametrize(
    ("before", "site"),
    [
        ("www.Example.org:443 1.2.3.4 - - [x] ", "www.example.org"),
        ("www.example.org 1.2.3.4 - alice [x] ", "www.example.org"),
        ("www.example.org:80 2001:db8::1 - - [x] ", "www.example.org"),
        ("1.2.3.4 - alice [x] ", "mine.example"),
        ("1.2.3.4 - alice smith [x] ", "mine.example"),
        ("2001:db8::1 - - [x] ", "mine.example"),
        ("", "mine.example"),
        ("- 1.2.3.4 - - [x] ", "mine.example"),  # no Host in the request
        ('1.2.3.4 - "jane doe" [x] ', "mine.example"),
        ('1.2.3.4 - "" [x] ', "mine.example"),
        ('1.2.3.4 - "GET /b HTTP/1.1" [x] ', "mine.example"),
        ("1.2.3.4 - jane [admin] doe [x] ", "mine.example"),
        ('"1.2.3.4 - - [x] ', "mine.example"),
        ("203.0.113.5, 10.0.0.1 - - [x] ", "mine.example"),
        ("203.0.113.5, 10.0.0.2, 10.0.0.1 - jane doe [x] ", "mine.example"),
        ("203.0.113.5, 2001:db8::1 - - [x] ", "mine.example"),
        ("www.example.org:80 203.0.113.5, 10.0.0.1 - - [x] ", "www.example.org"),
        ("[2001:db8::5]:443 1.2.3.4 - - [x] ", "[2001:db8::5]"),
    ],
)
def test_a_leading_virtual_host_is_the_site(before: str, site: str) -> None:
    assert page_of(combined("GET /a HTTP/1.1", before=before), site="mine.example") == f"{site}/a"


@pytest.mark.parametrize("host", ["203.0.113.5,10.0.0.1", "u@a.example", "a.example:99999", "a/b", "café.example"])
def test_a_line_whose_host_is_none_is_no_hit(host: str) -> None:
    assert path_of(combined("GET /a HTTP/1.1", before=f"{host} 1.2.3.4 - - [x] ")) is None
    assert path_of(json.dumps({"host": host, "path": "/a"}).encode(), log_format="json") is None


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("2001:db8::5", "2001:db8::5"),
        ("2001:DB8::abcd", "2001:db8::abcd"),
        ("2001:db8:0:0:0:0:0:5", "2001:db8:0:0:0:0:0:5"),
        ("2001:db8:0:0:0:0:0:5:443", "2001:db8:0:0:0:0:0:5"),
        ("2001:db8::5:443", None),  # with a port, or an address with one group more
        ("2001:db8::5:x", None),
        ("a:b:c", None),
    ],
)
def test_an_ipv6_host_without_brackets_is_whole_or_refused(host: str, site: str | None) -> None:
    page = page_of(json.dumps({"host": host, "path": "/a"}).encode(), log_format="json")
    assert page == (f"{site}/a" if site else None)


def test_a_line_that_is_no_hit_says_why() -> None:
    with pytest.raises(LineError, match=r"isn't a path"):
        hit_path(combined("t3 12.2.1").decode())


CADDY = {
    "level": "info",
    "logger": "http.log.access.log0",
    "msg": "handled request",
    "request": {"proto": "HTTP/2.0", "method": "GET", "host": "A.example:8443", "uri": "/x%20y?z", "headers": {}},
    "status": 200,
}


@pytest.mark.parametrize(
    ("record", "page"),
    [
        (CADDY, "a.example/x y"),
        ({"request": {"host": "a.example"}}, None),
        ({"host": "-", "uri": "/x"}, "example.com/x"),
        ({"http_host": "a.example", "request_uri": "/x?y"}, "a.example/x"),
        ({"page": "a.example/x y?z%41"}, "a.example/x y?z%41"),
        ({"host": "A.example:80", "path": "/x%20y?z"}, "a.example/x y"),
        ({"path": "/x"}, "example.com/x"),
        ({"host": "a.example", "request": "GET /x?y HTTP/1.1"}, "a.example/x"),
        ({"host": 3, "path": "/x"}, "example.com/x"),
        ({"host": "a.example"}, None),
        ({"page": 3}, None),
        ({"request": "-"}, None),
        ([1], None),
    ],
)
def test_a_json_line_names_a_page_a_path_or_a_request(record: object, page: str | None) -> None:
    assert page_of(json.dumps(record).encode(), log_format="json") == page


@pytest.mark.parametrize("line", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_a_broken_json_line_is_no_hit(line: bytes) -> None:
    assert path_of(line, log_format="json") is None


def test_a_byte_that_is_not_utf_8_harms_no_other_field_of_a_json_line() -> None:
    assert path_of(b'{"agent": "\xff", "path": "/a"}', log_format="json") == "example.com/a"
    assert path_of(b'{"path": "/\xff"}', log_format="json") == "example.com/%5Cxff"


def test_a_trailing_slash_is_left_to_the_server() -> None:
    assert path_of(combined("GET /a/ HTTP/1.1")) == "example.com/a/"


@given(st.binary(max_size=60).filter(lambda target: not set(target) & set(b'"\\\r\n ')))
def test_whatever_the_target_its_page_is_accepted(target: bytes) -> None:
    path = path_of(b'1.2.3.4 - - [x] "GET /' + target + b' HTTP/1.1" 200 1')
    assert path is not None
    assert page_from_path(path).startswith("example.com")
    assert path.isascii()
    assert not set(path) & set("?# ")


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40))
def test_a_page_survives_its_way_through_a_json_log(text: str) -> None:
    page = "a.example/x" + text
    path = path_of(json.dumps({"page": page}).encode(), log_format="json")
    assert path is not None
    assert unquote(path) == page


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    for log_format in ("combined", "json"):
        path = path_of(line, log_format=log_format)
        assert path is None or path.isascii()


def test_every_line_of_a_log_is_an_acceptable_hit(tmp_path: Path) -> None:
    lines = access_log(tmp_path).read_bytes().splitlines()
    assert len(lines) == LINES
    assert None not in [page_of(line) for line in lines]


def test_the_made_log_has_the_real_ones_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HITMESH_ACCESS_LOG", str(tmp_path / "absent"))
    lines = access_log(tmp_path).read_bytes().splitlines()
    pages = {page_of(line) for line in lines}
    assert len(lines) == LINES
    assert None not in pages
    assert len(pages) > 500


def test_the_real_logs_pages_are_counted_as_an_independent_count_has_them(tmp_path: Path) -> None:
    log = access_log(tmp_path)
    if tmp_path in log.parents:
        pytest.skip("the real log isn't here; HITMESH_ACCESS_LOG names it")
    pages = [page_of(line) for line in log.read_bytes().splitlines()]
    counts = [pages.count(f"example.com{path}") for path in ("/favicon.ico", "", "/style2.css", "/reset.css")]
    assert counts == [807, 575, 546, 538]
