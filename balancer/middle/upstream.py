"""One connection to a backend: connecting, idle, or with a request on it. Pure.

Owns what of an answer was read, and who is told of what happens on the connection. It knows neither its
backend nor what it carries; both hear of it as something that is carried.
"""

from __future__ import annotations

import logging
import math
from typing import Final

from hitmesh.http.limits import HeadLimits
from hitmesh.http.responses import ResponseReader
from hitmesh.http.wire import CLOSED, Wire

NEVER: Final = math.inf
# A backend is ours: what it says may be larger than what a stranger may say.
HEAD_LIMITS: Final = HeadLimits(headers=256, header_bytes=32 * 1024, head_bytes=64 * 1024)

log = logging.getLogger(__name__)


class Carried:
    """What is on a connection to a backend, and hears of it: a request, what an upgraded one became, or nothing.

    This is what of a connection that nobody has any more: whatever happens on it is nobody's affair. `now` is monotonic.
    """

    __slots__ = ()

    one_way = True  # what is sent, and then what is received

    def connected(self, now: float) -> None:
        """The connection that was waited for is there."""

    def not_connected(self, error: OSError, now: float) -> None:
        """It couldn't be made: not a byte was sent."""

    def answered(self, data: bytes, now: float) -> None:
        """Bytes from the backend."""

    def backend_drained(self, now: float) -> None:
        """The backend took what was kept for it."""

    def backend_ended(self, now: float) -> None:
        """The backend sent its last byte."""

    def backend_lost(self, error: OSError, now: float) -> None:
        """The connection broke."""

    def backend_timed_out(self, now: float) -> None:
        """The upstream's deadline passed."""

    def give_up(self, now: float) -> None:
        """Others need its place with the backend, and it has had it for the longest time."""

    def close_after_bug(self, now: float) -> None:
        """What it was told in the middle of somebody else's affairs raised: end its client's connection, and no other."""


NOTHING: Final = Carried()


class Upstream:
    """A connection to a backend. `deadline` is when its present state has lasted too long.

    `idle` is what it carries between two requests, `carried` what it carries now. Whoever opens it sets its `wire`.
    """

    __slots__ = ("carried", "connecting", "deadline", "idle", "reader", "served", "wire")

    def __init__(self) -> None:
        self.wire: Wire = CLOSED
        self.idle = NOTHING
        self.carried = NOTHING
        self.reader = ResponseReader(HEAD_LIMITS)
        self.deadline = NEVER
        self.connecting = True
        self.served = 0  # requests that were sent on it

    def close(self) -> None:
        """Close; nobody is told."""
        self.carried = self.idle = NOTHING
        self.wire.close()
        self.wire = CLOSED

    def expire(self, now: float) -> None:
        """The deadline has passed."""
        self.carried.backend_timed_out(now)

    # --- the wire's calls -------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """The connection is there."""
        self.connecting = False
        self.wire.start_reading()
        self.carried.connected(now)

    def lost(self, error: OSError, now: float) -> None:
        """The connection broke, or couldn't be made."""
        if self.connecting:
            self.carried.not_connected(error, now)
        else:
            self.carried.backend_lost(error, now)

    def cannot_send(self, error: OSError, now: float) -> None:
        """The backend takes no more of a request. It may have answered before it closed."""
        if not self.carried.one_way:
            self.lost(error, now)
            return
        self.wire.drop_kept()
        self.wire.start_reading()  # the answer, or the end

    def close_after_bug(self, now: float) -> None:
        """What was told of it raised: drop the connection, and what hangs on it; it is forgotten also if that fails."""
        idle = self.idle
        try:
            self.lost(ConnectionAbortedError("a bug in its handler"), now)
        except Exception:
            log.exception("a connection's handler failed once more")
        idle.backend_ended(now)
        self.close()
