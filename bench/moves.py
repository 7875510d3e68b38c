"""What a partition's hand-over looks like from outside, by its head in the totals store.

Pure: it reads no clock and no store. A head that was seen is when (monotonic), the owner's epoch, and
how many hits are committed. An owner counts while the hits rise under its epoch; so a hand-over's pause
is from the old owner's last commit to the new one's first, the usual wait between two commits included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Glimpse:
    """A head as it was seen, the first time that it was so."""

    at_s: float
    epoch: int
    hits: int


@dataclass(frozen=True)
class Move:
    """One partition that went from one owner to another."""

    partition: int
    last_s: float  # when the old owner's last commit was seen
    claimed_s: float  # since then, until the new owner had claimed the partition
    pause_s: float  # since then, until hits were committed again

    @property
    def first_commit_s(self) -> float:
        """From the claim to the new owner's first commit."""
        return self.pause_s - self.claimed_s


def moves(partition: int, seen: Sequence[Glimpse]) -> list[Move]:
    """The partition's hand-overs; one that hasn't led to a commit is none yet."""
    found = []
    for number, (before, after) in enumerate(pairwise(seen), start=1):
        if after.epoch == before.epoch:
            continue
        counted = next((each for each in seen[number:] if each.hits > before.hits), None)
        if counted is None:
            continue
        last_s = _last_commit(seen[:number])
        found.append(Move(partition, last_s, after.at_s - last_s, counted.at_s - last_s))
    return found


def gaps(seen: Sequence[Glimpse]) -> list[float]:
    """The times between commits of one owner, which are there without any hand-over."""
    commits = [each for before, each in pairwise(seen) if each.hits > before.hits]
    return [after.at_s - before.at_s for before, after in pairwise(commits) if before.epoch == after.epoch]


def unowned(claims: Iterable[tuple[float, bool]]) -> list[float]:
    """How long nobody claimed a partition, each time; (when, whether somebody does), in order."""
    found = []
    since: float | None = None
    for at_s, owned in claims:
        if owned and since is not None:
            found.append(at_s - since)
        since = None if owned else at_s if since is None else since
    return found


def _last_commit(seen: Sequence[Glimpse]) -> float:
    """When the last of these rose, or was first seen."""
    for before, after in reversed(list(pairwise(seen))):
        if after.hits > before.hits:
            return after.at_s
    return seen[0].at_s
