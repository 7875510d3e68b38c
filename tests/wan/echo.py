"""Echo requests (ICMP) from one host to another: how long they take, and how many are answered."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

from tests.wan.host import Host

REQUEST: Final = 8
REPLY: Final = 0
SO_RCVBUFFORCE: Final = 33  # socket(7): beyond the system's limit; Python has no name for it
RECEIVE_BYTES: Final = 16 * 1024 * 1024  # answers that wait for this process to get the CPU
PAYLOAD: Final = bytes(56)  # as ping(8) sends


@dataclass(frozen=True)
class Echoes:
    """What came of some echo requests."""

    sent: int
    times_s: list[float]  # of those that were answered, in the order of the answers

    @property
    def answered(self) -> float:
        """The share of them."""
        return len(self.times_s) / self.sent


def echo(source: Host, address: str, *, count: int = 1, gap_s: float = 0.0, patience_s: float = 2.0) -> Echoes:
    """Send so many, with a gap between them, and wait for the answers until none has come for `patience_s`."""
    with source.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    identity = os.getpid() & 0xFFFF
    sent_at: dict[int, float] = {}
    times_s: list[float] = []
    begun = heard = time.monotonic()
    with sock:
        while len(times_s) < count:
            while len(sent_at) < count and begun + len(sent_at) * gap_s <= time.monotonic():
                number = len(sent_at)
                sent_at[number] = heard = time.monotonic()
                # A host that can't be reached may be told of at the next call: it is an answer that doesn't come.
                with contextlib.suppress(OSError):
                    sock.sendto(_request(identity, number), (address, 0))
            sock.settimeout(0.001 if len(sent_at) < count else 0.05)
            try:
                packet = sock.recv(2048)
            except OSError:  # only now: this process may have been waiting for the CPU, and the answers for it
                if len(sent_at) == count and time.monotonic() > heard + patience_s:
                    break
                continue
            kind, _, _, whose, number = struct.unpack_from("!BBHHH", packet, (packet[0] & 0xF) * 4)
            if (kind, whose) == (REPLY, identity) and number in sent_at:
                heard = time.monotonic()
                times_s.append(heard - sent_at[number])
    return Echoes(count, times_s)


def _request(identity: int, number: int) -> bytes:
    def packed(checksum: int) -> bytes:
        return struct.pack("!BBHHH", REQUEST, 0, checksum, identity, number) + PAYLOAD

    # RFC 1071: the one's complement of the one's complement sum of all 16 bit words
    total = sum(struct.unpack(f"!{len(packed(0)) // 2}H", packed(0)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return packed(~total & 0xFFFF)
