"""The URLs that name a store on this machine or on Consul: what stores.totals and stores.settings have in common.

`key` is the setting that holds the URL, for the error. `role` is who opens it: with `{role}` in the path of a
file, each role has its own, and so has an operator who gives commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from hitmesh.errors import ConfigError
from hitmesh.store.consul_access import Tls, Token
from hitmesh.store.consul_host import Host
from hitmesh.store.consul_keys import MAX_PREFIX_BYTES

_TLS_FILES: Final = ("ca", "cert", "key")
_SQLITE: Final = "sqlite:///PATH, relative to the state folder, or sqlite:////PATH"
OPERATOR: Final = "operator"  # who gives commands, where roles have their names

_CONSUL: Final = "consul://HOST:PORT[,HOST:PORT...]/PREFIX[?token=FILE]"
_CONSUL_TLS: Final = "consul+https://HOST:PORT[,HOST:PORT...]/PREFIX[?ca=FILE&cert=FILE&key=FILE&token=FILE]"
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


def consul_place(key: str, url: str, role: str = OPERATOR) -> tuple[list[Host], str]:
    """The hosts and the prefix in a URL that `is_consul`. Raises ConfigError, also for a file that can't be used."""
    scheme, _, rest = url.partition("://")
    secure = scheme == "consul+https"
    right = _CONSUL_TLS if secure else _CONSUL
    rest, _, query = rest.partition("?")
    files = _files(key, url, query, role, (*_TLS_FILES, "token") if secure else ("token",))
    token = Token(files.pop("token", ""))
    tls = Tls(**files) if secure else None
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
        hosts.append(Host(found["ipv6"] or found["name"], int(found["port"]), tls, token))
    try:
        token.headers()
        if tls is not None:
            tls.context()
    except ConfigError as error:
        raise ConfigError(f"{key}: {error.message}", hint=error.hint) from error
    return hosts, prefix


def _files(key: str, url: str, query: str, role: str, known: Sequence[str]) -> dict[str, str]:
    """The files in the URL's query, by what they hold."""
    files: dict[str, str] = {}
    for text in query.split("&") if query else ():
        name, _, value = text.partition("=")
        file = unquote(value).replace("{role}", role)
        if name not in known or name in files or not file.startswith("/") or "\0" in file:
            raise _wrong(key, url, f"{_CONSUL_TLS if 'ca' in known else _CONSUL}, FILE with its whole path")
        files[name] = file
    if "key" in files and "cert" not in files:
        raise _wrong(key, url, f"{_CONSUL_TLS}, a key with its certificate")
    return files


def names_none(key: str, url: str) -> ConfigError:
    """The error for a URL of a scheme that nobody knows."""
    return _wrong(key, url, f"{_SQLITE}, {_CONSUL} or {_CONSUL_TLS}")


def _wrong(key: str, url: str, right: str) -> ConfigError:
    if is_consul(url):
        url = url.partition("?")[0]  # somebody may have written the token itself
    return ConfigError(f"{key}: {url!r} names no {key.removeprefix('stores.')} store; it is written {right}")
