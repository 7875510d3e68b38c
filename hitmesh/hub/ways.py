"""Which of a name's addresses is used: one that this host has a way to, IPv4 before IPv6.

IPv4 first, as ever: an IPv6 address of a host needn't lead to where its processes are bound. But on a network of
IPv6 alone an IPv4 address leads nowhere.
"""

from __future__ import annotations

import _socket  # gevent's own would make a hub in the thread that calls it
from collections.abc import Sequence
from typing import Any

Found = tuple[int, int, int, str, Any]  # an answer of getaddrinfo


def best(found: Sequence[Found]) -> Found:
    """The one to use, of at least one."""
    return min(found, key=lambda one: (not _has_way(one), one[0] != _socket.AF_INET))


def _has_way(one: Found) -> bool:
    """Whether the kernel knows one; nothing is sent."""
    try:
        probe = _socket.socket(one[0], _socket.SOCK_DGRAM)
    except OSError:
        return False
    try:
        probe.connect(one[4])
    except OSError:
        return False
    finally:
        probe.close()
    return True
