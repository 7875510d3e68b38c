"""The body of one request on its way through: what was read of it and isn't sent yet, and for how long more is awaited. Pure.

Owns its size, its coding and its pace. Whom it goes to, and when, is the exchange's.
"""

from __future__ import annotations

from balancer.middle.pace import behind_at, paced
from hitmesh.config import BalancerLimits
from hitmesh.http.chunks import encode_chunk, encode_last
from hitmesh.http.errors import BadMessage
from hitmesh.http.requests import CHUNKED, RequestReader


class Body:
    """What `reader` has of a body of `length` bytes, or CHUNKED."""

    __slots__ = ("_is_chunked", "_reader", "_size", "due", "taken")

    def __init__(self, reader: RequestReader, length: int) -> None:
        self._reader = reader
        self._is_chunked = length == CHUNKED
        self._size = 0  # of all that was read, without its coding
        self.taken = b""  # of it, what isn't sent yet
        self.due = 0.0  # when patience with it ends

    @property
    def is_whole(self) -> bool:
        """All of it was read."""
        return self._reader.body_done

    def take(self, most_bytes: int) -> int:
        """Read what there is: how many bytes more. Raises BadMessage; 413 past `most_bytes`, unless that is 0."""
        if self._reader.body_done:
            return 0
        data = self._reader.body()
        self.taken = self.taken + data if self.taken else data
        self._size += len(data)
        if most_bytes and self._size > most_bytes:
            raise BadMessage(f"more than {most_bytes} bytes", status=413)
        return len(data)

    def coded(self) -> bytes:
        """What was read, as the backend gets it; it is sent then."""
        data, self.taken = self.taken, b""
        if not self._is_chunked:
            return data
        out = encode_chunk(data) if data else b""
        if self._reader.body_done:
            out += encode_last(self._reader.trailers)
        return out

    def await_anew(self, now: float, limits: BalancerLimits) -> None:
        """Patience begins now."""
        self.due = now + limits.body_s

    def came(self, size_bytes: int, now: float, limits: BalancerLimits) -> None:
        """So many bytes more make it longer."""
        self.due = paced(self.due, size_bytes, now, limits.body_s, limits.least_rate)

    def behind_at(self, limits: BalancerLimits) -> float:
        """From when on its client is behind, if nothing more comes."""
        return behind_at(self.due, limits.body_s)
