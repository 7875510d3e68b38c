"""The admin listener over TLS, as real processes: what is served, and what becomes of those who get it wrong."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, Final

import pytest

from balancer.admin.listener import MAX_CONNECTIONS
from tests.balancer.certificates import client_context, make_certificate
from tests.balancer.stage import LONG_S, Instance, ask, reason, staged
from tests.balancer.wire.visitor import Visitor
from tests.services import wait_for

TOKEN: Final = {"Authorization": "Bearer s3cret"}
ROUTES: Final = {"default": {"action": "static", "body": "hello"}}
HASTE_S: Final = 0.3
ASKED: Final = 20  # times, while somebody attacks: more than are answered by luck
PIECE: Final = 40  # bytes of a hello that come at once


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One that is served, and its successor."""
    folder = tmp_path_factory.mktemp("certificates")
    return [make_certificate(folder, "localhost", file=name) for name in ("old", "new")]


def tables(certificate: Path, **limits: float) -> dict[str, Any]:
    tls = {"certificates": [str(certificate)], "admin": True}
    return {"balancer": {"tls": tls, "admin_token": TOKEN["Authorization"].split()[1], "limits": limits}}


@pytest.fixture(scope="module")
def balancer(certificates: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with staged(tmp_path_factory.mktemp("admin"), ROUTES, **tables(certificates[0])) as instance:
        yield instance


@pytest.fixture(scope="module")
def hasty(certificates: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One that waits for nobody for long."""
    limits = tables(certificates[0], head_s=HASTE_S, write_s=HASTE_S)
    with staged(tmp_path_factory.mktemp("hasty"), ROUTES, **limits) as instance:
        yield instance


@contextlib.contextmanager
def connected(balancer: Instance, *trusted: Path) -> Iterator[HTTPSConnection]:
    """A client that takes the certificates of `trusted` alone, or any without them."""
    context = client_context(*trusted)
    made = HTTPSConnection("localhost", balancer.admin_port, timeout=LONG_S, context=context)
    with contextlib.closing(made):
        yield made


def status(link: HTTPSConnection, path: str, *, method: str = "GET", body: str | None = None) -> int:
    link.request(method, path, body, TOKEN)
    answer = link.getresponse()
    answer.read()
    return answer.status


def healthy(balancer: Instance, *trusted: Path) -> bool:
    with connected(balancer, *trusted) as link:
        return status(link, "/health") == 200


def hello(piece: slice = slice(None)) -> bytes:
    """How a handshake begins."""
    up = ssl.MemoryBIO()
    client = client_context().wrap_bio(ssl.MemoryBIO(), up, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return up.read()[piece]


def test_pages_and_routes_are_served_over_tls_with_the_token(balancer: Instance, certificates: list[Path]) -> None:
    with connected(balancer, certificates[0]) as link:
        assert status(link, "/routes/tls.example", method="PUT", body='{"action": "empty", "status": 410}') == 200
        assert status(link, "/stats") == 200
        link.request("GET", "/stats.json")
        answer = link.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("WWW-Authenticate", "")[:6]) == (401, "Bearer")
    wait_for(lambda: ask(balancer.port, "tls.example").status == 410, what="the route to be in force")


def test_a_large_answer_comes_whole(balancer: Instance) -> None:
    """Of several records: what the wire doesn't take at once is encrypted once."""
    with connected(balancer) as link:
        for number in range(30):
            body = json.dumps({"action": "static", "body": "x" * 50_000})
            assert status(link, f"/routes/large-{number}.example", method="PUT", body=body) == 200
        link.request("GET", "/routes", headers=TOKEN)
        answer = link.getresponse()
        time.sleep(HASTE_S)  # until the wire is full
        found = json.loads(answer.read())["routes"]
    assert sum(each["host"].startswith("large-") for each in found) == 30


def test_who_speaks_plain_http_is_told_so(balancer: Instance) -> None:
    with Visitor(balancer.admin_port) as visitor:
        answer = visitor.get("/health", host="127.0.0.1", more=b"Authorization: Bearer s3cret\r\n")
        assert (answer.status, reason(answer)) == (400, "this port speaks TLS: write https://")
        assert visitor.has_ended()
    assert healthy(balancer)


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH_9.2\r\n", bytes(64), b"\x16\x03\x01\x00\x05hello" + bytes(64), b"GET", b"\r\n"],
    ids=["SSH", "zeros", "no hello", "the beginning of HTTP", "a line"],
)
def test_what_is_no_handshake_ends_that_connection_alone(hasty: Instance, said: bytes) -> None:
    with connected(hasty) as other:
        assert status(other, "/health") == 200
        with Visitor(hasty.admin_port) as visitor:
            visitor.send(said)
            wait_for(visitor.has_ended, what="its end")
    assert healthy(hasty)
    assert "Traceback" not in hasty.log()


@pytest.mark.parametrize("sent", [0, 1, 100])
def test_a_handshake_that_does_not_go_on_is_not_waited_for(hasty: Instance, sent: int) -> None:
    with Visitor(hasty.admin_port) as visitor:
        visitor.send(hello(slice(sent)))
        assert visitor.has_ended()


def test_a_handshake_in_drops_has_no_more_time(hasty: Instance) -> None:
    with socket.create_connection(("127.0.0.1", hasty.admin_port), timeout=HASTE_S / 10) as link:

        def has_ended() -> bool:
            try:
                link.sendall(b"1")
                return link.recv(100) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        link.sendall(b"\x16\x03\x01\x40\x00")  # a record of 16 KiB
        wait_for(has_ended, what="its end")


def test_half_handshakes_in_numbers_keep_nobody_out(balancer: Instance) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 1):
            link = stack.enter_context(Visitor(balancer.admin_port))
            link.send(hello(slice(PIECE)))
        assert healthy(balancer)
        assert ask(balancer.port, "a.example").status == 200


def test_handshakes_without_end_stop_neither_traffic_nor_pages(balancer: Instance) -> None:
    over, context, count = threading.Event(), client_context(), 0

    def shake_hands() -> None:
        nonlocal count
        while not over.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", balancer.admin_port), timeout=LONG_S) as plain,
                context.wrap_socket(plain, server_hostname="localhost"),
            ):
                count += 1

    attack = threading.Thread(target=shake_hands)
    attack.start()
    try:
        wait_for(lambda: count, what="the attack")
        for _ in range(ASKED):
            assert ask(balancer.port, "a.example").status == 200
            assert healthy(balancer)
    finally:
        over.set()
        attack.join()


def test_who_takes_nothing_of_its_answers_is_not_waited_for(hasty: Instance) -> None:
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(LONG_S)
        plain.connect(("127.0.0.1", hasty.admin_port))
        with client_context().wrap_socket(plain, server_hostname="localhost") as taker, contextlib.suppress(OSError):
            while True:
                taker.sendall(b"GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n\r\n")
    assert healthy(hasty)


def test_a_reload_takes_a_new_certificate_and_keeps_the_old_one_if_that_is_none(
    balancer: Instance, certificates: list[Path], tmp_path: Path
) -> None:
    old, new = certificates
    assert balancer.process is not None
    assert healthy(balancer, old)
    balancer.configure(ROUTES, **tables(tmp_path / "absent.pem"))
    balancer.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "nothing is changed" in balancer.log(), what="the mistake to be told")
    assert healthy(balancer, old)
    balancer.configure(ROUTES, **tables(new))
    balancer.process.send_signal(signal.SIGHUP)
    wait_for(lambda: _trusted(balancer, new), what="the new certificate")


def _trusted(balancer: Instance, certificate: Path) -> bool:
    try:
        return healthy(balancer, certificate)
    except OSError:
        return False
