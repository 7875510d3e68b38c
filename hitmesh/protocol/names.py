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

KEY: Final = r"^[0-9a-f]{64}\Z"
"""A public CURVE key: 32 bytes in hexadecimal, which no shell, file or log takes amiss."""

MAX_ENDPOINT_CHARS: Final = 128  # with the longest IPv6 address 58, and a key 123
_IPV4: Final = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
_PLACE: Final = rf"(?:{_IPV4}|\[[0-9a-fA-F:.]{{2,45}}\]):[0-9]{{1,5}}"
ENDPOINT: Final = rf"^(?:https?://{_PLACE}|tcp://{_PLACE}(?:/[0-9a-f]{{64}})?)\Z"
"""The form of an endpoint on the wire; `is_numeric` has the last word. A socket with a key says it behind its port."""

_NAME = re.compile(NAME)
_KEY = re.compile(KEY)
_PARTS = re.compile(
    rf"(?P<scheme>tcp|https?)://(?:(?P<ipv4>{_IPV4})|\[(?P<ipv6>[0-9a-fA-F:.]+)\]):(?P<port>[0-9]{{1,5}})"
)


def is_name(text: str) -> bool:
    """Whether `text` can be a name."""
    return _NAME.match(text) is not None


def is_key(text: str) -> bool:
    """Whether `text` can be a public key."""
    return _KEY.match(text) is not None


def split_key(endpoint: str) -> tuple[str, str]:
    """An endpoint without its key, and the key; empty where it has none."""
    place, _, key = endpoint.rpartition("/")
    return (place, key) if is_key(key) and not place.endswith("/") else (endpoint, "")


def with_key(endpoint: str, key: str) -> str:
    """An endpoint that says under which key it is; an empty key says none."""
    return f"{endpoint}/{key}" if key else endpoint


def is_numeric(endpoint: str) -> bool:
    """Whether somebody can be reached there without a name being looked up."""
    found = _PARTS.fullmatch(split_key(endpoint)[0])
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
