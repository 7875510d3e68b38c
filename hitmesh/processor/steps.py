"""What a partition and its shell say to each other: phases, steps, what became of a part. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from hitmesh.protocol.messages import Applied
from hitmesh.store import Write


class Phase(Enum):
    """Where a partition stands; see the picture in `partition`."""

    AWAY = "away"
    READING = "reading"
    CLAIMING = "claiming"
    RESTORING = "restoring"
    LOADING = "loading"
    REDOING = "redoing"
    OWNED = "owned"
    COMMITTING = "committing"
    SETTLING = "settling"


class Offered(Enum):
    """What became of a part."""

    STAGED = "staged"  # in the next commit; the ack follows
    DUPLICATE = "duplicate"  # applied before; the ack is owed
    MISDIRECTED = "misdirected"  # another epoch's: tell the sender who owns the partition
    DROPPED = "dropped"  # no room now, or a closed lane's; the spool has it
    REFUSED = "refused"  # it can't be added, and the reason is counted; the spool has it


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Step: read the head."""


@dataclass(frozen=True, slots=True)
class LoadRows:
    """Step: load all rows."""


Step = ReadHead | LoadRows | Write
Recipient = tuple[str, str]  # (reply_to, worker)
Acks = dict[Recipient, Applied]


@dataclass(slots=True)
class Counters:
    """What happened here since the process started, for metrics."""

    applied_hits: int = 0
    commits: int = 0
    duplicates: int = 0
    misdirected: int = 0
    dropped: int = 0
    step_downs: int = 0
    rows_received: int = 0  # of other datacenters, committed here
    refused: int = 0  # of what arrived, by what it says
    refusal: str = ""  # the last one: whose, and why
    faults: list[str] = field(default_factory=list)  # what an operator must look at; the newest few
    untold: list[str] = field(default_factory=list)  # of them, what isn't in the log yet

    def fault(self, text: str) -> None:
        """Remember a fault, once."""
        if text not in self.faults:
            self.faults = [*self.faults[-4:], text]
            self.untold = [*self.untold[-4:], text]

    def refuse(self, sender: str, reason: str) -> None:
        """Count something that arrived and can't be."""
        self.refused += 1
        self.refusal = f"{sender!a:.140}: {reason}"
