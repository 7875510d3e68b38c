"""A request's passage: what of it concerns those who find it a backend, count it and log it. Pure.

Owns the times and sums of one request; what is done at which of them is the exchange's.
"""

from __future__ import annotations

from typing import Final

from balancer.middle.backend import Backend
from balancer.middle.upstream import Carried, Upstream
from hitmesh.http.requests import Request

NEVER_REACHED: Final = -1.0


class Passage(Carried):
    """One request on its way. Times are monotonic, 0.0 for what wasn't reached yet."""

    request: Request
    began: float  # when its head was here
    ready_at: float  # when a backend was asked for
    # Where most begin; only what differs is set for each (one is made a request).
    assigned_at: float = 0.0
    connected_at: float = 0.0
    first_byte_at: float = 0.0
    bytes_in: int = 0  # to the backend
    bytes_out: int = 0  # to the client
    status: int = 0
    request_id: bytes = b""
    backend: Backend | None = None
    backend_name: str = ""  # of the last one that it was with
    sticky_key: bytes | None = None  # what decides who gets it, where it isn't the load
    waiting: bool = False  # for a backend
    refused_by: tuple[Backend, ...] = ()
    last_error: str = ""  # why it failed at the last of these, for its client
    last_detail: str = ""  # and for the log

    @property
    def with_whom(self) -> str:
        """The backend that it is with, or was."""
        return self.backend.name if self.backend is not None else self.backend_name

    def parts_s(self) -> tuple[float, float, float]:
        """For how long it waited for a backend, for a connection, for the answer's first byte; -1 for what was never reached."""
        assigned, connected = self.assigned_at, self.connected_at
        return (
            assigned - self.ready_at if assigned else NEVER_REACHED,
            connected - assigned if connected else NEVER_REACHED,
            self.first_byte_at - connected if self.first_byte_at else NEVER_REACHED,
        )

    # --- what a service says to it ----------------------------------------------------------

    def wait(self, wait_s: float, reason: str) -> None:
        """There is no backend for it yet."""
        raise NotImplementedError

    def connect(self, backend: Backend, upstream: Upstream, now: float) -> None:
        """Go to `backend` on a connection that is being made."""
        raise NotImplementedError

    def begin(self, backend: Backend, upstream: Upstream, now: float) -> None:
        """Go to `backend` on an open connection."""
        raise NotImplementedError

    def begin_anew(self, now: float) -> None:
        """What was waited for is no more: find the route again."""
        raise NotImplementedError

    def refuse(
        self, status: int, word: str, reason: str, now: float, detail: str = "", *, retry_s: float = 0.0
    ) -> None:
        """Answer an error, or break off when the answer has begun. `word` is for counting, one of a few.

        `reason` is for the client, which may be anybody, with when to come again; `detail` says for the log where and of
        whom.
        """
        raise NotImplementedError
