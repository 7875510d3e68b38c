"""Handshakes: in pieces, broken off, never begun; and openssl's own client, with all that it may ask for later."""

from __future__ import annotations

import socket
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.accept.tls import TlsContexts
from balancer.accept.tls_socket import TlsSocket
from tests.balancer.certificates import client_context, make_certificate
from tests.balancer.tls_wire import Client, Wire, received
from tests.services import PATIENCE_S, require, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("certificates")
    return TlsContexts([make_certificate(folder, name) for name in ("site.example", "shop.example")]).server


# --- handshakes -----------------------------------------------------------------------------


def test_a_handshake_may_come_byte_by_byte(server: ssl.SSLContext) -> None:
    ours, theirs = socket.socketpair()
    down, up = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context().wrap_bio(down, up, server_hostname="shop.example")
    ours.setblocking(False)
    with ours, theirs:
        tls = TlsSocket(ours, server)
        for _ in range(2):
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            for byte in up.read():
                assert not tls.shaken
                theirs.sendall(bytes([byte]))
                with pytest.raises(BlockingIOError):
                    tls.recv(100)
                assert tls.pending() == 0
            down.write(theirs.recv(65536))
        assert tls.shaken
        client.write(b"hello")
        theirs.sendall(up.read())
        assert tls.recv(100) == b"hello"


def test_what_was_read_before_belongs_to_the_handshake(server: ssl.SSLContext) -> None:
    wire = Wire()
    client = Client(wire)
    with suppress(ssl.SSLWantReadError):
        client.tls.do_handshake()
    hello = client.up.read()
    wire.to_read += hello[100:]
    tls = TlsSocket(wire, server, hello[:100])
    assert tls.pending() == 100
    client.shake(tls)


def test_a_handshake_that_the_wire_does_not_take_is_flushed_later(server: ssl.SSLContext) -> None:
    wire = Wire()
    client, tls = Client(wire), TlsSocket(wire, server)
    with suppress(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.push()
    wire.room = 10
    with pytest.raises(BlockingIOError):
        tls.recv(100)
    assert tls.wants_write
    assert not tls.flush()
    wire.room = 1 << 30
    assert tls.flush()
    assert not tls.wants_write
    client.pull()
    client.shake(tls)


def test_send_waits_for_the_handshake(server: ssl.SSLContext) -> None:
    wire = Wire()
    client, tls = Client(wire), TlsSocket(wire, server)
    with pytest.raises(BlockingIOError):
        tls.send(b"early")
    client.shake(tls)
    assert tls.send(b"early") == 5
    assert client.read_all() == b"early"


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: site.example\r\n\r\n", id="HTTP"),
        pytest.param(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", id="PROXY"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="SSH"),
        pytest.param(b"\x16\x03\x01\x00\x05hello" + bytes(64), id="no-hello"),
        pytest.param(b"\x16\x03\x01\xff\xff" + bytes(64), id="too-long"),
        pytest.param(bytes(64), id="zeros"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", id="alert"),
    ],
)
def test_garbage_instead_of_a_handshake_is_an_error_at_once(server: ssl.SSLContext, garbage: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.sendall(garbage)
        tls = TlsSocket(ours, server)
        with pytest.raises(OSError, match="SSL") as error:
            tls.recv(100)
        assert not isinstance(error.value, BlockingIOError)
        assert not tls.shaken


@pytest.mark.parametrize("sent", [0, 1, 100])
def test_a_peer_that_leaves_within_the_handshake_is_an_end(server: ssl.SSLContext, sent: int) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    client = Client(Wire())
    with suppress(ssl.SSLWantReadError):
        client.tls.do_handshake()
    with ours:
        tls = TlsSocket(ours, server)
        theirs.sendall(client.up.read()[:sent])
        if sent:
            with pytest.raises(BlockingIOError):
                tls.recv(100)
        theirs.close()
        assert tls.recv(100) == b""
        assert not tls.shaken


@given(st.binary(max_size=400), st.integers(0, 500), st.integers(0, 255))
@settings(max_examples=150)
def test_no_bytes_raise_anything_but_an_os_error(server: ssl.SSLContext, garbage: bytes, at: int, value: int) -> None:
    wire = Wire()
    client, tls = Client(wire), TlsSocket(wire, server)
    with suppress(ssl.SSLWantReadError):
        client.tls.do_handshake()
    hello = bytearray(client.up.read())
    hello[at % len(hello)] = value
    wire.to_read += hello + garbage
    wire.closed_by_peer = True
    for _ in range(100):
        try:
            if tls.recv(1000) == b"":
                return
        except BlockingIOError:
            continue
        except OSError:
            return
    raise AssertionError("neither an end nor an error")


# --- openssl's own client -------------------------------------------------------------------


class Shell:
    """`openssl s_client` connected to a TlsSocket that answers each line with the same in capitals."""

    def __init__(self, server: ssl.SSLContext, file: Path, *options: str) -> None:
        self.file = file
        with socket.create_server(("127.0.0.1", 0)) as listener, file.open("wb") as said:
            place = f"127.0.0.1:{listener.getsockname()[1]}"
            self.process = subprocess.Popen(
                [require("openssl"), "s_client", "-connect", place, *options],
                stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip
            accepted, _ = listener.accept()
        accepted.setblocking(False)
        self.tls = TlsSocket(accepted, server)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.tls.close()

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def says(self, text: str) -> None:
        wait_for(lambda: text in self.file.read_text(errors="replace"), what=text)

    def asks(self, line: str) -> None:
        self.type(line)
        got = b""
        while not got.endswith(b"\n"):
            got += received(self.tls)
        assert got == f"{line}\n".encode()
        self.tls.send(got.upper())
        self.says(line.upper())


@pytest.mark.parametrize(("version", "command"), [("-tls1_3", "K"), ("-tls1_3", "k"), ("-tls1_2", "")])
def test_openssls_client_is_served_and_may_update_its_keys(
    server: ssl.SSLContext, version: str, command: str, tmp_path: Path
) -> None:
    with Shell(server, tmp_path / "said", version, "-servername", "shop.example") as shell:
        shell.asks("one")
        shell.says("shop.example")  # the certificate's name
        if command:
            shell.type(command)
            shell.says("KEYUPDATE")
        shell.asks("two")
        shell.process.communicate(timeout=PATIENCE_S)
        assert received(shell.tls) == b""


def test_a_client_may_not_renegotiate(server: ssl.SSLContext, tmp_path: Path) -> None:
    with Shell(server, tmp_path / "said", "-tls1_2") as shell:
        shell.asks("one")
        shell.type("R")
        with pytest.raises(ssl.SSLError):  # that client takes no for an error
            received(shell.tls)
        shell.says("no renegotiation")
