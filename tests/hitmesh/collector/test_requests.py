"""What may be asked for: bodies, pages and queries as anybody may send them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hitmesh.collector.decoders import MAX_HITS
from hitmesh.collector.requests import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MSGPACK,
    NDJSON,
    ListQuery,
    RequestError,
    _line_by_line,
    batch_of,
    check_text,
    list_query,
    page_of,
)
from hitmesh.config import Pages
from hitmesh.site.naming import Naming

DROP = Naming(Pages())
KEEP_QUERY, KEEP_SLASH = Naming(Pages(query="keep")), Naming(Pages(trailing_slash="keep"))
LINE = b'{"page": "s/a", "count": 1}'


def ndjson(body: bytes, max_pages: int = 100) -> dict[str, int]:
    return batch_of(NDJSON, body, max_pages=max_pages, naming=DROP)


def msgpack(body: bytes, max_pages: int = 100) -> dict[str, int]:
    return batch_of(MSGPACK, body, max_pages=max_pages, naming=DROP)


def refusal(content_type: str | None, body: bytes, max_pages: int = 100) -> RequestError:
    with pytest.raises(RequestError) as raised:
        batch_of(content_type, body, max_pages=max_pages, naming=DROP)
    error = raised.value
    assert error.title
    assert error.description
    assert error.description.isprintable()
    return error


PARTS = (
    b'{"page":"s/a"}',
    b'{"page": "s/b", "count": 3}',
    b'{"page":',
    b'"s/c"}',
    b'{"page":"s/a}',
    b'{s"}',
    b'{"page":"/"}',
    b"{}",
    b'{"page":"s/d?e/"}',
)
BETWEEN = (b"\n", b"\n", b"\n", b"", b" ", b"\r\n", b"\n\n", b"\r", b",", b"\\n")


@given(st.lists(st.sampled_from(PARTS)), st.data(), st.sampled_from([DROP, KEEP_QUERY, KEEP_SLASH]))
@example([PARTS[2], PARTS[3] + PARTS[0]], None, DROP)  # as many objects as lines, and yet not one on each
@example([PARTS[0] + PARTS[1]], None, DROP)  # two on one
def test_a_batch_is_what_its_lines_are_one_after_the_other(
    parts: list[bytes], data: st.DataObject | None, naming: Naming
) -> None:
    between = [data.draw(st.sampled_from(BETWEEN)) if data else b"\n" for _ in parts]
    body = b"".join(part + end for part, end in zip(parts, between, strict=True))

    def said(read: Callable[[], dict[str, int]]) -> dict[str, int] | str:
        try:
            return read()
        except RequestError as error:
            return error.description

    at_once = said(lambda: batch_of(NDJSON, body, max_pages=4, naming=naming))
    assert at_once == said(lambda: _line_by_line(body, 4, naming))


# --- JSON lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (b'{"page": "s/a", "count": 3}', {"s/a": 3}),
        (b'{"page": "s/a", "count": 3}\n', {"s/a": 3}),
        (b'{"page": "s/a"}\n', {"s/a": 1}),
        (b'{"page": "s/a"}\n{"page": "s/b", "count": 2}', {"s/a": 1, "s/b": 2}),
        (b'{"page": "s/a"}\r\n{"page": "s/b"}\r\n', {"s/a": 1, "s/b": 1}),
        (b'\n\n{"page": "s/a"}\n\r\n  \n{"page": "s/b"}\n\n', {"s/a": 1, "s/b": 1}),
        (b'  {"count": 2, "page": "s/a"}  ', {"s/a": 2}),
        (b'{"page": "s/a"}\n{"page": "s/a", "count": 4}', {"s/a": 5}),
        (b'{"page": "s/a/"}\n{"page": "s/a"}', {"s/a": 2}),
        (b'{"page": "s/caf\xc3\xa9"}', {"s/café": 1}),
        (b'{"page": "s/caf\\u00e9"}', {"s/café": 1}),
        (b'{"page": "s/%41?x#y"}', {"s/%41?x#y": 1}),
        (b'{"page": "s/a", "count": %d}' % MAX_HITS, {"s/a": MAX_HITS}),
    ],
)
def test_json_lines_are_read(body: bytes, counts: dict[str, int]) -> None:
    assert ndjson(body) == counts


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b'{"page": "s/a"',
        b'{"page": "s/a"} {"page": "s/b"}',
        b'{"page": "s/a"}]',
        b"[]",
        b'"s/a"',
        b"null",
        b"{}",
        b'{"count": 1}',
        b'{"page": null}',
        b'{"page": 5}',
        b'{"page": "s/a", "count": 0}',
        b'{"page": "s/a", "count": -1}',
        b'{"page": "s/a", "count": %d}' % (MAX_HITS + 1),
        b'{"page": "s/a", "count": 1e30}',
        b'{"page": "s/a", "count": ' + b"9" * 400 + b"}",
        b'{"page": "s/a", "count": 1.5}',
        b'{"page": "s/a", "count": true}',
        b'{"page": "s/a", "count": "1"}',
        b'{"page": "s/a", "count": null}',
        b'{"page": "s/a", "count": NaN}',
        b'{"page": "s/a", "cuont": 1}',
        b'{"page": ' + b"[" * 100_000,
        b'{"page": "s/a", "count": ' + b'{"a":' * 100_000,
        b'{"page": "s/caf\xe9"}',
        b'{"page": "s/\\ud800"}',
        b'{"page": ""}',
        b'{"page": "/a"}',
        b'{"page": "s/../a"}',
        b'{"page": "s/\\u0000"}',
        b'{"page": "s/\\n"}',
        b'{"page": "' + b"x" * 1025 + b'"}',
        b"\x00",
    ],
)
def test_a_bad_line_among_good_ones_refuses_the_batch_and_is_named(line: bytes) -> None:
    error = refusal(NDJSON, LINE + b"\n\n" + line + b"\n" + LINE)
    assert (error.status, error.title[:4]) == (400, "Bad ")
    assert error.description.startswith("line 3: ")


def test_a_byte_order_mark_is_named() -> None:
    error = refusal(NDJSON, b"\xef\xbb\xbf" + LINE)
    assert (error.status, error.description[:7]) == (400, "line 1:")
    assert "byte order mark" in error.description


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n \n"])
def test_an_empty_batch_of_lines_is_refused(body: bytes) -> None:
    assert refusal(NDJSON, body).description == "the batch is empty"


def test_a_batch_may_have_as_many_lines_as_the_limit_and_no_more() -> None:
    lines = [b'{"page": "s/%d"}' % i for i in range(11)]
    assert len(ndjson(b"\n".join(lines[:10]), 10)) == 10
    error = refusal(NDJSON, b"\n".join(lines), 10)
    assert (error.status, "10" in error.description) == (413, True)


def test_lines_of_the_same_page_count_towards_the_limit() -> None:
    assert refusal(NDJSON, b"\n".join([LINE] * 11), 10).status == 413


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"page": "s/a", "count": 0}', "count"),
        (b'{"page": "s/a", "cuont": 1}', "cuont"),
        (b'{"count": 1}', "page"),
    ],
)
def test_a_refusal_names_the_field(line: bytes, words: str) -> None:
    assert words in refusal(NDJSON, line).description


# --- msgpack ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        (b"\x81\xa3s/a\x03", {"s/a": 3}),
        (b"\xde\x00\x01\xa3s/a\x03", {"s/a": 3}),
        (b"\xdf\x00\x00\x00\x01\xa3s/a\x03", {"s/a": 3}),
        (b"\x82\xa3s/a\x03\xa3s/b\xcd\x01\x00", {"s/a": 3, "s/b": 256}),
        (b"\x82\xa3s/a\x03\xa4s/a/\x02", {"s/a": 5}),
        (b"\x81\xa6s/caf\xc3\xa9"[:1] + b"\xa7s/caf\xc3\xa9\x01", {"s/café": 1}),
    ],
)
def test_a_msgpack_map_is_read(body: bytes, counts: dict[str, int]) -> None:
    assert msgpack(body) == counts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        b"\x03",
        b"\xa3s/a",
        b"\x91\xa3s/a",
        b"\xc0",
        b"\xde",
        b"\xdf\x00\x00",
        b"\xdf\x00\x00\x00\x02\xa3s/a\x03",
        b"\x82\xa3s/a\x03",
        b"\x81\xa3s/a",
        b"\x81\xa3s/",
        b"\x81\xa3s/a\x03\x00",
        b"\x81\xa3s/a\x03\x81\xa3s/b\x03",
        b"\x81\xa3s/a\x00",
        b"\x81\xa3s/a\xff",
        b"\x81\xa3s/a\xce\xff\xff\xff\xff",
        b"\x81\xa3s/a\xcf" + b"\xff" * 8,
        b"\x81\xa3s/a\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00",
        b"\x81\xa3s/a\xc3",
        b"\x81\xa3s/a\xa11",
        b"\x81\xa3s/a\xc0",
        b"\x81\xc4\x03s/a\x01",
        b"\x81\x05\x01",
        b"\x81\xa3s/\xff\x01",
        b"\x81\xa0\x01",
        b"\x81\xa2/a\x01",
        b"\x81\xa4s/..\x01",
        b"\x81\xa3s/\x00\x01",
        b"\x81\xda\x04\x01" + b"x" * 1025 + b"\x01",
        b"\x81\xa3s/a" + b"\x91" * 100_000,
        b"\x81\xa3s/a" + b"\x81\xa1a" * 100_000,
        b"\x82\xa3s/a\x01\xa3s/a\x01",
        b"\x81\xa3s/a\xd6\xff\x00\x00\x00\x01",
    ],
    ids=repr,
)
def test_a_bad_map_is_refused(body: bytes) -> None:
    error = refusal(MSGPACK, body)
    assert (error.status, error.title[:4]) == (400, "Bad ")


def test_a_map_may_have_as_many_pages_as_the_limit_and_no_more() -> None:
    pages = {f"s/{i}": 1 for i in range(11)}
    assert len(msgpack(msgspec.msgpack.encode(dict(list(pages.items())[:10])), 10)) == 10
    assert refusal(MSGPACK, msgspec.msgpack.encode(pages), 10).status == 413


def test_a_map_that_announces_more_than_the_limit_is_refused_unread() -> None:
    assert refusal(MSGPACK, b"\xdf\xff\xff\xff\xff").status == 413


def test_a_page_named_twice_in_a_map_is_refused() -> None:
    assert "twice" in refusal(MSGPACK, b"\x82\xa3s/a\x01\xa3s/a\x01").description


def test_a_bad_page_in_a_map_is_named() -> None:
    assert "s/../x" in refusal(MSGPACK, msgspec.msgpack.encode({"s/ok": 1, "s/../x": 1})).description


# --- either -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [None, "", "application/json", "text/plain", "application/x-ndjson2"])
def test_another_content_type_is_refused_with_the_right_ones(content_type: str | None) -> None:
    error = refusal(content_type, LINE)
    assert error.status == 415
    assert NDJSON in error.description
    assert MSGPACK in error.description


@pytest.mark.parametrize("content_type", ["application/x-ndjson; charset=utf-8", "Application/X-NDJSON", NDJSON + " "])
def test_a_content_type_s_case_and_parameters_don_t_matter(content_type: str) -> None:
    assert batch_of(content_type, LINE, max_pages=1, naming=DROP) == {"s/a": 1}


@given(st.binary(max_size=60), st.sampled_from([NDJSON, MSGPACK]))
def test_any_bytes_are_read_or_refused(body: bytes, content_type: str) -> None:
    counts = {"s/a": 1}
    with contextlib.suppress(RequestError):
        counts = batch_of(content_type, body, max_pages=5, naming=DROP)
    assert counts
    assert all(1 <= count <= 5 * MAX_HITS for count in counts.values())


@given(st.dictionaries(st.text("aé/ ", min_size=1, max_size=4).map(lambda end: "s" + end + "x"), st.integers(1, 50)))
def test_both_forms_say_the_same(counts: dict[str, int]) -> None:
    if not counts:
        return
    lines = b"\n".join(msgspec.json.encode({"page": page, "count": count}) for page, count in counts.items())
    assert ndjson(lines) == msgpack(msgspec.msgpack.encode(counts)) == counts


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "page"),
    [
        ("s/a", "s/a"),
        ("s/a/", "s/a"),
        ("s", "s"),
        ("s/", "s"),
        ("s/a//", "s/a/"),
        ("s//a", "s//a"),
        ("s/café", "s/café"),
        ("s/a b%?#", "s/a b%?#"),
        ("s/...", "s/..."),
        ("x" * 1024, "x" * 1024),
        ("x" * 1024 + "/", "x" * 1024),
    ],
)
def test_a_page_is_the_rest_of_the_path(raw: str, page: str) -> None:
    assert page_of(raw, "a=b", DROP) == page


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "/",
        "//",
        "/s/a",
        "x" * 1025,
        "é" * 513,
        "s/\ud800",
        "s/\0",
        "s/a\nb",
        "s/a\x7f",
        "s/\x85",
        "s/\u2028",
        "s/..",
        "../s",
        "s/./a",
        ".",
        "s/a/../b/",
    ],
)
def test_a_page_that_can_t_be_counted_is_refused(raw: str) -> None:
    with pytest.raises(RequestError) as raised:
        page_of(raw, "", DROP)
    assert (raised.value.status, raised.value.title) == (400, "Bad page")


@pytest.mark.parametrize(
    ("naming", "path", "query", "page"),
    [
        (KEEP_QUERY, "s/a", "b=1&c=%20", "s/a?b=1&c=%20"),
        (KEEP_QUERY, "s/a", "", "s/a"),
        (KEEP_QUERY, "s/a/", "b/", "s/a?b/"),
        (KEEP_QUERY, "s/a", "b?c", "s/a?b?c"),
        (KEEP_QUERY, "s/a", "caf\xc3\xa9", "s/a?café"),
        (KEEP_QUERY, "s/a", "x" * 1020, "s/a?" + "x" * 1020),
        (KEEP_SLASH, "s/a/", "b=1", "s/a/"),
        (KEEP_SLASH, "s/a", "", "s/a"),
        (Naming(Pages(query="keep", trailing_slash="keep")), "s/a/", "b=1", "s/a/?b=1"),
    ],
)
def test_what_is_kept_of_a_url_is_the_page(naming: Naming, path: str, query: str, page: str) -> None:
    assert page_of(path, query, naming) == page


@pytest.mark.parametrize(
    ("path", "query"),
    [("", "a=1"), ("/", "a=1"), ("s/a", "\xe9"), ("s/a", "b=\x00"), ("s/a", "x" * 1021), ("s/../a", "b")],
)
def test_a_kept_query_doesn_t_make_a_page_of_what_is_none(path: str, query: str) -> None:
    with pytest.raises(RequestError) as raised:
        page_of(path, query, KEEP_QUERY)
    assert (raised.value.status, raised.value.title) == (400, "Bad page")


@pytest.mark.parametrize("latin", ["s/\xe9", "s/\xed\xa0\x80", "s/\xc0\xaf"])
def test_bytes_that_aren_t_utf_8_are_refused(latin: str) -> None:
    with pytest.raises(RequestError) as raised:
        check_text(latin)
    assert (raised.value.status, raised.value.title) == (400, "Bad page")


@pytest.mark.parametrize("path", ["s/\xe9", "/", "s/../a"])
def test_a_query_that_is_dropped_isn_t_looked_at(path: str) -> None:
    assert page_of("s/a", path, DROP) == "s/a"


@pytest.mark.parametrize(
    ("naming", "counts"),
    [
        (DROP, {"s/a": 3, "s/a?b": 4, "s/a/?b": 8}),
        (KEEP_SLASH, {"s/a": 1, "s/a/": 2, "s/a?b": 4, "s/a/?b": 8}),
        (KEEP_QUERY, {"s/a": 3, "s/a?b": 12}),
        (Naming(Pages(query="keep", trailing_slash="keep")), {"s/a": 1, "s/a/": 2, "s/a?b": 4, "s/a/?b": 8}),
    ],
)
def test_the_pages_of_a_batch_go_by_the_same_rules(naming: Naming, counts: dict[str, int]) -> None:
    given = {"s/a": 1, "s/a/": 2, "s/a?b": 4, "s/a/?b": 8}
    lines = b"\n".join(msgspec.json.encode({"page": page, "count": count}) for page, count in given.items())
    assert batch_of(NDJSON, lines, max_pages=9, naming=naming) == counts
    assert batch_of(MSGPACK, msgspec.msgpack.encode(given), max_pages=9, naming=naming) == counts


# --- the list of totals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({}, ListQuery("", DEFAULT_LIMIT, "", by_total=False)),
        ({"prefix": "s/", "limit": "7", "after": "s/b"}, ListQuery("s/", 7, "s/b", by_total=False)),
        ({"sort": "top", "limit": str(MAX_LIMIT)}, ListQuery("", MAX_LIMIT, "", by_total=True)),
        ({"sort": "page"}, ListQuery("", DEFAULT_LIMIT, "", by_total=False)),
        ({"prefix": "", "limit": "", "after": "", "sort": ""}, ListQuery("", DEFAULT_LIMIT, "", by_total=False)),
        ({"sort": "top", "after": ""}, ListQuery("", DEFAULT_LIMIT, "", by_total=True)),
    ],
)
def test_a_query_is_read(params: dict[str, str], query: ListQuery) -> None:
    assert list_query(params) == query


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": str(MAX_LIMIT + 1)}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "\u0661"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"sort": "count"}, "sort"),
        ({"sort": "top", "after": "s/a"}, "after"),
        ({"prefx": "s"}, "prefx"),
        ({"limit": ["1", "2"]}, "limit"),
    ],
)
def test_a_query_with_a_mistake_is_refused_and_says_which(params: dict[str, object], word: str) -> None:
    with pytest.raises(RequestError) as raised:
        list_query(params)
    assert raised.value.status == 400
    assert word in raised.value.description
    assert len(raised.value.description) < 300
