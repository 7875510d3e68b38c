"""What a request's head must be, to a collector itself as through a balancer; and what every answer's head has."""

from __future__ import annotations

import contextlib

import pytest

from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS, FIELD_BYTES, FIELDS, HEAD_BYTES, LINE_BYTES
from hitmesh.settings.open import open_settings
from tests.hitmesh.collector.raw import Raw
from tests.hitmesh.collector.test_app import assert_error, nothing_counted
from tests.services import wait_for
from tests.system.mesh import Answer, Mesh

HOST = "Host: h"


def ask(address: tuple[str, int], *lines: str) -> Answer:
    """The answer to one head."""
    with Raw(address) as raw:
        return raw.ask("\r\n".join((*lines, "", "")).encode())


# --- Host and method ----------------------------------------------------------------------------

BAD_HOSTS = [
    (),
    ("Host:",),
    ("Host: ",),
    ("Host: u@h",),
    ("Host: h/p",),
    ("Host: a,b",),
    ("Host: a, b",),
    ("Host: a b",),
    ("Host: http://h",),
    ("Host: h:port",),
    ("Host: h:99999",),
    ("Host: [h",),
    ("Host: h?q",),
    ("Host: h", "Host: h"),
    ("Host: h", "Host: g"),
    ("Host : h",),
]


@pytest.mark.parametrize("hosts", BAD_HOSTS)
def test_a_request_without_one_good_host_is_a_400(mesh: Mesh, hosts: tuple[str, ...]) -> None:
    assert_error(ask(mesh.address(), "POST /hit/s/a HTTP/1.1", *hosts, "Content-Length: 0"), 400)


def test_a_request_without_one_good_host_counts_nothing(mesh: Mesh) -> None:
    with nothing_counted(mesh):
        for hosts in BAD_HOSTS:
            ask(mesh.address(), "GET /hit/bad/host HTTP/1.1", *hosts)
        ask(mesh.address(), "GET /hit/bad/host HTTP/1.0", "Host: u@h")


@pytest.mark.parametrize("hosts", [(), ("Host: h",), ("Host: h:80",), ("Host: [::1]:80",), ("Host: 127.0.0.1",)])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_good_host_and_none_with_http_1_0_are_taken(mesh: Mesh, version: str, hosts: tuple[str, ...]) -> None:
    if hosts or version == "HTTP/1.0":
        assert ask(mesh.address(), f"GET /hit/good/host {version}", *hosts, "Connection: close").status == 200


@pytest.mark.parametrize(("method", "status"), [("X" * 32, 400), ("X" * 33, 400), ("GET" * 100, 400)])
def test_a_method_that_is_none_is_a_400(mesh: Mesh, method: str, status: int) -> None:
    assert_error(ask(mesh.address(), f"{method} /hit/s/a HTTP/1.1", HOST), status)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CONNECT h:80 HTTP/1.1", 404),
        ("CONNECT /hit/s/a HTTP/1.1", 405),
        ("TRACE /hit/s/a HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 404),
    ],
)
def test_what_is_for_proxies_counts_nothing(mesh: Mesh, line: str, status: int) -> None:
    with nothing_counted(mesh):
        assert_error(ask(mesh.address(), line, HOST), status)


# --- sizes --------------------------------------------------------------------------------------


def line_of(size_bytes: int) -> list[str]:
    line = "GET /hit/sizes/line?{} HTTP/1.1"
    return [line.format("x" * (size_bytes - len(line.format("")))), HOST]


def field_of(size_bytes: int) -> list[str]:
    return ["GET /hit/sizes/field HTTP/1.1", HOST, "X-Long: ".ljust(size_bytes, "x")]


def fields(count: int) -> list[str]:
    return ["GET /hit/sizes/fields HTTP/1.1", HOST, *(f"X-{number}: x" for number in range(count - 1))]


def head_of(size_bytes: int) -> list[str]:
    """A head whose lines are within their bounds."""
    lines = ["GET /hit/sizes/head HTTP/1.1", HOST]
    left = size_bytes - sum(len(line) + 2 for line in lines) - 2
    while left:
        size = left if left <= FIELD_BYTES else FIELD_BYTES // 2
        lines.append("X-Long: ".ljust(size - 2, "x"))
        left -= size
    assert len("\r\n".join((*lines, "", ""))) == size_bytes
    return lines


@pytest.mark.parametrize(
    "lines",
    [
        *(line_of(size) for size in range(LINE_BYTES - 3, LINE_BYTES + 1)),
        *(field_of(size) for size in range(FIELD_BYTES - 4, FIELD_BYTES + 1)),
        fields(FIELDS),
        head_of(HEAD_BYTES),
    ],
    ids=lambda lines: f"{max(map(len, lines))} bytes, {len(lines)} lines",
)
def test_what_a_balancer_takes_a_collector_takes(address: tuple[str, int], lines: list[str]) -> None:
    assert ask(address, *lines).status == 200


@pytest.mark.parametrize(
    ("lines", "status"), [(line_of(LINE_BYTES + 1), 414), (field_of(FIELD_BYTES + 1), 431)], ids=["line", "field"]
)
def test_a_longer_line_is_refused(address: tuple[str, int], lines: list[str], status: int) -> None:
    assert_error(ask(address, *lines), status)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (fields(FIELDS + ADDED_FIELDS), fields(FIELDS + ADDED_FIELDS + 1)),
        (head_of(HEAD_BYTES + ADDED_BYTES), head_of(HEAD_BYTES + ADDED_BYTES + 1)),
    ],
    ids=["fields", "head"],
)
def test_a_collector_has_room_for_what_a_balancer_adds_and_no_more(mesh: Mesh, good: list[str], bad: list[str]) -> None:
    assert ask(mesh.address(), *good).status == 200
    assert_error(ask(mesh.address(), *bad), 431)


def test_a_live_limit_holds_for_connections_that_are_open(mesh: Mesh) -> None:
    request = "\r\n".join((*line_of(5000), "", "")).encode()
    settings = open_settings(mesh.config.stores.settings, mesh.folder / mesh.config.name)
    with contextlib.closing(settings), Raw(mesh.address()) as raw:
        assert raw.ask(request).status == 200
        settings.set("balancer.limits.line_bytes", b"4096", author="test")
        try:
            wait_for(lambda: raw.ask(request).status == 414, what="the limit to be in force")
        finally:
            settings.delete("balancer.limits.line_bytes", author="test")
    wait_for(lambda: ask(mesh.address(), *line_of(5000)).status == 200, what="the file's limit to be in force again")


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /hit/s/a HTTP/1.1", 200),
        ("GET /total/s/a HTTP/1.1", 200),
        ("GET /totals HTTP/1.1", 200),
        ("GET /health HTTP/1.1", 200),
        ("HEAD /health HTTP/1.1", 200),
        ("GET /hit/s/../a HTTP/1.1", 400),
        ("GET /totals?limit=0 HTTP/1.1", 400),
        ("GET /nothing HTTP/1.1", 404),
        ("PUT /hit/s/a HTTP/1.1", 405),
        ("BREW /hit/s/a HTTP/1.1", 400),
        ("POST /hits HTTP/1.1", 415),
        ("nonsense", 400),
        ("GET /hit/s/a HTTP/2.0", 505),
        ("GET /" + "x" * 9000 + " HTTP/1.1", 414),
    ],
)
def test_every_answer_is_json_for_any_origin_that_nobody_keeps(mesh: Mesh, line: str, status: int) -> None:
    answer = ask(mesh.address(), line, HOST, "Origin: https://example.com", "Connection: close")
    assert answer.status == status
    fields = {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "access-control-allow-origin": "*",
    }
    assert answer.headers.items() >= fields.items()
