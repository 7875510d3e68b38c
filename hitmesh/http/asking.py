"""Who asks, and under which name, by a request's WSGI environment. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Mapping

from msgspec import Struct


class Refusal(Struct, frozen=True):
    """Why a request isn't carried out. 401 asks for the token."""

    status: int
    title: str
    description: str


def credentials(environ: Mapping[str, str]) -> tuple[str, bytes]:
    """The user's name, if one was given, and the token."""
    scheme, _, value = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return "", value.encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return "", b""
        return user.decode("utf-8", "replace"), password
    return "", b""


def host_of(host: str) -> str:
    """The name in a Host field: small letters, without port, brackets and trailing dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_address(host: str) -> bool:
    """Whether a Host without port is an address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
