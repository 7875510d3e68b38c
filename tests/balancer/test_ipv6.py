"""A balancer and its backend on IPv6: what each side is told, and what the access log says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.balancer.stage import NODE, Instance, proxy
from tests.services import PATIENCE_S, require_ipv6, wait_for

CLIENT = b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n"


class Backend:
    """Answers every request on ::1 with its head."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65_536)):
                    head += data
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    require_ipv6()
    backend, folder = Backend(), tmp_path_factory.mktemp("balancer")
    log = str(folder / "access.log")
    instance = Instance(
        folder,
        {"default": proxy(backends=[f"[::1]:{backend.port}"]), "[2001:DB8:0::1]": {"action": "empty", "status": 204}},
        nodes={"local": {**NODE, "address": "::1"}},
        balancer={"proxy_protocol": ["::1/128"], "trusted": ["2001:db8::/32"], "access_log": log},
    )
    instance.start()
    yield instance
    instance.stop()
    backend.close()


def ask(balancer: Instance, request: bytes) -> list[bytes]:
    """The answer's lines, and in its body those that the backend got."""
    with socket.create_connection(("::1", balancer.port), timeout=PATIENCE_S) as connection:
        connection.sendall(CLIENT + request)
        return b"".join(iter(lambda: connection.recv(65_536), b"")).split(b"\r\n")


def test_a_backend_is_told_of_an_ipv6_client_and_of_an_address_in_brackets(balancer: Instance) -> None:
    lines = ask(balancer, b"GET /told HTTP/1.0\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    host = b"[::1]:%d" % balancer.port
    assert b"Host: " + host in lines
    assert b"X-Forwarded-For: 192.0.2.1, 2001:db8::7" in lines
    assert b'Forwarded: for="[2001:db8::7]";host="%b";proto=http' % host in lines


def test_a_host_that_is_an_address_has_its_route_however_the_file_writes_it(balancer: Instance) -> None:
    lines = ask(balancer, b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nConnection: close\r\n\r\n")
    assert lines[0].startswith(b"HTTP/1.1 204 ")


def test_the_access_log_has_the_address_as_it_is(balancer: Instance) -> None:
    ask(balancer, b"GET /logged HTTP/1.0\r\n\r\n")
    file: Path = balancer.folder / "access.log"
    logged = wait_for(
        lambda: [line for line in file.read_text().splitlines() if " /logged " in line], what="the request in the log"
    )
    assert logged[0].startswith("2001:db8::7 - - [")
    assert ' "default" [::1]:' in logged[0]
