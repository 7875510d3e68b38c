"""The watch on a settings store: asks again and again, and hands out what has changed.

Owns what was last known, the retries and what is said about an outage; how a store is asked is
its source's affair. Invariants:

- What was handed out stays in force until the store itself says something else. An error is
  never handed out, least of all as an empty mapping.
- Nothing is handed out twice in a row. Several changes may come as one.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Final, Generic, Protocol, TypeVar

from hitmesh.errors import StoreUnknown
from hitmesh.settings import Edition, Setting

E = TypeVar("E", bound=Setting | Edition)
E_co = TypeVar("E_co", bound=Setting | Edition, covariant=True)

FIRST_RETRY_S: Final = 0.1  # a connection that was cut is made again at once, as it seems to people
LONGEST_RETRY_S: Final = 0.5  # a store that is back is noticed within the second that a change may take

log = logging.getLogger(__name__)


class Source(Protocol[E_co]):
    """How one watch asks its store. Used by one greenlet or thread, but for `interrupt`."""

    def look(self) -> Mapping[str, E_co] | None:
        """Wait for a change, for some seconds at most; what there is now, or None when nothing changed.

        The first call, and one after an error, doesn't wait. Raises StoreUnknown.
        """

    def interrupt(self) -> None:
        """End a `look` that waits, soon; called from anywhere."""

    def close(self) -> None:
        """Give up connections and files."""


class Watch(Generic[E]):
    """An iterator that ends only when it is stopped.

    `next` waits until there is something new, and while the store has never answered at all.
    `stop` may be called from any greenlet or thread, and the iteration ends within a second. Used
    with `with`, the watch is also released when the loop is left another way.
    """

    def __init__(self, source: Source[E], endpoint: str) -> None:
        self.endpoint = endpoint
        self.trouble = ""
        """Why the store gives no answer at the moment; empty when it does."""
        self._source = source
        self._known: Mapping[str, E] | None = None
        self._stopped = False
        self._retry_s = FIRST_RETRY_S
        self._away_since_s = 0.0

    def __iter__(self) -> Watch[E]:
        return self

    def __next__(self) -> Mapping[str, E]:
        while not self._stopped:
            try:
                found = self._source.look()
            except StoreUnknown as error:
                self._is_away(error)
                continue
            self._is_back()
            if found is not None and found != self._known and not self._stopped:
                self._known = MappingProxyType(dict(found))
                return self._known
        self._source.close()
        raise StopIteration

    def __enter__(self) -> Watch[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._source.close()

    def again(self) -> None:
        """Hand out the next answer even if it is as the last one: its user has had another from elsewhere since."""
        self._known = None

    def stop(self) -> None:
        """End the iteration."""
        self._stopped = True
        self._source.interrupt()

    def _is_away(self, error: StoreUnknown) -> None:
        if self._stopped:
            return
        if not self.trouble:
            self._away_since_s = time.monotonic()
            kept = "none are known yet" if self._known is None else "the last known ones stay in force"
            log.warning("settings: %s; %s", error, kept)
        self.trouble = str(error)
        pause(self._retry_s)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _is_back(self) -> None:
        if self.trouble:
            away_s = time.monotonic() - self._away_since_s
            log.info("settings: %s answers again after %.1f s", self.endpoint, away_s)
            self.trouble = ""
        self._retry_s = FIRST_RETRY_S


def pause(seconds: float) -> None:
    """Wait, without stopping the hub where this thread has one."""
    hub_local = sys.modules.get("gevent._hub_local")  # not imported here: the CLI has no need of gevent
    if hub_local is not None and hub_local.get_hub_if_exists() is not None:
        import gevent

        gevent.sleep(seconds)
    else:
        time.sleep(seconds)
