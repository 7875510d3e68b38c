"""Which datacenters are gone for good, as the settings stores of a state folder say together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from hitmesh.config import Config
from hitmesh.config.live import DATACENTERS
from hitmesh.errors import CommandError, StoreUnknown
from hitmesh.settings import Edition, Setting, live_settings


def retired(configs: Iterable[Config], state_dir: Path) -> Mapping[str, Setting]:
    """The retired datacenters and who said so; of what two stores say of one the later word counts.

    Raises CommandError when no store can be read.
    """
    from hitmesh.settings.open import open_settings

    latest: dict[str, Edition] = {}
    failed: list[str] = []
    answered = False
    for config in configs:
        with contextlib.closing(open_settings(config.stores.settings, state_dir / config.name)) as store:
            try:
                editions = store.editions()
            except StoreUnknown as error:
                failed.append(f"{config.name}: {error}")
                continue
        answered = True
        for key, edition in editions.items():
            if key.startswith(DATACENTERS) and (key not in latest or edition.rank > latest[key].rank):
                latest[key] = edition
    if not answered:
        raise CommandError(f"no settings can be read: {'; '.join(failed)}")
    return {key.removeprefix(DATACENTERS): setting for key, setting in live_settings(latest).items()}
