"""Page names: what may be counted, how a URL names it, and which partition counts it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hitmesh.errors import PageError
from hitmesh.protocol.pages import (
    MAX_PAGE_BYTES,
    are_plain,
    check_page,
    page_from_path,
    page_to_path,
    partition_of,
    trim,
)

KEPT = {
    "a site and a path": "www.example.com/blog/post.html",
    "a site alone": "www.example.com",
    "two slashes": "a//b",
    "a dot in a segment": "a/.well-known/..b/c.",
    "three dots": "a/...",
    "a space": "a/open source",
    "a percent sign": "a/100%",
    "what looks like an escape": "a/%41",
    "a question mark and a hash": "a/b?c#d",
    "an accent": "a/café",
    "an accent as a character of its own": "a/cafe\u0301",
    "emoji": "a/\U0001f600",
    "emoji joined by a format character": "a/\U0001f468\u200d\U0001f469",
    "right-to-left text": "a/\u05e9\u05dc\u05d5\u05dd",
    "a right-to-left mark": "a/\u200fb",
    "a no-break space": "a/b\u00a0c",
    "a code point that nobody has assigned": "a/\u0378",
    "1,024 bytes": "a/" + "b" * 1022,
    "1,024 bytes of long characters": "\U0001f600" * 256,
}
REFUSED = {
    "nothing": "",
    "a slash": "/",
    "two slashes": "//",
    "a slash before the site": "/a/b",
    "a NUL": "a/\0b",
    "a tab": "a/\tb",
    "a line feed at the end": "a/b\n",
    "an escape character": "a/\x1b[0m",
    "a delete character": "a/\x7f",
    "a control character above ASCII": "a/\x85",
    "a line separator": "a/\u2028b",
    "a paragraph separator": "a/\u2029b",
    "half a surrogate pair": "a/\ud800",
    "a segment of one dot": "a/./b",
    "a segment of two dots": "a/../b",
    "two dots at the end": "a/..",
    "two dots at the beginning": "../a",
    "one dot alone": ".",
    "1,025 bytes": "a/" + "b" * 1023,
    "1,025 bytes of few characters": "a" + "\U0001f600" * 256,
}


def any_page() -> st.SearchStrategy[str]:
    """Pages that may be counted, odd characters preferred."""
    odd = st.sampled_from(list("/%?#&+ .~\"'<>\\\u200d\u05d0\U0001f600\u00e9"))
    return st.text(st.one_of(odd, st.characters(exclude_categories=["Cs"])), max_size=40).filter(is_page)


def is_page(text: str) -> bool:
    try:
        check_page(text)
    except PageError:
        return False
    return True


@pytest.mark.parametrize("page", KEPT.values(), ids=KEPT.keys())
def test_it_is_a_page_and_unchanged(page: str) -> None:
    assert check_page(page) == page


@pytest.mark.parametrize("page", KEPT.values(), ids=KEPT.keys())
def test_a_page_comes_back_from_its_path(page: str) -> None:
    assert page_from_path(page_to_path(page)) == page


@pytest.mark.parametrize("page", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_not_a_page(page: str) -> None:
    with pytest.raises(PageError):
        check_page(page)


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("a/b", "a/b"),
        ("a/b/", "a/b"),
        ("a/b//", "a/b/"),
        ("a/", "a"),
        ("a//b", "a//b"),
        ("a%2Fb", "a/b"),
        ("a/b%2f", "a/b"),
        ("a/open%20source", "a/open source"),
        ("a/b+c", "a/b+c"),
        ("a/%2541", "a/%41"),
        ("a/%", "a/%"),
        ("a/%zz", "a/%zz"),
        ("a/caf%C3%A9", "a/café"),
        ("a/café", "a/café"),
        ("a/b;c=d", "a/b;c=d"),
    ],
)
def test_a_path_names_its_page(path: str, page: str) -> None:
    assert page_from_path(path) == page


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "%2F", "/a", "%2Fa"),
        *("a/%00", "a/%094", "a/%0A", "a/%7F", "a/%C2%85", "a/%E2%80%A8"),
        *("a/%2e%2E/b", "a/..", "a/../"),
        *("a/%E8%F1", "a/%C0%AF", "a/%ED%A0%80", "a/\udce9"),
        "a/" + "%41" * 1023,
    ],
)
def test_a_path_that_names_no_page_is_refused(path: str) -> None:
    with pytest.raises(PageError):
        page_from_path(path)


def test_a_trailing_slash_stays_where_the_setting_says_so() -> None:
    assert page_from_path("a/b/", drop_trailing_slash=False) == "a/b/"


def test_a_page_of_the_greatest_size_may_have_a_trailing_slash_that_is_dropped() -> None:
    assert page_from_path("a" * MAX_PAGE_BYTES + "/") == "a" * MAX_PAGE_BYTES


def test_a_refusal_says_why() -> None:
    with pytest.raises(PageError, match=r"1025 bytes; the limit is 1024"):
        check_page("a" * 1025)
    with pytest.raises(PageError, match=r"control character U\+0009"):
        check_page("a/\tb")
    with pytest.raises(PageError, match=r"path segment '\.\.'"):
        check_page("a/../b")


def test_only_one_trailing_slash_is_trimmed() -> None:
    assert [trim("a"), trim("a/"), trim("a//"), trim("/")] == ["a", "a", "a/", ""]


@given(st.lists(any_page(), max_size=5), st.none() | st.text("/.\n\r ?a\x00\u2028\u00ad\udc80é", max_size=9))
@example(["a/b", "c"], None)
@example(["a/b", "é" * 512], None)
@example(["a/b", "é" * 513], None)
@example(["a/b"], "a" * 1025)
@example(["a/b"], "")
def test_plain_pages_are_pages_as_they_stand(pages: list[str], other: str | None) -> None:
    pages = [*pages, *([] if other is None else [other])]
    if are_plain(pages):
        assert [trim(check_page(page)) for page in pages] == pages
        assert not any("?" in page for page in pages)


@pytest.mark.parametrize(
    "page", ["", "/", "/a", "a/", "a/.", "a/../b", ".", "..", "a\nb", "a\n", "\n", "a\x00", "a?b", "é" * 513, "\ud800"]
)
def test_one_page_that_is_not_plain_among_others_is_looked_at(page: str) -> None:
    assert are_plain(["s/a", "s//b/.c/..d", "s/é"])
    assert not are_plain(["s/a", page, "s/b"])
    assert not are_plain([page])


@given(any_page())
def test_any_page_comes_back_from_its_path(page: str) -> None:
    assert page_from_path(page_to_path(page), drop_trailing_slash=False) == page


@given(any_page())
def test_dropping_a_slash_changes_nothing_else(page: str) -> None:
    if not page.endswith("/"):
        assert page_from_path(page_to_path(page)) == page
        assert page_from_path(page_to_path(page) + "/") == page


@given(any_page())
def test_a_pages_path_is_ascii_without_what_a_url_reserves(page: str) -> None:
    assert page_to_path(page).isascii()
    assert not set(page_to_path(page)) & set(' ?#"<>\\')


@given(st.text(max_size=60))
@example("a/\udfff")
def test_no_path_raises_anything_but_a_page_error(path: str) -> None:
    try:
        page = page_from_path(path)
    except PageError:
        return
    assert check_page(page) == page


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_page_error(raw: bytes) -> None:
    try:
        page = page_from_path(raw.decode("latin-1"))
    except PageError:
        return
    assert 0 < len(page.encode()) <= MAX_PAGE_BYTES


@pytest.mark.parametrize(
    ("page", "partitions", "partition"),
    [
        ("123456789", 4096, 0x926),  # the check value of this CRC is cbf43926
        ("123456789", 32, 6),
        ("123456789", 1, 0),
        ("a/b", 32, 28),
        ("a/b/", 32, 27),
        ("a/café", 32, 4),
    ],
)
def test_a_page_is_counted_by_the_partition_of_its_crc(page: str, partitions: int, partition: int) -> None:
    assert partition_of(page, partitions) == partition


def test_many_pages_spread_over_all_partitions() -> None:
    counted = [0] * 32
    for number in range(3_200):
        counted[partition_of(f"www.example.com/page-{number}", 32)] += 1
    assert min(counted) > 50
    assert max(counted) < 200
