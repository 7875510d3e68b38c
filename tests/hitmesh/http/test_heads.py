"""The heads of an app's answers."""

from __future__ import annotations

import pytest

from hitmesh.http.heads import KEPT, Heads

DATE = b"Date: now\r\n"


def encode(
    status: str,
    headers: list[tuple[str, str]],
    body: bytes = b"",
    *,
    method: bytes = b"GET",
    heads: Heads | None = None,
) -> bytes:
    heads = heads or Heads("test")
    return heads.encode(status, headers, body, method=method, minor=1, keep_alive=True, date=DATE)


START = b"HTTP/1.1 %b\r\nServer: test\r\nDate: now\r\nConnection: keep-alive\r\n"


def test_an_app_s_fields_follow_the_server_s_in_their_order() -> None:
    headers = [("b", "2"), ("A", " 1\t"), ("content-length", "3"), ("b", "3")]
    assert (
        encode("200 OK", headers, b"abc") == START % b"200 OK" + b"b: 2\r\nA: 1\r\ncontent-length: 3\r\nb: 3\r\n\r\nabc"
    )


def test_a_length_is_told_also_where_the_app_didn_t() -> None:
    assert encode("404 Not Found", [], b"abc") == START % b"404 Not Found" + b"Content-Length: 3\r\n\r\nabc"


def test_what_is_the_connection_s_business_is_not_the_app_s() -> None:
    headers = [
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("Date", "then"),
        ("SERVER", "x"),
        ("Upgrade", "h2c"),
    ]
    assert encode("200 OK", headers) == START % b"200 OK" + b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "method", "length"),
    [("200 OK", b"HEAD", True), ("304 Not Modified", b"GET", True), ("204 No Content", b"GET", False)],
)
def test_an_answer_that_may_have_no_body_has_none(status: str, method: bytes, length: bool) -> None:
    line = b"content-length: 7\r\n" if length else b""
    assert encode(status, [("content-length", "7")], b"body", method=method) == START % status.encode() + line + b"\r\n"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK\r\nX: y", []),
        ("", []),
        ("OK", []),
        ("200 OK", [("a", "b\r\nc: d")]),
        ("200 OK", [("a", "b\nc")]),
        ("200 OK", [("a\r\nb", "c")]),
        ("200 OK", [("a b", "c")]),
        ("200 OK", [("", "c")]),
        ("200 OK", [("a", "\u20ac")]),
        ("200 OK", [("content-length", "4")]),
        ("200 OK", [("content-length", "03")]),
        ("200 OK", [("content-length", "3\r\n")]),
    ],
)
def test_what_would_break_the_framing_is_an_error(status: str, headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match=r"status|field|body") as raised:
        encode(status, headers, b"abc")
    assert "c: d" not in str(raised.value), "a value may be secret"


def test_what_clients_bring_in_is_not_remembered_without_end() -> None:
    heads = Heads("test")
    for number in range(3 * KEPT):
        assert b"\r\na: %d\r\n" % number in encode("200 OK", [("a", str(number))], heads=heads)
    assert len(heads._lines) <= KEPT
