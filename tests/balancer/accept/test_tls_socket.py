"""The socket that speaks TLS: nothing is lost, nothing waits, and what is counted as sent is sent."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.accept import tls_socket
from balancer.accept.tls import TlsContexts
from balancer.accept.tls_socket import RECEIVE_BYTES, RECORD_BYTES, SEND_BYTES, TlsSocket
from tests.balancer.certificates import client_context, make_certificate, shaken
from tests.balancer.tls_wire import connected, received
from tests.services import PATIENCE_S, wait_for

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


def test_a_megabyte_goes_both_ways_at_once_through_narrow_sockets(ends: Ends) -> None:
    asking, tls = ends
    for end in (asking, tls.carrier):
        assert isinstance(end, socket.socket)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    asking.setblocking(False)
    up, down = memoryview(MEGABYTE), memoryview(MEGABYTE)
    got_up, got_down = bytearray(), bytearray()
    blocked = 0
    deadline = time.monotonic() + PATIENCE_S
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
