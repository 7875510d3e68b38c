"""The memory that the dashboards of a datacenter share, in its settings store: read as it is followed, written under
compare-and-set. So of two who would change it at the same moment one does, and the other begins again from that.
"""

from __future__ import annotations

import logging
from typing import Final

from hitmesh.dashboard.alerts.memory import Memory, decode, encode, key_of
from hitmesh.errors import ConfigError, SettingConflict, StoreUnknown
from hitmesh.settings import SettingsStore
from hitmesh.settings.live import Live

AUTHOR: Final = "alerts"

log = logging.getLogger(__name__)


class Agreement:
    """The memory of datacenter `dc` in its `store`, which `live` follows."""

    def __init__(self, dc: str, store: SettingsStore, live: Live) -> None:
        self._key = key_of(dc)
        self._store, self._live = store, live
        self._version, self._is_there = 0, False
        self._memory = Memory()

    @property
    def memory(self) -> Memory:
        """As it stands in the store, as far as is known here; the same object as long as nothing has come."""
        edition = self._live.editions.get(self._key)
        if edition is not None and edition.version > self._version:
            self._take(edition.value, edition.version)
        return self._memory

    def write(self, memory: Memory) -> bool:
        """Change it from what `memory` was last to this; False: somebody else has changed it. Raises StoreUnknown."""
        expected = self._version if self._is_there else 0
        try:
            setting = self._store.set(self._key, encode(memory), author=AUTHOR, expect_version=expected)
        except SettingConflict:
            found = self._store.get(self._key)
            self._take(found.value if found else None, found.version if found else self._version)
            return False
        except ConfigError as error:  # too long: the bounds are such that it can't be
            raise StoreUnknown(str(error), op="remember alerts") from error
        self._memory, self._version, self._is_there = memory, setting.version, True
        return True

    def _take(self, value: bytes | None, version: int) -> None:
        self._memory, self._version, self._is_there = decode(value), version, value is not None
