from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from balancer.process.listeners import (
    Address,
    Bound,
    Kind,
    ListenError,
    bind,
    close,
    describe,
    open_up,
    share,
)
from tests.services import PATIENCE_S, free_port

HERE = "127.0.0.1"
ANY = Address(HERE, 0)


@contextlib.contextmanager
def opened(wanted: Mapping[Kind, Address], workers: int = 1) -> Iterator[dict[Kind, Bound]]:
    bounds = bind(wanted, workers=workers)
    try:
        open_up(bounds)
        yield bounds
    finally:
        close(bounds)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_every_worker_gets_a_socket_of_its_own_on_one_port() -> None:
    with opened({"http": ANY}, workers=3) as bounds:
        assert len({sock.getsockname() for sock in bounds["http"].sockets}) == 1
        assert [len(given["http"]) for given in share(bounds, 3)] == [1, 1, 1]


def test_the_admin_socket_is_the_first_workers() -> None:
    with opened({"http": ANY, "admin": ANY}, workers=2) as bounds:
        assert [sorted(given) for given in share(bounds, 2)] == [["admin", "http"], ["http"]]


def test_surplus_sockets_are_everybodys_so_that_no_worker_has_twice_the_clients_of_another() -> None:
    with opened({"http": ANY, "admin": ANY}, workers=5) as bounds:
        sockets = list(bounds["http"].sockets)
        given = share(bounds, 2)
        assert [each["http"] for each in given] == [[sockets[0], *sockets[2:]], [sockets[1], *sockets[2:]]]
        assert [each.get("admin", []) for each in given] == [list(bounds["admin"].sockets), []]


def test_a_port_that_somebody_listens_on_is_in_use_even_if_he_would_share_it() -> None:
    with opened({"http": ANY}) as bounds:
        port = bounds["http"].address.port
        before = open_files()
        with pytest.raises(ListenError, match=rf"^port {port} of 127.0.0.1 is in use$"):
            bind({"admin": ANY, "http": Address(HERE, port)}, workers=1)
        assert open_files() == before


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Address("192.0.2.7", 8000), "192.0.2.7 is not an address of this machine"),
        (Address("no-such-host.invalid", 8000), "no-such-host.invalid can't be resolved"),
        (Address("x" * 64 + ".example", 8000), "can't be resolved"),
    ],
)
def test_an_address_that_can_not_be_listened_on_is_named(address: Address, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        bind({"http": address}, workers=1)


def test_a_privileged_port_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied(socket.socket):  # as the kernel does, but to root
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Denied)
    with pytest.raises(ListenError, match=r"^port 1 of 127.0.0.1 is for privileged users only$"):
        bind({"http": Address(HERE, 1)}, workers=1)


def test_sockets_that_are_held_are_kept_and_missing_ones_added() -> None:
    with opened({"http": ANY}, workers=1) as held:
        more = bind({"http": ANY}, workers=3, held=held)
        try:
            assert more["http"].sockets[0] is held["http"].sockets[0]
            assert len({sock.getsockname() for sock in more["http"].sockets}) == 1
            assert len(bind({"http": ANY}, workers=1, held=more)["http"].sockets) == 3  # clients may be queued there
        finally:
            close(more, but=held)
        assert held["http"].sockets[0].fileno() >= 0


def test_a_socket_takes_no_clients_before_it_is_opened_up() -> None:
    with opened({"http": ANY}) as held:
        more = bind({"http": ANY}, workers=8, held=held)
        try:
            for _ in range(20):  # the kernel would spread these over all that listen
                with socket.create_connection((HERE, held["http"].address.port), timeout=PATIENCE_S):
                    held["http"].sockets[0].accept()[0].close()
        finally:
            close(more, but=held)


def test_one_may_move_from_all_addresses_to_one_on_the_same_port() -> None:
    port = free_port()
    with opened({"http": Address("0.0.0.0", port)}) as held:
        moved = bind({"http": Address(HERE, port)}, workers=1, held=held)
        open_up(moved)
        close(held)
        assert describe(moved) == f"http on {HERE}:{port}"
        close(moved)


def test_a_port_is_free_again_beside_connections_that_go_on() -> None:
    with opened({"http": ANY}) as bounds:
        address = bounds["http"].address
        client = socket.create_connection((HERE, address.port))
        served, _ = bounds["http"].sockets[0].accept()
    with client, served, opened({"http": address}):
        pass


def test_ipv6_is_listened_on_and_written_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with opened({"http": Address("::1", 0)}) as bounds:
        port = bounds["http"].address.port
        assert describe(bounds) == f"http on [::1]:{port}"
        with socket.create_connection(("::1", port), timeout=PATIENCE_S):
            pass


def test_accepted_connections_send_without_delay() -> None:
    with opened({"http": ANY}) as bounds:
        listener = bounds["http"].sockets[0]
        listener.settimeout(PATIENCE_S)
        visitor = threading.Thread(target=lambda: socket.create_connection(listener.getsockname()).close())
        visitor.start()
        with listener.accept()[0] as served:
            assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        visitor.join()


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_a_virtual_ip_is_listened_on_before_it_is_there(host: str) -> None:
    with opened({"vip": Address(host, free_port())}, workers=2) as bounds:
        assert [sock.getsockname()[0] for sock in bounds["vip"].sockets] == [host, host]
