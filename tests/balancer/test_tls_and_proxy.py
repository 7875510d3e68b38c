"""What comes before HTTP, through a balancer: TLS, and the PROXY protocol."""

from __future__ import annotations

import contextlib
import select
import shutil
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.balancer.certificates import client_context, make_certificate
from tests.balancer.live import LiveLimits
from tests.balancer.stage import LONG_S, Gate, Instance, backends, proxy, requests_to, said, sized
from tests.balancer.wire.answers import Answer, read_answers
from tests.balancer.wire.scripted import ScriptedBackend
from tests.services import free_port, wait_for

TRUSTED, PROXY = "127.0.2.1", "127.0.3.1"
HEAD_S = 0.6
DRAIN_S = 120.0
LARGE = 20_000_000
V2 = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


MANY = 40  # of one kind, within less than the time between two lines


class Secure(Instance):
    """A balancer with both listeners."""

    def __init__(self, folder: Path, backend: int) -> None:
        self.tls_port = free_port()
        self.folder = folder
        self.certificates = [make_certificate(folder, name) for name in ("one.example", "two.example")]
        super().__init__(folder, {"default": proxy(backend)}, ports={"balancer_tls": self.tls_port}, **self.settings())

    def settings(self, *, redirect: bool = False) -> dict[str, Any]:
        tls = {"certificates": [str(each) for each in self.certificates], "redirect": redirect}
        networks = {"proxy_protocol": ["127.0.3.0/24"], "trusted": ["127.0.2.0/24"]}
        return {"balancer": {"tls": tls, **networks}, "timing": {"drain_s": DRAIN_S}}


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    instance = Secure(tmp_path_factory.mktemp("secure"), backend.port)
    instance.start()
    yield instance
    instance.stop()


def plain(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LONG_S, source_address=(address, 0))


def secure(
    balancer: Secure, name: str = "one.example", *, address: str = "127.0.0.1", before: bytes = b""
) -> ssl.SSLSocket:
    connection = plain(balancer.tls_port, address)
    connection.sendall(before)
    return client_context().wrap_socket(connection, server_hostname=name, suppress_ragged_eofs=False)


def exchanged(connection: socket.socket, request: bytes) -> Answer:
    connection.sendall(request)
    received = b""
    while not (b"\r\n\r\n" in received and read_answers(received)[0].whole):
        data = connection.recv(1_000_000)
        assert data, f"it ended after {received!r}"
        received += data
    [answer] = read_answers(received)
    return answer


def end_of(connection: socket.socket, said: bytes = b"") -> bytes:
    """What comes until the end."""
    received = b""
    with contextlib.suppress(ConnectionError):
        connection.sendall(said)
        while data := connection.recv(65_536):
            received += data
    return received


def shown(balancer: Secure, name: str) -> bytes:
    with secure(balancer, name) as connection:
        return connection.getpeercert(binary_form=True) or b""


def der(pem: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        pem.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )


def last_field(backend: ScriptedBackend, name: bytes) -> bytes:
    return backend.heads[-1].partition(b"\r\n" + name + b": ")[2].partition(b"\r\n")[0]


def test_the_name_that_a_client_asks_for_chooses_the_certificate(balancer: Secure) -> None:
    one, two = map(der, balancer.certificates)
    assert [shown(balancer, name) for name in ("two.example", "one.example", "elsewhere.example")] == [two, one, one]


def test_requests_in_tls_are_answered_and_said_to_be_https(balancer: Secure, backend: ScriptedBackend) -> None:
    with secure(balancer) as connection:
        for number in range(3):
            assert exchanged(connection, said(f"/{number}", "one.example")).body == b"/%d" % number
        assert last_field(backend, b"X-Forwarded-Proto") == b"https"
        assert last_field(backend, b"Forwarded").endswith(b"proto=https")
        requests = b"".join(said(f"/{number}", "one.example") for number in range(50))
        connection.sendall(requests + said("/last", "one.example", more=b"Connection: close\r\n"))
        received = b""
        while data := connection.recv(65_536):
            received += data
        assert len(read_answers(received)) == 51
        assert connection.version() == "TLSv1.3"


def test_large_bodies_pass_through_tls_both_ways_and_out_of_memory(balancer: Secure, backend: ScriptedBackend) -> None:
    backend.scripts["/large"] = lambda turn: turn.say(sized(turn.body()))
    backend.scripts["/warm"] = backend.scripts["/large"]
    with secure(balancer) as connection:
        exchanged(connection, said("/warm", "a", method="POST", body=b"x" * 500_000))
        before = balancer.memory_kb()
        sender = threading.Thread(
            target=connection.sendall, args=(said("/large", "a", method="POST", body=b"x" * LARGE),)
        )
        sender.start()
        count = 0
        while count < LARGE:
            time.sleep(0.1 if count < 50_000 else 0)
            count += len(connection.recv(1_000_000))
        sender.join()
    assert balancer.memory_kb() - before < 4096


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x80" * 5000]
)
def test_what_is_no_tls_is_closed_and_disturbs_nobody(garbage: bytes, balancer: Secure) -> None:
    with secure(balancer) as other, plain(balancer.tls_port) as connection:
        assert b"HTTP/1.1" not in end_of(connection, garbage)
        assert exchanged(other, said("/", "a")).status == 200


def test_who_begins_no_handshake_and_who_sends_no_header_in_time_is_closed(balancer: Secure) -> None:
    live = LiveLimits(balancer.folder / "var" / "stage" / "settings.db", balancer.port)
    with live.of(head_s=HEAD_S):
        began = time.monotonic()
        with plain(balancer.tls_port) as silent, plain(balancer.port, PROXY) as begun:
            begun.sendall(b"PROXY TCP4 ")
            assert end_of(silent) == end_of(begun) == b""
        assert time.monotonic() - began >= HEAD_S


def test_a_handshake_and_a_header_in_drops_have_no_more_time(balancer: Secure) -> None:
    def drops_taken(connection: socket.socket, data: bytes) -> int:
        for count in range(len(data)):
            try:
                connection.sendall(data[count : count + 1])
            except OSError:
                return count
            if select.select([connection], [], [], 0.02)[0]:
                return count  # the end
        return len(data)

    hello = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + bytes(5000)  # its beginning, and no end
    live = LiveLimits(balancer.folder / "var" / "stage" / "settings.db", balancer.port)
    with live.of(head_s=HEAD_S), plain(balancer.tls_port) as tls, plain(balancer.port, PROXY) as proxied:
        assert drops_taken(tls, hello) < len(hello)
        assert drops_taken(proxied, V2 + b"\x21\x11\x0f\xf0" + bytes(4000)) < 4000


V1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n"
V2_HEADER = (
    V2 + b"\x21\x11" + struct.pack("!H", 12) + bytes([198, 51, 100, 7, 127, 0, 0, 1]) + struct.pack("!HH", 1, 80)
)
V2_IPV6 = (
    V2
    + b"\x21\x21"
    + struct.pack("!H", 36)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + bytes(16)
    + struct.pack("!HH", 1, 80)
)
HEADERS = {
    "v1": (V1, b"203.0.113.9"),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", PROXY.encode()),
    "v2": (V2_HEADER, b"198.51.100.7"),
    "v2 IPv6": (V2_IPV6, b"2001:db8::7"),
    "v2 local": (V2 + b"\x20\0\0\0", PROXY.encode()),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_a_listed_proxy_says_who_its_client_is(
    tls: bool, name: str, balancer: Secure, backend: ScriptedBackend
) -> None:
    header, client = HEADERS[name]
    if tls:
        connection: socket.socket = secure(balancer, address=PROXY, before=header)
    else:
        connection = plain(balancer.port, PROXY)
        connection.sendall(header[:7])
        time.sleep(0.02)
        connection.sendall(header[7:] + said("/together", "a"))  # one packet, most likely
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    with connection:
        for _ in range(2):
            assert exchanged(connection, said("/", "a")).status == 200
            assert last_field(backend, b"X-Forwarded-For") == client


@pytest.mark.parametrize(
    "said_first", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PROXY TCP4 nonsense\r\n", V2 + b"\x31\x11\0\x0c"]
)
@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
def test_a_listed_proxy_that_says_anything_else_is_closed(
    tls: bool, said_first: bytes, balancer: Secure, backend: ScriptedBackend
) -> None:
    before = len(backend.heads)
    with plain(balancer.tls_port if tls else balancer.port, PROXY) as connection:
        assert end_of(connection, said_first) == b""
    assert len(backend.heads) == before


def test_however_often_a_listed_proxy_says_anything_else_the_log_says_it_now_and_then(balancer: Secure) -> None:
    for _ in range(MANY):
        with plain(balancer.port, PROXY) as connection:
            assert end_of(connection, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    assert balancer.log().count(f"{PROXY}: ") < MANY / 2


def test_anybody_else_may_not_say_who_the_client_is(balancer: Secure) -> None:
    for header, _ in HEADERS.values():
        with plain(balancer.port) as connection:
            assert end_of(connection, header + said("/spoofed", "a")).startswith(b"HTTP/1.1 400 ")
        with plain(balancer.tls_port) as connection:
            assert b"HTTP/1.1" not in end_of(connection, header)


def test_a_reload_shows_new_certificates_and_then_plain_requests_are_sent_to_https(
    balancer: Secure, backend: ScriptedBackend, tmp_path: Path
) -> None:
    gate = backend.scripts["/meanwhile"] = Gate()
    assert isinstance(gate, Gate)
    with secure(balancer) as before:
        before.sendall(said("/meanwhile", "a"))
        wait_for(lambda: gate.arrived == 1, what="the request to arrive")
        renewed = make_certificate(tmp_path, "one.example")
        shutil.copy(renewed, balancer.certificates[0])
        balancer.configure({"default": proxy(backend.port)}, **balancer.settings(redirect=True))
        balancer.signal(signal.SIGHUP)
        wait_for(lambda: shown(balancer, "one.example") == der(renewed), what="the new certificate")
        assert shown(balancer, "two.example") == der(balancer.certificates[1])
        gate.let()
        answer = exchanged(before, b"")
        assert (answer.status, answer.value(b"connection")) == (200, b"close")
    with plain(balancer.port) as connection:
        for request, host, target in (
            (said("/a/b?c=%20d", "One.Example:8080"), b"one.example", b"/a/b?c=%20d"),
            (said("/hit", "one.example", method="POST", body=b"hi"), b"one.example", b"/hit"),
            (b"GET http://two.example HTTP/1.1\r\nHost: one.example\r\n\r\n", b"two.example", b"/"),
        ):
            answer = exchanged(connection, request)
            assert answer.status == 308
            assert answer.value(b"location") == b"https://%b:%d%b" % (host, balancer.tls_port, target)
    assert requests_to([backend], "/hit") == 0
    with secure(balancer) as connection:
        assert exchanged(connection, said("/hit", "one.example")).status == 200
    with plain(balancer.port, TRUSTED) as connection:
        answer = exchanged(connection, said("/hit", "one.example", more=b"X-Forwarded-Proto: https\r\n"))
        assert answer.status == 200, "TLS has ended before it"
        assert exchanged(connection, said("/hit", "one.example", more=b"X-Forwarded-Proto: http\r\n")).status == 308
    with plain(balancer.port) as connection:
        answer = exchanged(connection, said("/hit", "one.example", more=b"X-Forwarded-Proto: https\r\n"))
        assert answer.status == 308, "a stranger may say so"
