"""All cases of the corpus, and their combinations. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Final

from tests.balancer.wire.case import AFTER, Case, chunked, request, sized
from tests.balancer.wire.invalid_bodies import invalid_bodies
from tests.balancer.wire.invalid_fields import invalid_fields
from tests.balancer.wire.invalid_heads import invalid_heads
from tests.balancer.wire.valid_bodies import valid_bodies
from tests.balancer.wire.valid_heads import valid_heads

# Each is put into every place of each of these requests, and in the place of every byte.
INTRUDERS: Final = (
    b"\x00",
    b"\t",
    b"\n",
    b"\x0b",
    b"\r",
    b" ",
    b"\x7f",
    b"\x80",
    b":",
    b",",
    b";",
    b"0",
    b"\r\n",
    b"\r\n ",
)
HOSTS: Final = (
    request(b"X-A: b", start=b"GET /a?b=c HTTP/1.1"),
    sized(b"abc", b"X-A: b"),
    chunked(b"TE: trailers", body=b"3;a=b\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
    request(b"Connection: keep-alive, X-B", b"X-B: 1", start=b"GET http://b.example:80/ HTTP/1.0"),
)


@cache
def named_cases() -> tuple[Case, ...]:
    """Every case that somebody thought of, with what must come of it."""
    return (*valid_heads(), *valid_bodies(), *invalid_heads(), *invalid_fields(), *invalid_bodies())


def combinations() -> Iterator[bytes]:
    """Some thousands of requests with one thing wrong (or not), each followed by AFTER."""
    for host in HOSTS:
        for at in range(len(host)):
            yield host[:at] + host[at + 1 :] + AFTER
            for intruder in INTRUDERS:
                yield host[:at] + intruder + host[at:] + AFTER
                yield host[:at] + intruder + host[at + 1 :] + AFTER


def in_pieces(data: bytes, rng: random.Random) -> list[bytes]:
    """The same bytes, cut at random: many small pieces, or a few large ones."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 3, 20))))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]
