"""From a URL to a settings store. Owns the URLs' syntax; each store is imported only when named.

A third party's scheme is an entry point of the group `hitmesh.settings`, named like the scheme: a
callable (url, base) that returns a SettingsStore.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from hitmesh.errors import ConfigError
from hitmesh.settings import SettingsStore

GROUP: Final = "hitmesh.settings"
MAX_PREFIX_BYTES: Final = 64  # as for totals: both are the same mesh's

_SQLITE: Final = "sqlite:///PATH, relative to the state folder, or sqlite:////PATH"
_CONSUL: Final = "consul://HOST:PORT[,HOST:PORT...]/PREFIX"
# A key is this prefix and more: nothing that a URL could turn into another key.
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


def open_settings(url: str, base: Path) -> SettingsStore:
    """The store that `url` (stores.settings) names; paths are relative to `base`. Nothing is opened or asked yet.

    Raises ConfigError for a URL that names none.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "sqlite":
        return _open_sqlite(url, rest, base)
    if separator and scheme == "consul":
        return _open_consul(url, rest)
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        if separator and point.name == scheme:
            store: SettingsStore = point.load()(url, base)
            return store
    raise _wrong(url, f"{_SQLITE} or {_CONSUL}")


def _open_sqlite(url: str, rest: str, base: Path) -> SettingsStore:
    from hitmesh.settings.sqlite import SqliteSettings

    path = unquote(rest)
    if not path.startswith("/") or path.endswith("/") or "?" in rest or "#" in rest or "\0" in path:
        raise _wrong(url, _SQLITE)
    return SqliteSettings(base / path[1:])  # a fourth slash makes the right side absolute, and the result


def _open_consul(url: str, rest: str) -> SettingsStore:
    from hitmesh.settings.consul import ConsulSettings
    from hitmesh.store.consul_http import Host

    authority, _, prefix = rest.partition("/")
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
    return ConsulSettings(hosts, prefix)


def _wrong(url: str, right: str) -> ConfigError:
    return ConfigError(f"stores.settings: {url!r} names no settings store; it is written {right}")
