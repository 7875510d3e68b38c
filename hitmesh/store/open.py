"""From stores.totals to a totals store. Each store is imported only when named."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hitmesh.config import Config
from hitmesh.store import TotalsStore
from hitmesh.store.urls import OPERATOR, consul_place, is_consul, names_none, sqlite_path

ENTRY_POINTS: Final = "hitmesh.stores"
"""The group in which a store of somebody else's is registered by its URL's scheme: a callable
(url, config, base) -> TotalsStore."""

_KEY: Final = "stores.totals"


def open_store(config: Config, base: Path, role: str = OPERATOR, *, read_only: bool = False) -> TotalsStore:
    """The store of stores.totals, for a `role`; paths are relative to `base`. Nothing is opened or asked yet.

    `read_only` is for those who only read: of a file, which they neither make nor touch. Raises ConfigError for a URL that names none.
    """
    url = config.stores.totals
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "sqlite":
        from hitmesh.store.sqlite import SqliteTotals

        return SqliteTotals(sqlite_path(_KEY, url, base), read_only=read_only)
    if is_consul(url):
        from hitmesh.store.consul import ConsulTotals

        return ConsulTotals(*consul_place(_KEY, url, role))
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        if separator and point.name == scheme:
            store: TotalsStore = point.load()(url, config, base)
            return store
    raise names_none(_KEY, url)
