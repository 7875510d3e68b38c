"""From stores.settings to a settings store. Each store is imported only when named.

A third party's scheme is an entry point of the group `hitmesh.settings`, named like the scheme: a
callable (url, base) that returns a SettingsStore.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hitmesh.settings import SettingsStore
from hitmesh.store.urls import OPERATOR, consul_place, is_consul, names_none, sqlite_path

GROUP: Final = "hitmesh.settings"

_KEY: Final = "stores.settings"


def open_settings(url: str, base: Path, role: str = OPERATOR) -> SettingsStore:
    """The store that `url` (stores.settings) names, for a `role`; paths are relative to `base`. Nothing is opened or asked yet.

    Raises ConfigError for a URL that names none.
    """
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "sqlite":
        from hitmesh.settings.sqlite import SqliteSettings

        return SqliteSettings(sqlite_path(_KEY, url, base))
    if is_consul(url):
        from hitmesh.settings.consul import ConsulSettings

        return ConsulSettings(*consul_place(_KEY, url, role))
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        if separator and point.name == scheme:
            store: SettingsStore = point.load()(url, base)
            return store
    raise names_none(_KEY, url)
