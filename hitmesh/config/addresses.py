"""How addresses, networks and hosts are written in settings. Pure; knows no particular setting.

What is wrong is a ValueError, said so that it can follow the value it is about.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime

from hitmesh.protocol.names import bracketed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SSH_PORT = 22
DEFAULT_HOST = "default"  # the pattern of every Host that no other one matches

MAX_HOST_CHARS = 253  # of a name in the DNS (RFC 1035, section 2.3.4)
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


def check_host(text: str) -> None:
    """Raise ValueError unless `text` is an address, IPv6 without brackets, or a name that could be one's."""
    if text.startswith("[") and text.endswith("]") and _is_ipv6(text[1:-1]):
        raise ValueError(f"is written without brackets here: {text[1:-1]}")
    if ":" in text and not _is_ipv6(text):
        raise ValueError("is not an IPv6 address")
    if ":" in text:
        return
    if re.search(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", text.lower()):  # no name ends in a number (RFC 1123, section 2.1)
        try:
            ipaddress.IPv4Address(text)
        except ValueError as error:
            raise ValueError("is not an IPv4 address") from error
    elif len(text) > MAX_HOST_CHARS or not _NAME.fullmatch(text.lower().removesuffix(".")):
        raise ValueError("is neither an address nor a name")


def host_port_text(host: str, port: int | None) -> str:
    """HOST:PORT, as `host_port` reads it and URLs have it: an IPv6 address in brackets."""
    return f"{bracketed(usual(host))}:{port}"


def usual(host: str) -> str:
    """An IPv6 address in the one way that the kernel and browsers write it (RFC 5952); anything else as it is."""
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        return host


def host_port(text: str, *, lowest_port: int = 1) -> tuple[str, int]:
    """HOST:PORT taken apart; an IPv6 address is in brackets, which are dropped. Raises ValueError."""
    found = _HOST_PORT.fullmatch(text)
    if found is None or not lowest_port <= int(found["port"]) <= 65_535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    if found["ipv6"] and not _is_ipv6(found["ipv6"]):
        raise ValueError(f"has no IPv6 address between its brackets: {found['ipv6']}")
    if found["name"]:
        check_host(found["name"])
    return found["ipv6"] or found["name"], int(found["port"])


def ssh_place(text: str) -> tuple[str, int]:
    """Where sshd is: HOST or HOST:PORT, IPv6 with brackets only where a port follows. Raises ValueError."""
    if text.startswith("[") or text.count(":") == 1:
        return host_port(text)
    check_host(text)
    return text, SSH_PORT


def network(text: str) -> Network:
    """A network in CIDR, or a single address as the network of itself. Raises ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        near = _without_host_bits(text)
        hint = f"; did you mean {near}?" if near else ", such as 10.0.0.0/8 or 192.0.2.7"
        raise ValueError(f"must be a network in CIDR or an address{hint}") from error


def interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """An address together with its network's prefix length. Raises ValueError."""
    try:
        found = ipaddress.ip_interface(text)
    except ValueError as error:
        raise ValueError("must be an address with its network's prefix length, such as 10.2.0.100/24") from error
    if "/" not in text:
        raise ValueError("lacks its network's prefix length, such as 10.2.0.100/24")
    return found


def host_pattern(text: str) -> str:
    """The one way a pattern of Hosts is written: small letters, no dot at the end. Raises ValueError.

    A pattern is "default", an exact name or address, or "*." and the end of names.
    """
    pattern = text.lower().removesuffix(".")
    if pattern == "*":
        raise ValueError(f'must be a name; the pattern of every other Host is "{DEFAULT_HOST}"')
    if pattern.startswith("[") and pattern.endswith("]") and _is_ipv6(pattern[1:-1]):
        return bracketed(usual(pattern[1:-1]))
    name = pattern.removeprefix("*.")
    if len(name) <= MAX_HOST_CHARS and _NAME.fullmatch(name):
        return pattern
    without_port = re.sub(r":[0-9]*$", "", pattern)
    if without_port != pattern and "://" not in pattern:
        raise ValueError(f"must have no port; did you mean {without_port}?")
    if not pattern.isascii():
        raise ValueError("must be ASCII, as browsers send it: xn--... for other letters")
    raise ValueError(f'must be a name such as www.example.com, "*.example.com", or "{DEFAULT_HOST}"')


def moment(text: str) -> float:
    """Seconds since 1970 of a date, or a date and time, in UTC; 0 for none. Raises ValueError."""
    if not text:
        return 0.0
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("must be a date and time in UTC, such as 2026-12-24T12:00Z") from error
    if found.tzinfo is None and len(text) > len("2026-12-24"):
        raise ValueError("must say that it is in UTC: a Z at its end")
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()


def is_of_family(address: str, version: int) -> bool:
    """Whether it is a numeric address of IPv4 or IPv6."""
    try:
        return ipaddress.ip_address(address).version == version
    except ValueError:
        return False


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone means something on one host only


def _without_host_bits(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return ""
