"""What is let in is passed on in lines that whoever is behind takes too: both sides of each bound, on the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hitmesh.http.limits import ADDED_BYTES, ADDED_FIELDS, FIELD_BYTES, FIELDS, HEAD_BYTES, LINE_BYTES
from tests.balancer.caller import Caller
from tests.balancer.stage import Instance, backends, proxy, staged
from tests.balancer.wire.case import request
from tests.balancer.wire.scripted import ScriptedBackend

STRANGER, TRUSTED = "127.0.0.1", "127.0.2.7"
GET = b"GET / HTTP/1.1"


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    routes = {"default": proxy(backend.port)}
    with staged(tmp_path_factory.mktemp("sizes"), routes, balancer={"trusted": ["127.0.2.0/24"]}) as instance:
        yield instance


def line(length: int, start: bytes = b"GET /%b HTTP/1.1") -> bytes:
    """A request whose first line has so many bytes."""
    return request(start=start % (b"a" * (length - len(start % b""))))


def field(length: int, begin: bytes, *more: bytes, start: bytes = GET) -> bytes:
    """A request with a field line of so many bytes."""
    return request(begin + b"a" * (length - len(begin)), *more, start=start)


def fields(count: int, *more: bytes, host: bytes | None = None, start: bytes = b"GET / HTTP/1.0") -> bytes:
    """A request with so many field lines."""
    own = len(more) + (host is not None)
    return request(*(b"X-%d:" % each for each in range(count - own)), *more, host=host, start=start)


def head(length: int) -> bytes:
    """A request whose head has so many bytes, in many lines, and among them one that isn't passed on."""
    lines = [b"Connection: x-none", *[b"X-A:%b" % (b"a" * 180)] * 80]
    return request(*lines, b"X-B:" + b"b" * (length - len(request(*lines, b"X-B:"))))


LONG_HOST = b"h" * 255 + b":65535"
ADDRESS = TRUSTED.encode()
TAKEN = {
    "a request line": (line(LINE_BYTES), STRANGER),
    "a request line of HTTP/1.0": (line(LINE_BYTES, b"GET /%b HTTP/1.0"), STRANGER),
    "a field": (field(FIELD_BYTES, b"X-A: "), STRANGER),
    "a field without a space": (field(FIELD_BYTES, b"X-A:"), STRANGER),
    "a field that stays when another goes": (field(FIELD_BYTES, b"X-A:", b"Connection: x-none"), STRANGER),
    "a field behind a URL": (field(FIELD_BYTES, b"X-A:", start=b"GET http://%b/ HTTP/1.1" % LONG_HOST), STRANGER),
    "as many fields as may be": (fields(FIELDS), STRANGER),
    "as many fields, all said anew": (
        fields(FIELDS, b"Connection: upgrade", b"Upgrade: websocket", host=b"Host: " + LONG_HOST, start=GET),
        STRANGER,
    ),
    "a whole head": (head(HEAD_BYTES), STRANGER),
    "a list of addresses that becomes just as long": (
        field(FIELD_BYTES - len(b", " + ADDRESS), b"X-Forwarded-For: "),
        TRUSTED,
    ),
    "an id": (field(FIELD_BYTES, b"X-Request-Id: "), TRUSTED),
}
REFUSED = {
    "a request line": (line(LINE_BYTES + 1), STRANGER, 414),
    "a request line of HTTP/1.0": (line(LINE_BYTES + 1, b"GET /%b HTTP/1.0"), STRANGER, 414),
    "a field": (field(FIELD_BYTES + 1, b"X-A: "), STRANGER, 431),
    "a field without a space": (field(FIELD_BYTES + 1, b"X-A:"), STRANGER, 431),
    "more fields": (fields(FIELDS + 1), STRANGER, 431),
    "a whole head": (head(HEAD_BYTES + 1), STRANGER, 431),
    "a list of addresses that becomes too long": (
        field(FIELD_BYTES - len(b", " + ADDRESS) + 1, b"X-Forwarded-For: "),
        TRUSTED,
        431,
    ),
    "several lists that become one": (
        field(5000, b"X-Forwarded-For: ", b"X-Forwarded-For: " + b"b" * 5000),
        TRUSTED,
        431,
    ),
    "hops that become too long": (field(FIELD_BYTES, b"Forwarded: "), TRUSTED, 431),
    "an id that becomes too long": (field(FIELD_BYTES, b"X-Request-Id:"), TRUSTED, 431),
}


def status(balancer: Instance, raw: bytes, address: str) -> int:
    with Caller(balancer.port, address) as caller:
        answer = caller.ask(raw)
    assert answer is not None
    return answer.status


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_as_large_as_may_be_is_passed_on_within_the_same_bounds(
    name: str, balancer: Instance, backend: ScriptedBackend
) -> None:
    before = len(backend.heads)
    assert status(balancer, *TAKEN[name]) == 200
    [passed_on] = backend.heads[before:]
    first, *lines = passed_on.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert len(first) <= LINE_BYTES
    assert max(map(len, lines)) <= FIELD_BYTES
    assert len(lines) <= FIELDS + ADDED_FIELDS
    assert len(passed_on) <= HEAD_BYTES + ADDED_BYTES


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_larger_or_would_become_so_on_its_way_is_refused(
    name: str, balancer: Instance, backend: ScriptedBackend
) -> None:
    raw, address, refusal = REFUSED[name]
    before = len(backend.heads)
    assert status(balancer, raw, address) == refusal
    assert len(backend.heads) == before
