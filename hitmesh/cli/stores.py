"""Whether the stores of a datacenter can be read: what a command says that otherwise only the roles' logs do."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hitmesh.config import Config
from hitmesh.errors import StoreUnknown


def trouble(config: Config, base: Path) -> str:
    """Why its totals, or else its settings, can't be read; empty when both can. Each is asked once."""
    from hitmesh.settings.open import open_settings
    from hitmesh.store.open import open_store

    with contextlib.closing(open_store(config, base)) as totals:
        try:
            totals.read_head(0)
        except StoreUnknown as error:
            return f"the totals store can't be read: {error}"
    with contextlib.closing(open_settings(config.stores.settings, base)) as settings:
        try:
            settings.editions()
        except StoreUnknown as error:
            return f"the settings store can't be read: {error}"
    return ""
