"""The door of a virtual IP's listening sockets: shut, nobody is let in any more, and nobody is refused either.

By the least TTL that a packet must have (RFC 5082), which every client's is below: the kernel drops what is less, and
whoever tries to connect does so again after a second, perhaps elsewhere. It needs no rights; a filter of packets
(SO_ATTACH_FILTER), which would say it more plainly, needs CAP_NET_ADMIN where the kernel keeps BPF for those who have it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final

# Python has no names for them: linux/in.h, linux/in6.h. They came with Linux 2.6.34 and 2.6.35.
_MIN_TTL: Final = {socket.AF_INET: (socket.IPPROTO_IP, 21), socket.AF_INET6: (socket.IPPROTO_IPV6, 73)}
_MOST: Final = 255


def shut(listeners: Iterable[socket.socket]) -> None:
    """From now on the kernel answers nobody new there, for all processes that have the sockets. Raises OSError.

    Who is in isn't touched. Who is on the way comes in, and what they send is dropped until they are `welcome`.
    """
    for listener in listeners:
        listener.setsockopt(*_MIN_TTL[listener.family], _MOST)


def welcome(accepted: Any) -> None:
    """Hear a connection that came through while the door was shut: it has what its listening socket had."""
    if accepted.family in _MIN_TTL:
        accepted.setsockopt(*_MIN_TTL[accepted.family], 0)
