"""A connection, as those see it who speak on it: the seam between what HTTP decides and what a socket does. Pure.

Owns no socket: `hitmesh.hub.link` is one with a socket, tests have others. Whoever speaks on a wire is told of what
happens on it (bytes, the end, the loss, room to send) by whoever made the wire.
"""

from __future__ import annotations

from collections import deque
from typing import Final

READ_BYTES: Final = 64 * 1024  # at once; what a connection that nobody takes from may keep
# Of the bodies of large messages: fewer calls. From 128 KiB on malloc maps memory anew for each (14 us).
BULK_READ_BYTES: Final = 120 * 1024


class Wire:
    """A connection, or one that is being made. Nothing is told of it before `start_reading`, nor after `close`.

    What a slow receiver hasn't taken is bounded by whoever feeds it: `send` says False once something had to be
    kept, and who speaks on the wire is told when it is gone.
    """

    __slots__ = ("closed", "kept", "read_bytes", "reading")

    def __init__(self) -> None:
        self.kept: deque[bytes] | None = None  # what couldn't be sent yet; empty or None when there is nothing
        self.closed = False
        self.reading = False
        self.read_bytes = READ_BYTES  # at once

    def start_reading(self) -> None:
        """Go on reading."""
        raise NotImplementedError

    def stop_reading(self) -> None:
        """Leave what comes to the kernel: the peer has to wait."""
        raise NotImplementedError

    def send(self, data: bytes) -> bool:
        """Send, or keep to send; False when something is kept, or the connection is gone, which has been told then."""
        raise NotImplementedError

    def first_send(self, data: bytes) -> bool:
        """Send on a connection that may have gone stale: False when the kernel took no byte of it."""
        raise NotImplementedError

    def drop_kept(self) -> None:
        """Send nothing of what is kept."""
        raise NotImplementedError

    def untaken(self) -> int:
        """Bytes that are kept, or that the kernel has and the peer hasn't acknowledged."""
        raise NotImplementedError

    def shut(self) -> None:
        """Say that nothing more will be sent."""
        raise NotImplementedError

    def reset(self) -> None:
        """Make `close` a reset: the peer shall see that what it got isn't all."""
        raise NotImplementedError

    def close(self) -> None:
        """Close now; what is kept is dropped."""
        raise NotImplementedError


class ClosedWire(Wire):
    """What is left of a connection: nothing comes of it, and what is sent on it is lost."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.closed = True

    def start_reading(self) -> None:
        """Nothing will come."""

    def stop_reading(self) -> None:
        """Nothing comes."""

    def send(self, data: bytes) -> bool:
        """It is lost."""
        return False

    def first_send(self, data: bytes) -> bool:
        """No byte of it is taken."""
        return False

    def drop_kept(self) -> None:
        """Nothing is kept."""

    def untaken(self) -> int:
        """Nobody waits for anything."""
        return 0

    def shut(self) -> None:
        """It is closed."""

    def reset(self) -> None:
        """It is closed."""

    def close(self) -> None:
        """It is closed."""


CLOSED: Final = ClosedWire()
