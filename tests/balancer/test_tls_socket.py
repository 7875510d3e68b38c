"""The socket that speaks TLS: nothing is lost, nothing waits, and whatever comes is an answer, an end or an OSError."""

from __future__ import annotations

import errno
import select
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer import tls_socket
from balancer.tls import TlsContexts
from balancer.tls_socket import RECEIVE_BYTES, RECORD_BYTES, SEND_BYTES, TlsSocket
from tests.balancer.certificates import client_context, make_certificate, shaken
from tests.services import require, wait_for

MEGABYTE = bytes(range(256)) * 4096
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
Ends = tuple[ssl.SSLSocket, TlsSocket]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("certificates")
    return TlsContexts([make_certificate(folder, name) for name in ("site.example", "shop.example")]).server


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def ends(request: pytest.FixtureRequest, server: ssl.SSLContext) -> Iterator[Ends]:
    client = client_context()
    client.maximum_version = request.param
    asking, tls = shaken(server, client, "site.example")
    yield asking, tls
    tls.close()
    asking.close()


class Wire:
    """A carrier whose peer is in this process. `room` is how much it takes before it blocks."""

    def __init__(self) -> None:
        self.to_read = bytearray()
        self.taken = bytearray()
        self.room = 1 << 30
        self.closed_by_peer = False

    def recv(self, size: int) -> bytes:
        data = bytes(self.to_read[:size])
        del self.to_read[:size]
        if not data and not self.closed_by_peer:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        return data

    def send(self, data: memoryview) -> int:
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, "full")
        sent = bytes(data[: self.room])
        self.taken += sent
        self.room -= len(sent)
        return len(sent)

    def fileno(self) -> int:
        return -1

    def shutdown(self, how: int) -> None:
        pass

    def close(self) -> None:
        pass


class Client:
    """The other end of a Wire."""

    def __init__(self, wire: Wire, name: str = "site.example") -> None:
        self.wire = wire
        self.down, self.up = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self.down, self.up, server_hostname=name)

    def shake(self, ours: TlsSocket) -> None:
        for _ in range(3):
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            self.push()
            with suppress(BlockingIOError):
                ours.recv(1)
            self.pull()
        assert ours.shaken

    def push(self) -> None:
        self.wire.to_read += self.up.read()

    def pull(self) -> None:
        self.down.write(bytes(self.wire.taken))
        self.wire.taken.clear()

    def read_all(self) -> bytes:
        self.pull()
        read = bytearray()
        with suppress(ssl.SSLWantReadError):
            while piece := self.tls.read(RECORD_BYTES):
                read += piece
        return bytes(read)


def connected(server: ssl.SSLContext) -> tuple[Wire, Client, TlsSocket]:
    wire = Wire()
    client, tls = Client(wire), TlsSocket(wire, server)
    client.shake(tls)
    return wire, client, tls


def received(tls: TlsSocket, size: int = 65536) -> bytes:
    """What the next `recv` gives that has something to say."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return tls.recv(size)
        except BlockingIOError:
            assert tls.pending() == 0
            assert select.select([tls], [], [], deadline - time.monotonic())[0], "nothing came"


def test_a_megabyte_goes_both_ways_at_once_through_narrow_sockets(ends: Ends) -> None:
    asking, tls = ends
    for end in (asking, tls.carrier):
        assert isinstance(end, socket.socket)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    asking.setblocking(False)
    up, down = memoryview(MEGABYTE), memoryview(MEGABYTE)
    got_up, got_down = bytearray(), bytearray()
    blocked = 0
    deadline = time.monotonic() + 20
    while len(got_up) < len(MEGABYTE) or len(got_down) < len(MEGABYTE):
        assert time.monotonic() < deadline
        try:
            down = down[tls.send(bytes(down[:200_000])) :]
        except BlockingIOError:
            blocked += 1
        with suppress(BlockingIOError):
            got_up += tls.recv(50_000)
        with suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            up = up[asking.send(up) :] if up else up
        with suppress(ssl.SSLWantReadError):
            got_down += asking.recv(65536)
    assert got_up == MEGABYTE
    assert got_down == MEGABYTE
    assert blocked


def test_a_readable_event_brings_all_that_came_with_it(ends: Ends) -> None:
    asking, tls = ends
    for number in range(5):  # five records
        asking.sendall(b"%d" % number * 1000)
    wait_for(lambda: select.select([tls], [], [], 1)[0])
    got = bytearray()
    while len(got) < 5000:
        got += received(tls, 700)
    assert got == b"".join(b"%d" % number * 1000 for number in range(5))
    assert tls.pending() == 0


def test_pending_tells_of_what_no_event_will_tell(server: ssl.SSLContext) -> None:
    _, client, tls = connected(server)
    client.tls.write(b"abc")
    client.tls.write(b"def")
    client.push()
    assert tls.pending() == 0  # still on the wire
    assert tls.recv(1) == b"a"
    assert tls.pending() > 0
    assert tls.recv(3) == b"bcd"
    assert tls.pending() > 0
    assert tls.recv(100) == b"ef"
    with pytest.raises(BlockingIOError):
        tls.recv(100)
    assert tls.pending() == 0


def test_half_a_record_is_waited_for(server: ssl.SSLContext) -> None:
    wire, client, tls = connected(server)
    client.tls.write(b"x" * 1000)
    client.push()
    rest = bytes(wire.to_read[600:])
    del wire.to_read[600:]
    with pytest.raises(BlockingIOError):
        tls.recv(100)
    assert tls.pending() == 0
    wire.to_read += rest
    assert tls.recv(2000) == b"x" * 1000


# --- ends -----------------------------------------------------------------------------------


def test_the_peers_end_is_an_end_whether_he_says_so_or_not(ends: Ends) -> None:
    asking, tls = ends
    asking.sendall(b"last words")
    asking.shutdown(socket.SHUT_RDWR)
    assert received(tls) == b"last words"
    assert received(tls) == b""
    assert received(tls) == b""
    assert tls.pending()


def test_a_peer_that_says_the_end_may_still_be_answered(ends: Ends) -> None:
    asking, tls = ends
    asking.sendall(b"request")
    asking.setblocking(False)
    with suppress(ssl.SSLWantReadError):
        asking.unwrap()  # the TCP connection stays open
    assert received(tls) == b"request"
    assert received(tls) == b""
    assert tls.send(b"answer") == 6


def test_shutdown_says_that_the_end_is_meant(ends: Ends) -> None:
    asking, tls = ends
    assert tls.send(b"answer") == 6
    tls.shutdown(socket.SHUT_WR)
    tls.close()
    assert asking.recv(100) == b"answer"
    assert asking.recv(100) == b""  # close_notify: without it recv raises


def test_close_alone_lets_the_peer_see_a_cut(ends: Ends) -> None:
    asking, tls = ends
    assert tls.send(b"half of an answer") == 17
    tls.close()
    assert asking.read(100) == b"half of an answer"
    with pytest.raises(ssl.SSLEOFError):
        asking.read(100)


def test_after_shutdown_what_the_peer_sent_and_sends_is_read(server: ssl.SSLContext) -> None:
    _, client, tls = connected(server)
    client.tls.write(b"abc")
    client.tls.write(b"def")
    client.push()
    assert tls.recv(1) == b"a"
    tls.shutdown(socket.SHUT_WR)
    assert client.read_all() == b""
    client.tls.write(b"ghi")
    client.push()
    got = b""
    while len(got) < 8:
        got += tls.recv(2)
    assert got == b"bcdefghi"
    with pytest.raises(OSError, match="PROTOCOL_IS_SHUTDOWN"):
        tls.send(b"more")


def test_shutdown_before_the_handshake_closes_and_says_nothing(server: ssl.SSLContext) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tls = TlsSocket(ours, server)
        tls.shutdown(socket.SHUT_WR)
        assert theirs.recv(100) == b""


def test_plaintext_before_a_broken_record_is_read_before_the_error(server: ssl.SSLContext) -> None:
    wire, client, tls = connected(server)
    client.tls.write(b"good")
    client.push()
    wire.to_read += b"\x17\x03\x03\x00\x20" + bytes(32)
    assert tls.recv(65536) == b"good"
    assert tls.pending()
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            tls.recv(65536)
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        client.read_all()  # the peer has been told


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


# --- sending --------------------------------------------------------------------------------


def test_what_is_counted_as_sent_is_with_the_wire(server: ssl.SSLContext) -> None:
    wire, client, tls = connected(server)
    wire.room = 100
    data = MEGABYTE[: 3 * SEND_BYTES]
    with pytest.raises(BlockingIOError):
        tls.send(data)
    assert tls.wants_write
    wire.room = SEND_BYTES + 5000
    assert tls.send(data) == SEND_BYTES
    wire.room = 1 << 30
    assert tls.send(data[SEND_BYTES:]) == 2 * SEND_BYTES
    assert client.read_all() == data
    assert not tls.wants_write


def test_what_a_read_has_flushed_is_counted_by_the_next_send(server: ssl.SSLContext) -> None:
    wire, client, tls = connected(server)
    wire.room = 100
    with pytest.raises(BlockingIOError):
        tls.send(b"x" * 1000)
    wire.room = 1 << 30
    assert tls.flush()
    assert tls.send(b"x" * 1000 + b"y") == 1001
    assert client.read_all() == b"x" * 1000 + b"y"


@given(st.lists(st.tuples(st.integers(1, 150_000), st.integers(0, 100_000)), min_size=1, max_size=8))
@settings(max_examples=40)
def test_however_the_wire_takes_it_the_peer_reads_what_was_counted(
    server: ssl.SSLContext, steps: list[tuple[int, int]]
) -> None:
    wire, client, tls = connected(server)
    offered = counted = 0
    read = bytearray()
    for size, room in steps:
        wire.room = room
        offered = min(offered + size, len(MEGABYTE))
        with suppress(BlockingIOError):
            counted += tls.send(MEGABYTE[counted:offered])
        read += client.read_all()
        assert len(read) >= counted
    wire.room = 1 << 30
    while counted < offered:
        counted += tls.send(MEGABYTE[counted:offered])
    read += client.read_all()
    assert read == MEGABYTE[:offered]
    assert not tls.wants_write


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=6), st.integers(300, 100_000), st.integers(300, 60_000))
@settings(max_examples=40)
def test_however_it_comes_and_is_read_all_of_it_is_read(
    server: ssl.SSLContext, records: list[int], piece: int, read: int
) -> None:
    wire, client, tls = connected(server)
    sent = MEGABYTE[: sum(records)]
    at = 0
    for size in records:
        client.tls.write(sent[at : at + size])
        at += size
    cipher = client.up.read()
    got = bytearray()
    while cipher or wire.to_read or tls.pending():
        wire.to_read += cipher[:piece]
        cipher = cipher[piece:]
        with suppress(BlockingIOError):
            got += tls.recv(read)
        assert len(tls._kept) + tls._in.pending + tls._tls.pending() <= RECEIVE_BYTES + RECORD_BYTES
    assert got == sent


def test_a_peer_that_asks_and_takes_no_answer_is_cut_off(
    server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, client, tls = connected(server)
    wire.room = 0
    with pytest.raises(BlockingIOError):
        tls.send(b"an answer that he doesn't take")
    client.tls.write(b"question")
    client.push()
    monkeypatch.setattr(tls_socket, "MAX_ANSWERS_BYTES", 99)
    tls._out.write(b"a" * 100)  # what OpenSSL writes of its own when it is asked something
    assert tls.recv(100) == b"question"  # nothing that was decrypted is lost for it
    with pytest.raises(ConnectionAbortedError):
        tls.recv(100)


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
        shell.process.communicate(timeout=5)
        assert received(shell.tls) == b""


def test_a_client_may_not_renegotiate(server: ssl.SSLContext, tmp_path: Path) -> None:
    with Shell(server, tmp_path / "said", "-tls1_2") as shell:
        shell.asks("one")
        shell.type("R")
        with pytest.raises(ssl.SSLError):  # that client takes no for an error
            received(shell.tls)
        shell.says("no renegotiation")
