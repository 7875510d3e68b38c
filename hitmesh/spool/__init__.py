"""The spool: where a batch is on disk before its hits are answered. The interface, and the way in.

Invariants, whatever the implementation:
- `put` returns only when the job is on stable storage (synced). SpoolRefused means that it is
  not there and won't be; SpoolUnknown that nobody can tell.
- A job is given out by `claim` once its delay has passed and nobody said `done`; one that was
  claimed and not done is given out again after the claim's time.
- A job's bytes come back unchanged. The spool doesn't know what is in them.

All methods block the calling greenlet, never the hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from hitmesh.errors import SpoolRefused

JobId = object
"""Opaque, hashable; only the spool object that made it can read it. Not for the wire, nor for a file."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this caller may resend and must end with `done`, or leave to its claim's time."""

    id: JobId
    body: bytes
    claims: int  # how often it has been given out, this time included; 0 where the spool can't say


@dataclass(frozen=True, slots=True)
class CopyStats:
    """One server or file of a spool."""

    url: str
    usable: bool
    reason: str  # why it isn't usable; empty when it is
    waiting: int  # jobs put and not yet claimable
    ready: int  # claimable now
    claimed: int
    buried: int  # set aside for the operator


WAITING: Final = "waiting"
READY: Final = "ready"
CLAIMED: Final = "claimed"
BURIED: Final = "buried"


@dataclass(frozen=True, slots=True)
class Held:
    """A job as it lies in one copy."""

    number: int  # the copy's own, by which an operator names it
    state: str  # one of the words above
    claims: int
    body: bytes


@runtime_checkable
class Copy(Protocol):
    """What an operator asks of one copy of a spool besides; a third party's may not have it."""

    def held(self, limit: int, *, only_buried: bool = False) -> list[Held]:
        """The first jobs, the oldest ones, or as many of them as the copy can tell; they stay as they are.

        Raises SpoolRefused when it can't be asked; so do the others.
        """

    def find(self, number: int) -> Held | None:
        """One job."""

    def kick(self, number: int) -> bool:
        """Make a job that was set aside, or given out before, claimable now; False when it isn't there.

        Raises SpoolRefused for one that was never given out: its collector goes by its delay, and may close the lanes that
        keep it from being counted twice.
        """

    def delete(self, held: Held) -> bool:
        """Delete a job, durably, whatever is in it; False when it isn't there any more as it was.

        Raises SpoolRefused for one that is given out just now, or never was (as `kick`), SpoolUnknown where it may come
        back.
        """


def given_out(number: int, op: str, url: str) -> SpoolRefused:
    """Why nobody else may have a job now."""
    return SpoolRefused(
        f"job {number} is given out just now", op=op, endpoint=url, hint="it is ready again when that time ends"
    )


def never_given_out(number: int, op: str, url: str) -> SpoolRefused:
    """Why a job can't be kicked or deleted."""
    return SpoolRefused(
        f"job {number} was never given out: its delay ends by itself, and its collector counts on that",
        op=op,
        endpoint=url,
    )


class Begun(Protocol):
    """A put that is under way."""

    def end(self) -> JobId:
        """Wait for it, and say what `put` says. To be called once, whatever becomes of anything else."""


@runtime_checkable
class Begins(Protocol):
    """What a spool may have besides, for who puts on several of them at once without a greenlet for each."""

    def begin_put(self, body: bytes, delay_s: float) -> Begun | None:
        """Begin a put without waiting; None where that can't be, and then nothing was begun: `put` is to be called."""


class Spool(Protocol):
    """What a collector asks of a spool."""

    def put(self, body: bytes, delay_s: float) -> JobId:
        """Store a job; it becomes claimable after `delay_s`. Raises SpoolRefused or SpoolUnknown."""

    def done(self, ids: Sequence[JobId]) -> list[bool]:
        """Delete jobs, each from every copy, durably. Never raises: a job that is gone already, or that
        can't be deleted now, is False; the latter is claimable again in time.

        True for a job that this call deleted from every copy it was put on, before anybody could
        have claimed it there; False whenever that isn't certain.
        """

    def claim(self, limit: int) -> list[Claimed]:
        """Up to `limit` jobs whose time has come, without waiting for any; none when the spool can't be asked.

        After a put of unknown outcome and a disk's error a body may be cut or zeroed: bury what can't
        be decoded.
        """

    def bury(self, id: JobId) -> None:
        """Set a claimed job aside: kept, never given out again, counted in the stats.

        Raises SpoolRefused or SpoolUnknown; the job is then given out again after its claim's time.
        """

    def check(self) -> None:
        """Raise SpoolRefused with the reason when a put can't succeed now; cheap enough for /health."""

    def stats(self) -> list[CopyStats]:
        """One entry per copy; a copy that can't be asked is reported as not usable."""

    def close(self) -> None:
        """Give up connections and files. Claimed jobs go back by themselves."""
