"""From a URL to a totals store. Owns the URLs' syntax; each store is imported only when named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hitmesh.config import Config
from hitmesh.errors import ConfigError
from hitmesh.store import TotalsStore

if TYPE_CHECKING:
    from hitmesh.store.consul_http import Host

ENTRY_POINTS = "hitmesh.stores"
"""The group in which a store of somebody else's is registered by its URL's scheme: a callable
(url, config, base) -> TotalsStore."""

_SQLITE = "sqlite:///PATH, relative to the state folder, or sqlite:////PATH"
_CONSUL = "consul://HOST:PORT[,HOST:PORT...]/PREFIX"
# A key is this prefix and more: nothing that a URL could turn into another key.
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


def open_store(config: Config, base: Path) -> TotalsStore:
    """The store of stores.totals; paths are relative to `base`. Nothing is opened or asked yet.

    Raises ConfigError for a URL that names none.
    """
    url = config.stores.totals
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite":
        return _open_sqlite(url, rest, base)
    if separator and scheme == "consul":
        return _open_consul(url)
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        if separator and point.name == scheme:
            store: TotalsStore = point.load()(url, config, base)
            return store
    raise _wrong(url, f"{_SQLITE} or {_CONSUL}")


def _open_sqlite(url: str, rest: str, base: Path) -> TotalsStore:
    from hitmesh.store.sqlite import SqliteTotals

    path = unquote(rest)
    if not path.startswith("/") or path.endswith("/") or "?" in rest or "#" in rest or "\0" in path:
        raise _wrong(url, _SQLITE)
    return SqliteTotals(base / path[1:])  # a fourth slash makes the right side absolute, and the result


def consul_place(url: str) -> tuple[list[Host], str]:
    """The hosts and the prefix in a URL of stores.totals that begins with consul://. Raises ConfigError."""
    from hitmesh.store.consul_http import Host
    from hitmesh.store.consul_keys import MAX_PREFIX_BYTES

    authority, _, prefix = url.removeprefix("consul://").partition("/")
    prefix = prefix.removesuffix("/")
    if not _PREFIX.fullmatch(prefix):
        raise _wrong(url, f"{_CONSUL}, the prefix of letters, digits, _, - and .")
    if len(prefix) > MAX_PREFIX_BYTES:
        raise _wrong(url, f"{_CONSUL}, the prefix of at most {MAX_PREFIX_BYTES} bytes")
    hosts = []
    for text in authority.split(","):
        found = _HOST.fullmatch(text)
        if not found or not 1 <= int(found["port"]) <= 65_535:
            raise _wrong(url, f"{_CONSUL}; {text!r} is not HOST:PORT")
        hosts.append(Host(found["ipv6"] or found["name"], int(found["port"])))
    return hosts, prefix


def _open_consul(url: str) -> TotalsStore:
    from hitmesh.store.consul import ConsulTotals

    return ConsulTotals(*consul_place(url))


def _wrong(url: str, right: str) -> ConfigError:
    return ConfigError(f"stores.totals: {url!r} names no totals store; it is written {right}")
