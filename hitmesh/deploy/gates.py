"""Whether a release that was just started does well: what a datacenter said before, and what it says now. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

MAX_FAILED: Final = 0.001  # of all requests since, that were answered with 5xx
MIN_FAILED: Final = 3  # below that many it may be a client's own doing
MAX_LAG_S: Final = 0.5  # of a hub: above that its heartbeats come late
LATE_S: Final = 6.0  # that it must go on: one late moment of a busy machine stands in two heartbeats, two seconds
LATE_SIGHTS: Final = 4  # in that time at least: whoever looks may be late, too
MUCH: Final = 2.0  # as late as something that is no fault of a release, which varies as much
LAG: Final = "hub_lag_s"
ILL: Final = ("failing", "dead", "fatal", "backoff", "exited", "unknown")


class Row(Struct, frozen=True):
    """An instance, of `hitmesh status --json`."""

    name: str
    role: str
    state: str
    pid: int | None = None
    supervisor_pid: int | None = None
    why: str = ""
    load: Mapping[str, float] = {}


class Observation(Struct, frozen=True, kw_only=True):
    """A datacenter at one moment."""

    rows: Sequence[Row] = ()
    lacking: Sequence[str] = ()  # of `hitmesh ready --json`
    book_problems: Sequence[str] | None = None  # of `hitmesh audit --json`; None: not looked at

    def row(self, name: str) -> Row | None:
        """The instance of a name."""
        return next((row for row in self.rows if row.name == name), None)

    def sums(self) -> tuple[float, float]:
        """Requests that the balancers took, and those that were answered with 5xx."""
        balancers = [row.load for row in self.rows if row.role == "balancer"]
        return sum(load.get("requests", 0) for load in balancers), sum(load.get("failed", 0) for load in balancers)


def rows_in(status: bytes) -> list[Row]:
    """The instances, from what `hitmesh status --json` prints. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(status, type=list[Row])


def lacking_in(ready: bytes, dc: str) -> list[str]:
    """What a datacenter lacks, from what `hitmesh ready --json` prints. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(ready, type=dict[str, list[str]]).get(dc, [])


def book_problems_in(audit: bytes) -> Sequence[str]:
    """What is wrong with the books, from what `hitmesh audit --json` prints. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(audit, type=_Books).problems


class _Books(Struct, frozen=True):
    problems: Sequence[str]


def is_ready(name: str, supervisor_pid: int, now: Observation, before: Observation) -> str:
    """Why an instance that was started isn't ready yet; empty when it is, and nobody else was harmed."""
    row = now.row(name)
    if row is None:
        return f"{name} isn't known to the Nexuses yet"
    if row.supervisor_pid not in (None, supervisor_pid):
        return f"{name} has ended since, and was started again"
    if row.state != "up":
        return f"{name} is {row.state}" + (f" ({row.why})" if row.why else "")
    return "; ".join(_new(before.lacking, now.lacking))


def harm(before: Observation, now: Observation, started: Mapping[str, int]) -> Iterator[str]:
    """What is worse than before, of all that a bad release could have done; `started` are the pids of the changed ones."""
    for name, pid in started.items():
        row = now.row(name)
        if row is not None and row.supervisor_pid not in (None, pid):
            yield f"{name} has ended since, and was started again"
    for row in now.rows:
        was = before.row(row.name)
        if row.state in ILL and (was is None or was.state not in ILL):
            yield f"{row.name} is {row.state}" + (f" ({row.why})" if row.why else "")
    yield from _new(before.lacking, now.lacking)
    yield from (each for each in now.book_problems or () if each not in (before.book_problems or ()))


class Lateness:
    """Which instances have been late with everything for a while, and aren't only as late as everybody is."""

    def __init__(self) -> None:
        self._late: dict[str, tuple[float, int]] = {}  # since when without a break, and how often it was seen

    def seen(self, before: Observation, now: Observation, changed: Collection[str], at_s: float) -> list[str]:
        """Take in what is seen at a moment; those of the changed instances that are late by now, in words.

        To be late is more than before, and more than the middle one of the instances that weren't changed, `MUCH` times.
        """
        others = [row.load[LAG] for row in now.rows if row.name not in changed and LAG in row.load]
        usual_s = statistics.median(others) if others else 0.0
        found = []
        for name in changed:
            lag_s = _lag_s(now, name)
            if lag_s <= max(MAX_LAG_S, MUCH * usual_s, MUCH * _lag_s(before, name)):
                self._late.pop(name, None)
                continue
            since_s, sights = self._late.get(name, (at_s, 0))
            self._late[name] = since_s, sights + 1
            if at_s >= since_s + LATE_S and sights + 1 >= LATE_SIGHTS:
                found.append(f"{name} is {lag_s:.1f} s late with everything")
        return found


def _lag_s(seen: Observation, name: str) -> float:
    row = seen.row(name)
    return row.load.get(LAG, 0.0) if row else 0.0


def failed(begin: Observation, now: Observation) -> str:
    """Whether too many requests failed between two moments in which no balancer was restarted, in words."""
    (requests, failures), (were, had) = now.sums(), begin.sums()
    requests, failures = requests - were, failures - had
    if failures >= MIN_FAILED and failures > MAX_FAILED * requests:
        return f"{failures:.0f} of {requests:.0f} requests were answered with 5xx"
    return ""


def _new(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """What is lacking that wasn't before, whatever the numbers and reasons in it."""
    known = {_what(text) for text in before}
    return [text for text in now if _what(text) not in known]


def _what(lacking: str) -> str:
    first = lacking.partition(" ")[0]
    return first.partition("-w")[0]
