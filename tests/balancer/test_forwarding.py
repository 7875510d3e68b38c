"""What a backend sees of a request's head, and a client of an answer's."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.balancer.stage import LONG_S, OK, Instance, backends, proxy, sized, staged
from tests.balancer.wire.answers import Answer, read_answers
from tests.balancer.wire.scripted import ScriptedBackend
from tests.balancer.wire.visitor import Visitor

STRANGER, TRUSTED = "127.0.0.1", "127.0.2.7"
Fields = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    routes = {"default": proxy(backend.port)}
    with staged(tmp_path_factory.mktemp("forwarding"), routes, balancer={"trusted": ["127.0.2.0/24"]}) as instance:
        yield instance


def exchanged(balancer: Instance, *requests: bytes, address: str = STRANGER) -> list[Answer]:
    """The answers to requests on one connection, each sent after the one before is answered."""
    with socket.create_connection(
        ("127.0.0.1", balancer.port), timeout=LONG_S, source_address=(address, 0)
    ) as connection:
        answers = []
        for request in requests:
            connection.sendall(request)
            received = b""
            while not (found := _whole(received)) and (data := connection.recv(65_536)):
                received += data
            answers += found or read_answers(received)
        return answers


def _whole(received: bytes) -> list[Answer]:
    answers = read_answers(received) if b"\r\n\r\n" in received else []
    names = {name for answer in answers for name, _ in answer.fields}
    known = {b"content-length", b"transfer-encoding"} & names
    return answers if answers and answers[0].whole and known else []


def seen(backend: ScriptedBackend, number: int = -1) -> tuple[bytes, Fields]:
    """The request line and the fields, names in small letters, of a request that reached the backend."""
    line, *lines = backend.heads[number].split(b"\r\n")
    pairs = (each.partition(b":") for each in lines)
    return line, [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]


def values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for each, value in fields if each == name]


def forwarded(
    balancer: Instance,
    backend: ScriptedBackend,
    *lines: bytes,
    address: str = STRANGER,
    line: bytes = b"GET / HTTP/1.1",
) -> Fields:
    """The fields that the backend sees of a request with these."""
    request = b"\r\n".join([line, b"Host: A.Example:8000", *lines, b"", b""])
    assert exchanged(balancer, request, address=address)[0].status == 200
    return seen(backend)[1]


SPOOFED = (
    b"X-Forwarded-For: 10.0.0.1",
    b"x-forwarded-for: 10.0.0.2",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: elsewhere.example",
    b"X-Forwarded-Port: 443",
    b"X-Real-IP: 10.0.0.3",
    b"Forwarded: for=10.0.0.4",
    b"X-Request-Id: theirs",
    b"Via: 1.1 theirs",
)


def test_what_a_stranger_says_of_those_before_it_is_dropped(balancer: Instance, backend: ScriptedBackend) -> None:
    fields = forwarded(balancer, backend, *SPOOFED)
    assert values(fields, b"x-forwarded-for") == [b"127.0.0.1"]
    assert values(fields, b"x-forwarded-proto") == [b"http"]
    assert values(fields, b"x-forwarded-host") == [b"A.Example:8000"]
    assert values(fields, b"forwarded") == [b'for=127.0.0.1;host="A.Example:8000";proto=http']
    assert values(fields, b"x-forwarded-port") == values(fields, b"x-real-ip") == []
    [request_id] = values(fields, b"x-request-id")
    assert request_id not in (b"", b"theirs")


def test_what_a_trusted_proxy_says_is_kept_and_added_to(balancer: Instance, backend: ScriptedBackend) -> None:
    fields = forwarded(balancer, backend, *SPOOFED, address=TRUSTED)
    assert values(fields, b"x-forwarded-for") == [b"10.0.0.1, 10.0.0.2, 127.0.2.7"]
    assert values(fields, b"x-forwarded-proto") == [b"https"]
    assert values(fields, b"x-forwarded-host") == [b"elsewhere.example"]
    assert values(fields, b"x-forwarded-port") == [b"443"]
    assert values(fields, b"x-real-ip") == [b"10.0.0.3"]
    assert values(fields, b"forwarded") == [b'for=10.0.0.4, for=127.0.2.7;host="A.Example:8000";proto=http']
    assert values(fields, b"x-request-id") == [b"theirs"]


def test_what_a_trusted_proxy_leaves_out_is_said_by_us(balancer: Instance, backend: ScriptedBackend) -> None:
    fields = forwarded(balancer, backend, address=TRUSTED)
    assert values(fields, b"x-forwarded-for") == [b"127.0.2.7"]
    assert values(fields, b"x-forwarded-proto") == [b"http"]
    assert values(fields, b"x-forwarded-host") == [b"A.Example:8000"]
    assert len(values(fields, b"x-request-id")) == 1


def test_every_request_has_an_id_of_its_own(balancer: Instance, backend: ScriptedBackend) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    exchanged(balancer, *[request] * 20)
    exchanged(balancer, request)
    ids = [values(seen(backend, -number)[1], b"x-request-id")[0] for number in range(1, 22)]
    assert len(set(ids)) == 21


@pytest.mark.parametrize("address", [STRANGER, TRUSTED])
def test_via_names_us_behind_those_who_came_before(address: str, balancer: Instance, backend: ScriptedBackend) -> None:
    fields = forwarded(balancer, backend, b"Via: 1.0 fred, 1.1 p.example", address=address)
    assert values(fields, b"via") == [b"1.0 fred, 1.1 p.example", b"1.1 hitmesh"]


@pytest.mark.parametrize("address", [STRANGER, TRUSTED])
def test_what_is_for_one_connection_only_stays_there_and_all_else_passes_as_it_came(
    address: str, balancer: Instance, backend: ScriptedBackend
) -> None:
    fields = forwarded(
        balancer,
        backend,
        b"Connection: keep-alive, X-Hop ,, x-other",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic eA==",
        b"TE: trailers",
        b"Upgrade: h2c",
        b"X-Other: 2",
        b"Authorization: Basic eA==",
        b"Cookie: a=1; b=2",
        b"X-EMPTY:",
        b"Accept: text/html,\t*/*;q=0.1",
        b"Cookie: c=3",
        address=address,
    )
    ours = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"via", b"x-request-id"}
    assert [pair for pair in fields if pair[0] not in ours] == [
        (b"host", b"A.Example:8000"),
        (b"authorization", b"Basic eA=="),
        (b"cookie", b"a=1; b=2"),
        (b"x-empty", b""),
        (b"accept", b"text/html,\t*/*;q=0.1"),
        (b"cookie", b"c=3"),
    ]


def test_a_head_does_not_depend_on_the_one_before(balancer: Instance, backend: ScriptedBackend) -> None:
    heads = [
        b"Host: a\r\nX-A: 1\r\n",
        b"Host: a\r\nConnection: keep-alive\r\n",
        b"Host: a\r\nConnection: keep-alive\r\n",
        b"Host: a\r\nConnection: x-a\r\nX-A: 1\r\n",
        b"Host: b\r\nX-A: 2\r\n",
        b"Host: a\r\nX-A: 1\r\n",
    ]
    lines = [b"GET /%d HTTP/1.1\r\n" % number for number in range(len(heads))]
    lines[2] = b"GET /2 HTTP/1.0\r\n"
    exchanged(balancer, *(line + head + b"\r\n" for line, head in zip(lines, heads, strict=True)))
    found = [seen(backend, number - len(heads)) for number in range(len(heads))]
    assert [line for line, _ in found] == [b"GET /%d HTTP/1.1" % number for number in range(len(heads))]
    assert [values(fields, b"x-a") for _, fields in found] == [[b"1"], [], [], [], [b"2"], [b"1"]]
    assert [values(fields, b"x-forwarded-host")[0] for _, fields in found] == [b"a", b"a", b"a", b"a", b"b", b"a"]
    assert [values(fields, b"via")[0][:3] for _, fields in found] == [b"1.1", b"1.1", b"1.0", b"1.1", b"1.1", b"1.1"]


def test_an_absolute_target_is_forwarded_as_a_path_with_its_own_host(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    fields = forwarded(balancer, backend, line=b"GET http://B.Example/x?y HTTP/1.1")
    assert seen(backend)[0] == b"GET /x?y HTTP/1.1"
    assert values(fields, b"host") == [b"B.Example"]


def test_an_old_client_without_host_is_forwarded_with_our_address(balancer: Instance, backend: ScriptedBackend) -> None:
    [answer] = exchanged(balancer, b"GET /old HTTP/1.0\r\n\r\n")
    assert answer.value(b"connection") == b"close"
    line, fields = seen(backend)
    assert line == b"GET /old HTTP/1.1"
    assert values(fields, b"host") == [b"127.0.0.1:%d" % balancer.port]
    assert values(fields, b"via") == [b"1.0 hitmesh"]


def test_an_old_client_stays_connected_if_it_asks_to(balancer: Instance) -> None:
    request = b"GET /old HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
    answers = exchanged(balancer, request, request)
    assert [answer.value(b"connection") for answer in answers] == [b"keep-alive"] * 2


def test_an_old_client_gets_a_chunked_answer_without_its_chunks(balancer: Instance, backend: ScriptedBackend) -> None:
    chunked = OK + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
    backend.scripts["/chunked"] = lambda turn: turn.say(chunked)
    with Visitor(balancer.port) as visitor:
        assert visitor.get("/chunked", host="a").value(b"transfer-encoding") == b"chunked"
        visitor.send(b"GET /chunked HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        answer = visitor.answer()
        assert (answer.body, answer.value(b"transfer-encoding"), answer.value(b"trailer")) == (b"abcde", None, None)
        assert visitor.ended


def test_of_an_answer_too_what_is_for_one_connection_only_stays_there(
    balancer: Instance, backend: ScriptedBackend
) -> None:
    lines = (
        b"Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\n"
        b"Upgrade: h2c\r\nServer: theirs\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-EMPTY:\r\nContent-Length: 2\r\n"
    )
    backend.scripts["/hop"] = lambda turn: turn.say(OK + lines + b"\r\nhi")
    request = b"GET /hop HTTP/1.1\r\nHost: a\r\n\r\n"
    answers = exchanged(balancer, request, request, request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    kept = (
        (b"server", b"theirs"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"x-empty", b""),
        (b"content-length", b"2"),
    )
    assert [answer.fields for answer in answers] == [kept, kept, (*kept, (b"connection", b"close"))]


def test_the_same_answer_is_framed_for_each_client_in_its_way(balancer: Instance, backend: ScriptedBackend) -> None:
    backend.scripts["/same"] = lambda turn: turn.say(sized(b"hi"))
    kinds = {
        b"GET /same HTTP/1.1\r\nHost: a\r\n\r\n": None,
        b"GET /same HTTP/1.0\r\nHost: a\r\n\r\n": b"close",
        b"GET /same HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n": b"keep-alive",
        b"GET /same HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n": b"close",
    }
    for _ in range(2):
        for request, connection in kinds.items():
            [answer] = exchanged(balancer, request)
            assert answer.value(b"connection") == connection


def test_an_answer_of_http_1_0_is_passed_on_as_ours(balancer: Instance, backend: ScriptedBackend) -> None:
    backend.scripts["/ten"] = lambda turn: turn.say(b"HTTP/1.0 200 Fine\r\nContent-Length: 2\r\n\r\nhi")
    with Visitor(balancer.port) as visitor:
        for _ in range(3):
            answer = visitor.get("/ten", host="a")
            assert (answer.status, answer.body, answer.value(b"connection")) == (200, b"hi", None)
