"""What several processes of a datacenter agree upon, in its settings store: one setting, read as it is followed, written
under compare-and-set. So of two who would change it at the same moment one does, and the other begins again from that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from hitmesh.errors import ConfigError, SettingConflict, StoreUnknown
from hitmesh.settings import SettingsStore
from hitmesh.settings.live import Live

Agreed = TypeVar("Agreed")


class Agreement(Generic[Agreed]):
    """The setting `key` of a `store`, which `live` follows; `decode` makes something of whatever stands there, or of none.

    `author` writes it; `what` it is for, for errors.
    """

    def __init__(
        self,
        key: str,
        store: SettingsStore,
        live: Live,
        *,
        decode: Callable[[bytes | None], Agreed],
        encode: Callable[[Agreed], bytes],
        author: str,
        what: str,
    ) -> None:
        self._key, self._store, self._live = key, store, live
        self._decode, self._encode = decode, encode
        self._author, self._what = author, what
        self.version = 0
        """Of the one that is known: it rises with every change that anybody makes."""
        self._is_there = False
        self._agreed = decode(None)

    @property
    def agreed(self) -> Agreed:
        """As it stands in the store, as far as is known here; the same object as long as nothing has come."""
        edition = self._live.editions.get(self._key)
        if edition is not None and edition.version > self.version:
            self._take(edition.value, edition.version)
        return self._agreed

    def write(self, agreed: Agreed) -> bool:
        """Change it from what `agreed` was last to this; False: somebody else has changed it. Raises StoreUnknown."""
        expected = self.version if self._is_there else 0
        try:
            setting = self._store.set(self._key, self._encode(agreed), author=self._author, expect_version=expected)
        except SettingConflict:
            found = self._store.get(self._key)
            self._take(found.value if found else None, found.version if found else self.version)
            return False
        except ConfigError as error:  # too long: the bounds are such that it can't be
            raise StoreUnknown(str(error), op=self._what) from error
        self._agreed, self.version, self._is_there = agreed, setting.version, True
        return True

    def _take(self, value: bytes | None, version: int) -> None:
        self._agreed, self.version, self._is_there = self._decode(value), version, value is not None
