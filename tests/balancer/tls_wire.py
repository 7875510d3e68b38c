"""A wire in memory with a TLS client at its end, for what can't be had from a real socket."""

from __future__ import annotations

import errno
import select
import ssl
import time
from contextlib import suppress

from balancer.accept.tls_socket import RECORD_BYTES, TlsSocket
from tests.balancer.certificates import client_context
from tests.services import PATIENCE_S


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
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return tls.recv(size)
        except BlockingIOError:
            assert tls.pending() == 0
            assert select.select([tls], [], [], deadline - time.monotonic())[0], "nothing came"
