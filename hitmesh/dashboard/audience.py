"""Who listens to the stream. Pure: each has a seat with room for one thing to be sent.

Invariants:
- Nothing is kept for a slow client but one event. Who hasn't taken it when the next one comes is behind, and is
  sent the whole document as it is when it can take something again.
- What everybody is sent is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MAX_SEATS: Final = 1000  # which cost a tenth of a core, and 128 KiB of the kernel's each at most


class Seat:
    """One client's. `wake` is called when there is something to be sent; it must not block."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.pending = b""
        self.is_behind = True  # whoever comes has nothing yet


class Audience:
    """All seats, `most` of them; `whole` gives the event with the whole document as it is now."""

    def __init__(self, whole: Callable[[], bytes], most: int = MAX_SEATS) -> None:
        self._whole = whole
        self._most = most
        self._seats: set[Seat] = set()

    def __len__(self) -> int:
        """How many listen."""
        return len(self._seats)

    def sit(self, wake: Callable[[], None]) -> Seat | None:
        """A seat for one more; None: all are taken."""
        if len(self._seats) >= self._most:
            return None
        seat = Seat(wake)
        self._seats.add(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """It is free again."""
        self._seats.discard(seat)

    def tell(self, patch: bytes) -> None:
        """Send everybody what has changed."""
        for seat in self._seats:
            if seat.pending:
                seat.pending, seat.is_behind = b"", True
            elif not seat.is_behind:
                seat.pending = patch
            seat.wake()

    def tick(self, event: bytes) -> None:
        """Send this to whoever has nothing else to take."""
        for seat in self._seats:
            if not seat.pending and not seat.is_behind:
                seat.pending = event
            seat.wake()

    def take(self, seat: Seat) -> bytes:
        """What is to be sent now; nothing: wait to be woken."""
        pending, seat.pending = seat.pending, b""
        if seat.is_behind:
            seat.is_behind = False
            return self._whole()
        return pending

    def wake_all(self) -> None:
        """Have everybody look again."""
        for seat in self._seats:
            seat.wake()
