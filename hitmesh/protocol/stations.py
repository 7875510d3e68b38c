"""What a process tells of a batch's way: its stations, and the names by which one asks for them. Pure.

A batch, and each part of it, goes by the name of a part, WORKER:PARTITION:SEQ: a sequence number is used for one part only,
ever, so that says which. It is asked for at an admin listener, `GET /trace?id=...`, and told as JSON (docs/operations/logs.md).
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import MAX_PARTITIONS, MAX_TOTAL, Batch, Job, Part, decode
from hitmesh.protocol.names import MAX_NAME_CHARS

MAX_IDS: Final = 40  # in one question: some 6 KiB of a request line at most
MAX_ID_CHARS: Final = 1024  # a page is no longer
MAX_LAST: Final = 100  # batches of a page that are told of
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024

ACCEPTED: Final = "accepted"  # the batch's first hit is here
FORMED: Final = "formed"  # it has its numbers, and goes to the spool
ANSWERED: Final = "in the spool, answered"
NOT_COUNTED: Final = "not counted"
PERHAPS_COUNTED: Final = "perhaps counted"
LEFT: Final = "left to the spool"
CLAIMED: Final = "claimed from the spool"
SENT: Final = "sent"
ACKED: Final = "acked"
DELETED: Final = "deleted from the spool"
SET_ASIDE: Final = "set aside"
TOOK_OVER: Final = "took the partition over"
LOST: Final = "lost the partition"
HANDING_OVER: Final = "hands the partition over"
STAGED: Final = "staged"
DUPLICATE: Final = "had it already"
MISDIRECTED: Final = "doesn't take it: another epoch"
DROPPED: Final = "doesn't take it: no room"
REFUSED: Final = "refused"
COMMITTED: Final = "committed"
ELSEWHERE: Final = "committed there"

_PART: Final = re.compile(rf"([A-Za-z0-9._-]{{1,{MAX_NAME_CHARS}}}):([0-9]{{1,4}}):([0-9]{{1,19}})")
_encode = msgspec.msgpack.Encoder().encode

PartOf = tuple[int, int]  # partition, sequence number
Text = Annotated[str, Meta(max_length=2048)]


class Name(Struct, frozen=True):
    """The name of a part, and so of its batch."""

    worker: str
    partition: int
    seq: int

    def __str__(self) -> str:
        return f"{self.worker}:{self.partition}:{self.seq}"


def name_in(text: str) -> Name | None:
    """The part that is named so; None where it isn't a part's name."""
    found = _PART.fullmatch(text)
    if found is None or int(found[2]) >= MAX_PARTITIONS or not 1 <= int(found[3]) <= MAX_TOTAL:
        return None
    return Name(found[1], int(found[2]), int(found[3]))


class Station(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A step of a batch, or of some of its parts, at one process."""

    at_ms: float  # since 1970, by the clock of the process's host
    what: Text  # one of the words above
    worker: Text = ""
    parts: tuple[PartOf, ...] = ()  # none: a partition's own
    partition: int = -1  # whose own
    peer: Text = ""  # who it was sent to, or by; whose instance it is elsewhere
    dc: Text = ""  # elsewhere: where
    epoch: int = 0
    commit: int = 0
    why: Text = ""


class Known(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A batch that somebody remembers."""

    name: Text  # of its first part
    worker: Text
    at_ms: float
    parts: tuple[PartOf, ...]
    matches: tuple[PartOf, ...]  # those that were asked for
    hits: int = 0


class Told(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What one process knows of what was asked for."""

    dc: Text
    role: Text
    name: Text
    known: tuple[Known, ...] = ()  # the newest first
    more: int = 0  # that match, beyond these
    stations: tuple[Station, ...] = ()


# Made once, here: msgspec 0.22 ends the process where several threads first need one of a type at the same moment.
_told: Final = msgspec.json.Decoder(Told)


def read_told(body: bytes) -> Told:
    """What a process has told. Raises DecodeError."""
    try:
        return _told.decode(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(str(error), op="decode an answer to /trace") from error


def has_part(data: bytes, name: Name) -> bool:
    """Whether a job or a message of a batch may have this part: a quick look at its bytes."""
    return b"\x94" + _encode(name.partition) + _encode(name.seq) in data and name.worker.encode() in data


def parts_of(data: bytes) -> tuple[str, tuple[Part, ...]]:
    """The worker and the parts of a job, or of a message to an owner."""
    message = decode(data, Job, Batch)
    if isinstance(message, Job):
        return message.worker, message.parts
    return message.worker, tuple(addressed.part for addressed in message.parts)
