"""The virtual IP of an instance, and whether it is this host's at the moment: the kernel's word, by rtnetlink(7).

To bind the address would tell less: with `ip_nonlocal_bind` that succeeds everywhere.
"""

from __future__ import annotations

import socket
from pathlib import Path
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

# linux/netlink.h, linux/rtnetlink.h
_HEAD: Final = Layout("=IHHII")  # struct nlmsghdr: length, type, flags, number, port
_ROUTE: Final = Layout("=8BI")  # struct rtmsg: family, length of the destination, ..., type, flags
_ATTRIBUTE: Final = Layout("=HH")  # struct rtattr: length, type
_NETLINK_ROUTE: Final = 0
_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_NLM_F_REQUEST: Final = 1
_RTA_DST: Final = 1
_TYPE_AT: Final = _HEAD.size + 7
_RTN_LOCAL: Final = 2
_ANSWER_BYTES: Final = 4096


class VirtualIp(Struct, frozen=True):
    """The address, numeric, and the file for what is said to its check."""

    address: str
    said: Path


def is_here(address: str) -> bool:
    """Whether this host has `address`, a numeric one: whether the way there ends here."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = _ROUTE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _RTA_DST) + packed
    request = _HEAD.pack(_HEAD.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as kernel:
            kernel.sendto(request, (0, 0))
            answer = kernel.recv(_ANSWER_BYTES)  # at once: the kernel answers while it is asked
    except OSError:  # no descriptor is left; who can't know doesn't insist
        return False
    return _HEAD.unpack_from(answer)[1] == _RTM_NEWROUTE and answer[_TYPE_AT] == _RTN_LOCAL
