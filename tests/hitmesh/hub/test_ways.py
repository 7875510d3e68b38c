"""Which address of a name is used."""

from __future__ import annotations

import socket

import pytest

from hitmesh.hub.ways import Found, best
from tests.services import require_ipv6

NOWHERE = ("255.255.255.255", "ff02::1")  # no host lets a socket connect there that hasn't asked for it


def found(*addresses: str) -> list[Found]:
    """As getaddrinfo answers."""
    return [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in addresses
    ]


@pytest.mark.parametrize(
    ("addresses", "used"),
    [
        (("127.0.0.1",), "127.0.0.1"),
        (("::1", "127.0.0.1"), "127.0.0.1"),
        (("127.0.0.1", "::1"), "127.0.0.1"),
        (("255.255.255.255", "::1"), "::1"),
        (("::1", "255.255.255.255"), "::1"),
        (("ff02::1", "127.0.0.1"), "127.0.0.1"),
        (NOWHERE, "255.255.255.255"),
    ],
)
def test_ipv4_is_used_where_there_is_a_way_to_it(addresses: tuple[str, ...], used: str) -> None:
    require_ipv6()
    assert best(found(*addresses))[4][0] == used
