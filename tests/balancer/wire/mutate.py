"""Connections that went wrong: cases of the corpus, changed at random. Pure, and the same for the same seed."""

from __future__ import annotations

import random
from typing import Final

from tests.balancer.wire.case import AFTER
from tests.balancer.wire.corpus import HOSTS, named_cases

LONGEST: Final = 4096  # bytes: the long cases are about limits, and slow to change
TOKENS: Final = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\r\n ", b" ", b"\t", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff", b":", b": ", b",", b";", b"=", b'"', b"\\",
    b"0", b"1", b"3", b"a", b"f", b"0x", b"+", b"-", b"_", b"0\r\n\r\n", b"3\r\nabc\r\n", b"5;a=b\r\n", b"ffffffffffffffff", b"99999999999999999999",
    b"Host: a.example\r\n", b"Host: b.example\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: X-A, Host\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n",
    b"Connection: upgrade\r\n", b"TE: trailers\r\n", b"Trailer: X-A\r\n", b"X-A: 1\r\n", b"chunked", b"identity", b"gzip, ", b"close", b"HTTP/1.1", b"HTTP/1.0",
    b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"HEAD ", b"OPTIONS * ", b"CONNECT ", b"http://b.example", b"/", b"*", b"#", b"%00", b"HTTP/1.1 200 OK\r\n",
)  # fmt: skip


class Mutator:
    """Gives one connection's bytes after another."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        cases = [case for case in named_cases() if len(case.raw) <= LONGEST]
        self._valid = [*HOSTS, *(case.raw for case in cases if not case.status)]
        self._seeds = self._valid + [case.raw for case in cases if case.status]

    def one(self) -> bytes:
        """What a client may send on one connection; it mostly ends with a request that closes it."""
        rng = self._rng
        # Mostly a valid request with one thing wrong: what is wrong all over is easily refused.
        data = rng.choice(self._valid if rng.random() < 0.8 else self._seeds)
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3, 8))):
            data = self._change(data)
        if rng.random() < 0.2:
            data = rng.choice(HOSTS) + data
        return data + AFTER if rng.random() < 0.95 else data

    def _change(self, data: bytes) -> bytes:
        rng = self._rng
        at = rng.randrange(len(data) + 1)
        match rng.randrange(9):
            case 0:  # a flipped bit
                at = min(at, len(data) - 1)
                return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if data else data
            case 1:  # any byte
                return data[:at] + rng.randbytes(1) + data[at + 1 :]
            case 2 | 3:
                return data[:at] + rng.choice(TOKENS) + data[at:]
            case 4:
                return data[:at] + rng.choice(TOKENS) + data[at + rng.randrange(4) :]
            case 5:  # something is missing
                return data[:at] + data[at + rng.randrange(1, 12) :]
            case 6:  # cut short
                return data[:at]
            case 7:  # a piece twice
                return data[: at + rng.randrange(40)] + data[at:]
            case _:  # the beginning of one, the end of another
                other = rng.choice(self._seeds)
                return data[:at] + other[rng.randrange(len(other) + 1) :]
