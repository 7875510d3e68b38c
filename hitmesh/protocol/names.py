"""What a name, and an address, from another process may look like. Pure; the one grammar of both.

What comes from outside is shown on terminals, written to logs and compared: so a name is short, and
printable ASCII without quotes, spaces or slashes. An address is numeric, as ZeroMQ resolves names in
its I/O thread: one name server that is silent would stop every message of the process.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

MAX_NAME_CHARS: Final = 128
NAME: Final = r"^[A-Za-z0-9._-]{1,128}\Z"
"""Of datacenters, roles, instances, their ids, states, endpoints and loads. Those in a configuration are some of
these (hitmesh.config)."""

STATE: Final = r"^[ -~]{1,128}\Z"
"""Of an instance's state: a word, and behind it why. Printable ASCII."""

MAX_ENDPOINT_CHARS: Final = 64  # with the longest IPv6 address 58
_IPV4: Final = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
ENDPOINT: Final = rf"^(?:tcp|https?)://(?:{_IPV4}|\[[0-9a-fA-F:.]{{2,45}}\]):[0-9]{{1,5}}\Z"
"""The form of an endpoint on the wire; `is_numeric` has the last word."""

_NAME = re.compile(NAME)
_PARTS = re.compile(
    rf"(?P<scheme>tcp|https?)://(?:(?P<ipv4>{_IPV4})|\[(?P<ipv6>[0-9a-fA-F:.]+)\]):(?P<port>[0-9]{{1,5}})"
)


def is_name(text: str) -> bool:
    """Whether `text` can be a name."""
    return _NAME.match(text) is not None


def is_numeric(endpoint: str) -> bool:
    """Whether somebody can be reached there without a name being looked up."""
    found = _PARTS.fullmatch(endpoint)
    if found is None or not 1 <= int(found["port"]) <= 65_535:
        return False
    try:
        ipaddress.ip_address(found["ipv4"] or found["ipv6"])
    except ValueError:
        return False
    return True


def bracketed(address: str) -> str:
    """A host as endpoints and URLs write it: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address
