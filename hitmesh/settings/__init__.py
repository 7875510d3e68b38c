"""The settings store: what is changed while a mesh runs, and everybody follows. The interface.

Every datacenter has a store of its own, with all settings in it; what is written in one is merged
into the others. So what is kept of a key is its last edition: the value, or that it was deleted.

Invariants, whatever the implementation:
- A read answers a value or absent, or raises StoreUnknown. Unknown is never empty: a watch whose
  store is away keeps what it last knew.
- Every change gets a version above all versions before it, of whatever key, also over a delete and
  over what was merged from elsewhere. So in one datacenter a version names one state of one
  setting, for `expect_version`.
- Of two editions of a key the one with the higher `rank` is kept, wherever and in whatever order
  they come together: stores that have heard of the same changes hold the same.
- A change is whole: the setting, its version, author and time are written together or not at all.

All methods block the calling greenlet (or, in a plain process, the thread), never the hub. A
store may be made before a fork, but not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hitmesh.settings.watch import Watch


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it stands in the store."""

    key: str
    value: bytes  # UTF-8 text
    version: int  # >= 1
    author: str  # who wrote this version
    changed_at: float  # when, by the writer's wall clock: seconds since 1970


@dataclass(frozen=True, slots=True)
class Edition:
    """What was last written about a key, in whatever datacenter."""

    key: str
    value: bytes | None  # None: it was deleted
    version: int
    author: str
    changed_at: float

    @property
    def rank(self) -> tuple[int, float, str, bytes]:
        """The higher one wins. Two changes that others made at the same time have the same version."""
        value = b"" if self.value is None else b"=" + self.value  # to the end, so that equal ranks are equal editions
        return self.version, self.changed_at, self.author, value


class SettingsStore(Protocol):
    """What roles and commands ask of a store of live settings.

    A key, value, prefix or author beyond `hitmesh.settings.limits` raises ConfigError before
    anything is sent.
    """

    endpoint: str
    """Where it is, for people."""

    def get(self, key: str) -> Setting | None:
        """The setting, or None when there is none. Raises StoreUnknown."""

    def list(self, prefix: str = "") -> Mapping[str, Setting]:
        """All settings whose keys begin with `prefix`, by key, from one moment. Raises StoreUnknown."""

    def editions(self) -> Mapping[str, Edition]:
        """The last edition of every key there ever was, by key, from one moment. Raises StoreUnknown.

        What was deleted by hand, past this interface, is not among them.
        """

    def set(self, key: str, value: bytes, *, author: str, expect_version: int | None = None) -> Setting:
        """Write the setting and return it with its new version.

        `expect_version` is the version that it must have now, 0 for none there; with another one
        nothing is written and SettingConflict raised. StoreUnknown: perhaps written, now or a
        little later; read it before trying again.
        """

    def delete(self, key: str, *, author: str, expect_version: int | None = None) -> bool:
        """Remove the setting; False when there was none. Otherwise like `set`."""

    def merge(self, editions: Iterable[Edition]) -> int:
        """Write those that rank above what is here, as they are; how many those were.

        The versions of later changes are above all of these. StoreUnknown: perhaps some are
        written; merging them again is harmless.
        """

    def watch(self, prefix: str = "") -> Watch[Setting]:
        """An iterator over what `list(prefix)` says: at once, and after every change, within a second.

        It belongs to one greenlet or thread, which takes the next with `next`; see `Watch`.
        """

    def watch_editions(self) -> Watch[Edition]:
        """Like `watch`, over what `editions` says."""

    def check(self) -> None:
        """Raise StoreUnknown with the reason when the store doesn't answer."""

    def close(self) -> None:
        """Give up connections and files. Watches have their own, and go on."""


def live_settings(editions: Mapping[str, Edition]) -> dict[str, Setting]:
    """The settings among editions: without what was deleted."""
    return {
        key: Setting(key, each.value, each.version, each.author, each.changed_at)
        for key, each in editions.items()
        if each.value is not None
    }
