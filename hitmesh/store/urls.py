"""The URLs that name a store on this machine or on Consul: what stores.totals and stores.settings have in common.

`key` is the setting that holds the URL, for the error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from hitmesh.errors import ConfigError
from hitmesh.store.consul_host import Host, Tls
from hitmesh.store.consul_keys import MAX_PREFIX_BYTES

_SQLITE: Final = "sqlite:///PATH, relative to the state folder, or sqlite:////PATH"
_CONSUL: Final = "consul://HOST:PORT[,HOST:PORT...]/PREFIX"
_CONSUL_TLS: Final = "consul+https://HOST:PORT[,HOST:PORT...]/PREFIX[?ca=FILE]"
# A key is this prefix and more: nothing that a URL could turn into another key.
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


def sqlite_path(key: str, url: str, base: Path) -> Path:
    """The file in a URL that begins with sqlite://; one with three slashes is below `base`. Raises ConfigError."""
    rest = url.removeprefix("sqlite://")
    path = unquote(rest)
    if not path.startswith("/") or path.endswith("/") or "?" in rest or "#" in rest or "\0" in path:
        raise _wrong(key, url, _SQLITE)
    return base / path[1:]  # a fourth slash makes the right side absolute, and the result


def is_consul(url: str) -> bool:
    """Whether a URL names a store on Consul."""
    return url.startswith(("consul://", "consul+https://"))


def consul_place(key: str, url: str) -> tuple[list[Host], str]:
    """The hosts and the prefix in a URL that `is_consul`. Raises ConfigError.

    The file of `?ca=` holds the certificates of those who may have signed the agents'.
    """
    scheme, _, rest = url.partition("://")
    tls, right = None, _CONSUL
    if scheme == "consul+https":
        right = _CONSUL_TLS
        rest, _, query = rest.partition("?")
        tls = _tls(key, url, query)
    authority, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if not _PREFIX.fullmatch(prefix):
        raise _wrong(key, url, f"{right}, the prefix of letters, digits, _, - and .")
    if len(prefix) > MAX_PREFIX_BYTES:
        raise _wrong(key, url, f"{right}, the prefix of at most {MAX_PREFIX_BYTES} bytes")
    hosts = []
    for text in authority.split(","):
        found = _HOST.fullmatch(text)
        if not found or not 1 <= int(found["port"]) <= 65_535:
            raise _wrong(key, url, f"{right}; {text!r} is not HOST:PORT")
        hosts.append(Host(found["ipv6"] or found["name"], int(found["port"]), tls))
    return hosts, prefix


def _tls(key: str, url: str, query: str) -> Tls:
    name, _, value = query.partition("=")
    ca = unquote(value)
    if query and (name != "ca" or not ca.startswith("/") or "\0" in ca):
        raise _wrong(key, url, f"{_CONSUL_TLS}, FILE with its whole path")
    tls = Tls(ca)
    try:
        tls.context()
    except OSError as error:  # OpenSSL's too
        file = ca or "the file of CONSUL_CACERT"
        raise ConfigError(f"{key}: {file} can't be read as certificates: {error.strerror or error}") from error
    return tls


def names_none(key: str, url: str) -> ConfigError:
    """The error for a URL of a scheme that nobody knows."""
    return _wrong(key, url, f"{_SQLITE}, {_CONSUL} or {_CONSUL_TLS}")


def _wrong(key: str, url: str, right: str) -> ConfigError:
    return ConfigError(f"{key}: {url!r} names no {key.removeprefix('stores.')} store; it is written {right}")
