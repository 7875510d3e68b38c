"""What a role holds of the live settings: the configuration in force now, as the settings store has it.

Owns the following of the store and what is said of a setting that doesn't apply; what is live, and
what is right, is `hitmesh.config.live`'s. A role keeps no copy of a live value: it reads
`live.config` at every use, and does in `on_change` what can't be read, such as to announce itself,
so that everybody sees at once that the change has come.

Invariants:
- What was last known stays in force while the store is away; before it has ever answered, the file is.
- Who can't read what the mesh writes doesn't begin its work: it ends when the store's first answer says so. One that
  is told later, past `hitmesh formats finalize`, goes on, and calls itself failing: a word from outside ends no process.
- A setting that this release doesn't know, or that is wrong here, is left out, said once in the
  log, and keeps no other one from applying.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from hitmesh.config import Config
from hitmesh.config.hands import Hands
from hitmesh.config.live import DEPLOYS, ROUTES, apply
from hitmesh.logs import set_level
from hitmesh.mesh.duty import give_up, spawn
from hitmesh.protocol.formats import Written
from hitmesh.settings import Edition, Setting, SettingsStore, live_settings
from hitmesh.settings.watch import Watch

LOAD: Final = "settings"
"""Under which a role tells `Live.version` with its heartbeats."""
LOAD_WEIGHT: Final = "weight"
"""Under which it tells what weight an operator gave it, in percent."""
LOAD_REFUSED: Final = "settings_refused"
"""Under which it tells how many live settings don't apply there."""

log = logging.getLogger(__name__)


class Live:
    """The configuration of a datacenter's file with the live settings over it, kept up to date by a greenlet.

    `on_change` is called by that greenlet after every change, also of settings that this class only
    passes on (`settings`); it must not raise. Made before a fork, started after it.
    """

    def __init__(self, config: Config, store: SettingsStore, on_change: Callable[[], None] = lambda: None) -> None:
        self.config = config
        """What is in force now."""
        self.retired: frozenset[str] = frozenset()
        """The datacenters that are gone for good."""
        self.written = Written()
        """The formats that the mesh writes."""
        self.hands = Hands()
        """What operators have said of this datacenter's instances and backends."""
        self.known = False
        """Whether the store has ever answered."""
        self.version = 0
        """Of the newest change that is in force here, a deletion too; for the heartbeats."""
        self.settings: Mapping[str, Setting] = MappingProxyType({})
        """All of them as they stand in the store, routes too."""
        self.editions: Mapping[str, Edition] = MappingProxyType({})
        """The same with what was deleted."""
        self._file = config
        self._store = store
        self._on_change = on_change
        self._watch: Watch[Edition] | None = None
        self.refused: Mapping[str, str] = MappingProxyType({})
        """Those that don't apply here, and why."""

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._watch = self._store.watch_editions()
        spawn("live settings", self._follow, self._watch)

    def stop(self) -> None:
        """Follow no more; what is in force stays."""
        if self._watch is not None:
            self._watch.stop()

    def is_drained(self, name: str) -> bool:
        """Whether an operator keeps this instance of the datacenter drained."""
        return name in self.hands.drained

    def load(self, name: str = "") -> dict[str, float]:
        """What a role tells of this with its heartbeats; one that gets requests also its weight, if an operator gave it one."""
        weight = self.hands.weights.get(name)
        said = {} if weight is None else {LOAD_WEIGHT: float(weight)}
        return {LOAD: self.version, LOAD_REFUSED: len(self.refused), **said}

    def take(self, editions: Mapping[str, Edition]) -> None:
        """Put these in force."""
        self.editions = editions
        self.settings = MappingProxyType(live_settings(editions))
        values = {
            key: setting.value.decode("utf-8", "replace")  # put there by hand, it may be anything
            for key, setting in self.settings.items()
            if not key.startswith(ROUTES)
        }
        applied = apply(self._file, values)
        unreadable = applied.written.unreadable
        if unreadable and not self.known:
            give_up(f"{unreadable}: run a newer release here, or the one that ran here before")
        if applied.config != self.config:
            said = (f"{key} = {text}" for key, text in sorted(values.items()) if not key.startswith(DEPLOYS))
            version = max((each.version for each in editions.values()), default=0)
            log.info("live settings in force: %s", ", ".join(said), extra={"fields": {"version": version}})
        if applied.config.log.level != self.config.log.level:
            set_level(applied.config.log.level)
        self.config, self.retired, self.hands = applied.config, applied.retired, applied.hands
        kept = self.written.formats if unreadable else {}
        self.written = Written({**kept, **applied.written.formats}, unreadable)
        self.version = max((each.version for each in editions.values()), default=0)
        for key, problem in applied.refused.items():
            if self.refused.get(key) != problem:
                log.error("the live setting %s doesn't apply here: %s", key, problem, extra={"fields": {"key": key}})
        self.refused = MappingProxyType(applied.refused)
        self.known = True
        self._on_change()

    def _follow(self, watch: Watch[Edition]) -> None:
        for editions in watch:
            self.take(editions)
