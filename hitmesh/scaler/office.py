"""Who of a datacenter's scalers decides, and what they have agreed upon.

The first by name of those that live and can do their work decides. What it decides it writes into one setting, under
compare-and-set, and has the lease with that: nobody else decides while it lives and LEASE_S haven't passed since. Nobody's
wall clock is asked: each counts from when it saw the word.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from hitmesh.errors import StoreUnknown
from hitmesh.settings import SettingsStore
from hitmesh.settings.agreement import Agreement
from hitmesh.settings.live import Live
from hitmesh.settings.wanted import Wanted, decode, encode, key_of
from hitmesh.state.dues import FAILING
from hitmesh.state.standing import DRAINING, DRY_RUN
from hitmesh.state.view import Sighting

AUTHOR: Final = "scaler"
LEASE_S: Final = 15.0  # after one's last word: two that take each other for dead would undo each other's

SILENT_BEATS: Final = 3.0  # of its heartbeats, and who would decide is passed over

log = logging.getLogger(__name__)


class Office:
    """That of datacenter `dc`, as the scaler instance `who` sees it."""

    def __init__(self, dc: str, who: str, store: SettingsStore, live: Live) -> None:
        self._who = who
        self._agreement: Agreement[Wanted | None] = Agreement(
            key_of(dc), store, live,
            decode=decode, encode=lambda wanted: encode(wanted or Wanted()), author=AUTHOR, what="say how many are wanted",
        )  # fmt: skip
        self._version, self._written_at = 0, float("-inf")  # when what is known now was first known
        self._away = ""  # why the store didn't answer
        self.hooked_at = float("-inf")
        """When it was last known that a hook is run, whoever runs it."""
        self._hooks = 0.0

    @property
    def wanted(self) -> Wanted | None:
        """What is wanted; None: nobody has said."""
        return self._agreement.agreed

    def look(self, now: float) -> Wanted | None:
        """The same, as of now."""
        wanted = self._agreement.agreed
        if self._agreement.version != self._version:
            self._version, self._written_at = self._agreement.version, now
            hooks = max((each.at for each in wanted.changes if not each.node), default=0.0) if wanted else 0.0
            if hooks != self._hooks:
                self._hooks, self.hooked_at = hooks, now
        return wanted

    def is_first(self, sightings: Iterable[Sighting], now: float, heartbeat_s: float) -> bool:
        """Whether it is ours to decide, by who was heard until `now`: one that was killed isn't waited for."""
        fit = [
            (one.instance.name, one.instance.id)
            for one in sightings
            if one.alive and one.instance.role == "scaler" and not one.instance.load.get(DRY_RUN)
            and not one.instance.state.startswith((DRAINING, FAILING)) and now - one.heard <= SILENT_BEATS * heartbeat_s
        ]  # fmt: skip
        return min(fit, default=("", ""))[1] == self._who

    def leased_by(self, sightings: Iterable[Sighting], now: float) -> str:
        """Who else has the lease; empty: nobody."""
        wanted = self._agreement.agreed
        holder = wanted.holder if wanted is not None else ""
        if holder in ("", self._who) or now - self._written_at >= LEASE_S:
            return ""
        return next((one.instance.name for one in sightings if one.alive and one.instance.id == holder), "")

    def write(self, wanted: Wanted) -> bool:
        """Have it agreed upon, from what `wanted` was last; False: it isn't, and that is said."""
        try:
            is_written = self._agreement.write(replace(wanted, holder=self._who))
        except StoreUnknown as error:
            if not self._away:
                log.error("what is wanted can't be written: %s", error)
            self._away = str(error)
            return False
        if self._away:
            log.info("what is wanted can be written again")
        self._away = ""
        if not is_written:
            log.info("another scaler has decided at the same moment")
        return is_written
