"""What of a request reaches the backend, field by field, and what the limits and time-outs cut off."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.balancer.live import LiveLimits
from tests.balancer.wire.answers import read_answers
from tests.balancer.wire.backend import Record, StrictBackend
from tests.balancer.wire.case import chunked, request, sized
from tests.balancer.wire.proxies import ConfiguredBalancer
from tests.balancer.wire.visitor import LONG_S, Visitor

SHORT_S = 0.3
LONGER_S = 120.0  # for all that has time to come
SETTINGS = """
[balancer.limits]
head_s = {longer_s}
idle_s = {short_s}
body_s = {longer_s}
body_bytes = 10
line_bytes = 300
header_bytes = 300
headers = 20
head_bytes = 1024
[routes.default]
action = "proxy"
backends = ["127.0.0.1:{backend}"]
hold = 0
check_path = ""
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[StrictBackend]:
    with StrictBackend() as server:
        yield server


@pytest.fixture(scope="module")
def balancer(backend: StrictBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredBalancer]:
    settings = SETTINGS.format(longer_s=LONGER_S, short_s=SHORT_S, backend=backend.port)
    server = ConfiguredBalancer(tmp_path_factory.mktemp("balancer"), settings)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def live(balancer: ConfiguredBalancer) -> LiveLimits:
    return LiveLimits(balancer.folder / "var" / "wire" / "settings.db", balancer.port)


def _forwarded(balancer: ConfiguredBalancer, backend: StrictBackend, raw: bytes) -> Record:
    with Visitor(balancer.port) as visitor:
        visitor.send(raw)
        answer = visitor.answer()
    assert answer.status == 200
    assert backend.records is not None
    return backend.records[answer.serial]


def _refusal(balancer: ConfiguredBalancer, raw: bytes) -> int:
    with Visitor(balancer.port) as visitor:
        visitor.send(raw)
        answer = visitor.answer()
        assert not answer.serial
        assert visitor.has_ended()
        return answer.status


def test_what_a_stranger_says_of_himself_is_replaced_by_what_is_seen(
    balancer: ConfiguredBalancer, backend: StrictBackend
) -> None:
    said = (b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil", b"X-Request-Id: mine")
    more = (b"Forwarded: for=1.2.3.4", b"X-Forwarded-Ssl: on", b"X-Forwarded-Anything: 1", b"X-Real-IP: 1.2.3.4")
    head = _forwarded(balancer, backend, request(*said, *more)).head
    assert head.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert head.values(b"x-forwarded-proto") == [b"http"]
    assert head.values(b"x-forwarded-host") == [b"a.example"]
    assert head.values(b"forwarded") == [b'for=127.0.0.1;host="a.example";proto=http']
    assert head.values(b"via") == [b"1.1 hitmesh"]
    (request_id,) = head.values(b"x-request-id")
    assert request_id not in (b"", b"mine")
    for name in (b"x-forwarded-ssl", b"x-forwarded-anything", b"x-real-ip"):
        assert head.values(name) == []


def test_no_field_of_the_client_s_connection_reaches_the_backend(
    balancer: ConfiguredBalancer, backend: StrictBackend
) -> None:
    hop = (b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: trailers", b"X-One: 1", b"x-two: 2")
    kept = (b"X-Three: 3", b"X_Four: 4")
    head = _forwarded(balancer, backend, request(b"Connection: keep-alive, x-one,X-TWO", *hop, *kept)).head
    for name in (b"connection", b"keep-alive", b"proxy-connection", b"te", b"x-one", b"x-two"):
        assert head.values(name) == []
    assert head.values(b"x-three") + head.values(b"x_four") == [b"3", b"4"]


def test_connection_can_t_take_away_what_the_balancer_says(
    balancer: ConfiguredBalancer, backend: StrictBackend
) -> None:
    names = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"via", b"x-request-id")
    head = _forwarded(balancer, backend, request(b"Connection: " + b", ".join(names))).head
    assert all(len(head.values(name)) == 1 for name in names)


LIMITED = {
    "a long line": (request(start=b"GET /%b HTTP/1.1" % (b"a" * 400)), 414),
    "a long header line": (request(b"X-A: " + b"a" * 400), 431),
    "many header lines": (request(*[b"X-A: 1"] * 30), 431),
    "a long head": (request(*[b"X-A: " + b"a" * 200] * 6), 431),
    "a large sized body": (sized(b"a" * 11), 413),
    "a large chunk": (chunked(body=b"b\r\naaaaaaaaaaa\r\n0\r\n\r\n"), 413),
    "many small chunks": (chunked(body=b"1\r\na\r\n" * 11 + b"0\r\n\r\n"), 413),
}


@pytest.mark.parametrize("name", LIMITED)
def test_what_is_beyond_a_limit_of_the_configuration_is_refused_and_never_counted(
    name: str, balancer: ConfiguredBalancer, backend: StrictBackend
) -> None:
    raw, status = LIMITED[name]
    before = backend.counts.accepted
    assert _refusal(balancer, raw) == status
    assert backend.counts.accepted == before


def test_a_body_of_just_the_limit_passes(balancer: ConfiguredBalancer, backend: StrictBackend) -> None:
    assert _forwarded(balancer, backend, sized(b"a" * 10)).body.data == b"a" * 10
    assert _forwarded(balancer, backend, chunked(body=b"1\r\na\r\n" * 10 + b"0\r\n\r\n")).body.data == b"a" * 10


@pytest.mark.parametrize(
    "begun",
    [b"G", b"GET / HTTP/1.1\r\nHost: a.example\r\n", sized(b"abc")[:-1], chunked()[:-1], chunked()[:-8]],
    ids=["a byte", "half a head", "half a sized body", "a chunked body without its end", "half a chunk"],
)
def test_the_rest_of_a_request_is_waited_for_until_the_time_out(
    begun: bytes, balancer: ConfiguredBalancer, backend: StrictBackend, live: LiveLimits
) -> None:
    with Visitor(balancer.port) as visitor, live.of(head_s=SHORT_S, body_s=SHORT_S):
        before = backend.counts.accepted
        visitor.send(begun)
        answer = visitor.answer()
        assert (answer.status, answer.serial) == (408, 0)
        assert visitor.has_ended()
        assert backend.counts.accepted == before


@pytest.mark.parametrize("begun", [b"", b"\r\n", request()], ids=["nothing", "an empty line", "a request"])
def test_an_idle_connection_is_closed_without_a_word(
    begun: bytes, balancer: ConfiguredBalancer, live: LiveLimits
) -> None:
    with (
        contextlib.nullcontext() if begun == request() else live.of(head_s=SHORT_S),
        socket.create_connection(("127.0.0.1", balancer.port), timeout=LONG_S) as connection,
    ):
        connection.sendall(begun)
        received = b""
        while data := connection.recv(1000):
            received += data
    assert [answer.status for answer in read_answers(received)] == ([200] if begun == request() else [])
