"""Every message, spool job and partition head as bytes, and back. Pure.

All are msgpack arrays that start with a version and a kind. Every field has a type and a
bound; `decode` raises DecodeError and nothing else, whatever bytes it is given, and never
allocates more than the input is long. Field by field in docs/protocol.md.

Bounds hold for what one message carries; how large a whole frame may be is MAX_FRAME_BYTES,
which sockets set as MAXMSGSIZE.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, TypeVar, cast, overload

from msgspec import Meta, Struct, msgpack
from msgspec.structs import astuple, replace

from hitmesh.errors import DecodeError
from hitmesh.protocol.names import ENDPOINT, MAX_ENDPOINT_CHARS, MAX_NAME_CHARS, NAME, STATE
from hitmesh.protocol.pages import MAX_PAGE_BYTES

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 4 * 1024 * 1024  # a batch request of 1 MiB, packed anew, with room to spare
# Of one message of ZeroMQ; ours have three at most. libzmq bounds each frame and not their number, and gives nobody any
# before it has all of them: a few megabytes of empty ones, read in a row, would stop a hub for seconds.
MAX_FRAMES: Final = 8
MAX_PARTITIONS: Final = 4096
MAX_COUNT: Final = 2**53 - 1  # of one page in one part: far above what one batch of requests can add up to
MAX_TOTAL: Final = 2**63 - 1
MAX_PARTS: Final = 16_384  # a batch of 10,000 pages can touch as many partitions
MAX_PART_PAGES: Final = 500  # a part is committed whole, and a head's redo must stay small
MAX_PART_BYTES: Final = 128 * 1024  # of page names in one part: three fit into a redo
MAX_LANE_RANGES: Final = 4096  # holes in one lane; a worker has far fewer batches on the way
MAX_HEAD_LANES: Final = 65_536
MAX_REDO_ROWS: Final = 4096
MAX_INSTANCES: Final = 10_000
MAX_ENDPOINTS: Final = 16
MAX_LOADS: Final = 64
MAX_FORMATS: Final = 16  # kinds of formats that a release tells of
MAX_CHUNK_ROWS: Final = 1000  # of one origin in one answer: as many as a commit changes, so that it takes a whole one
MAX_ENTRIES: Final = 8192  # partitions in one question between owners, each with a few origins
ERA: Final = 1000  # epochs; a restored partition goes on in the next thousand
MAX_DCS: Final = 64  # datacenters of a mesh
UNFINISHED: Final = b"hitmesh restore "  # how begins what stands for a head while a backup is being brought back
MAX_SETTINGS: Final = 10_000  # live settings in one answer
MAX_NEWS_BYTES: Final = 2 * 1024 * 1024  # compressed: a datacenter of a thousand instances takes some 100 KiB
MAX_RECORD_ENTRIES: Final = 512  # in one message: what a busy role logs in a second
MAX_FIELDS: Final = 96  # of an entry: as many as a heartbeat has loads, and some more
MAX_FIELD_CHARS: Final = 64  # of its name, and of a logger's
MAX_FIELD_TEXT_CHARS: Final = 1024
MAX_ENTRY_CHARS: Final = 8192  # a line, and its traceback
MAX_LEVEL: Final = 100  # of a line; Python's CRITICAL is 50
MAX_PACKED_BLOCKS: Final = 2 * 1024 * 1024  # of what is recorded, in one answer: some dozen blocks
MAX_LOAD: Final = 1e15  # and -MAX_LOAD: what is compared must be a finite number, NaN is none

Version = Annotated[int, Meta(ge=VERSION, le=VERSION)]
Partition = Annotated[int, Meta(ge=0, lt=MAX_PARTITIONS)]
Epoch = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
Commit = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
Sequence = Annotated[int, Meta(ge=1, le=MAX_TOTAL)]
Mark = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=NAME)]
State = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=STATE)]
Endpoint = Annotated[str, Meta(max_length=MAX_ENDPOINT_CHARS, pattern=ENDPOINT)]
PageName = Annotated[str, Meta(min_length=1, max_length=MAX_PAGE_BYTES)]
Count = Annotated[int, Meta(ge=1, le=MAX_COUNT)]
Total = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
Counts = Annotated[dict[PageName, Count], Meta(max_length=MAX_PART_PAGES)]
Range = tuple[Sequence, Sequence]  # first and last, both applied
Ranges = Annotated[tuple[Range, ...], Meta(max_length=MAX_LANE_RANGES)]
Text = Annotated[str, Meta(max_length=1024)]
SettingText = Annotated[str, Meta(max_length=512)]
SettingValue = Annotated[str, Meta(max_length=65_536)]
Millis = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
Number = Annotated[int, Meta(ge=0, le=MAX_TOTAL)]
Packed = Annotated[bytes, Meta(max_length=MAX_NEWS_BYTES)]
Level = Annotated[int, Meta(ge=0, le=MAX_LEVEL)]
EntryText = Annotated[str, Meta(max_length=MAX_ENTRY_CHARS)]
FieldName = Annotated[str, Meta(min_length=1, max_length=MAX_FIELD_CHARS)]
FieldText = Annotated[str, Meta(max_length=MAX_FIELD_TEXT_CHARS)]
PackedBlocks = Annotated[bytes, Meta(max_length=MAX_PACKED_BLOCKS)]
Load = Annotated[float, Meta(ge=-MAX_LOAD, le=MAX_LOAD)]


class _Array(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A positional msgpack array: fields in order, none missing, none more."""


class Message(_Array, frozen=True):
    """The start of every message: version, kind."""

    KIND: ClassVar[int]
    version: Version
    kind: int


def _check_ranges(mark: int, above: tuple[Range, ...]) -> None:
    # What state.lanes relies on. A head that breaks it would count hits twice or not at all.
    end = mark
    for first, last in above:
        if not end + 1 < first <= last:
            raise ValueError(f"range {first} to {last} isn't above {end} with a hole between")
        end = last


# --- the way of a hit ---------------------------------------------------------------------


class Part(_Array, frozen=True):
    """One lane's next step: the counts of one partition under one sequence number.

    Every sequence number of this lane below `low` is either committed or given up for good.
    """

    partition: Partition
    seq: Sequence
    low: Sequence
    counts: Counts

    def __post_init__(self) -> None:
        if self.low > self.seq:  # its owner would raise the mark over a part that isn't applied
            raise ValueError(f"part {self.seq} is below its own low, {self.low}")


class Job(Message, frozen=True):
    """A batch as it stands in the spool: what a claim resends unchanged."""

    KIND = 20
    worker: Name
    created_ms: Millis  # wall clock, milliseconds since 1970
    parts: Annotated[tuple[Part, ...], Meta(min_length=1, max_length=MAX_PARTS)]


class Addressed(_Array, frozen=True):
    """A part, and the epoch of the owner it is meant for: owners drop what was meant for another."""

    epoch: Epoch
    part: Part


class Batch(Message, frozen=True):
    """Collector to processor: parts of one worker's job for partitions of that processor."""

    KIND = 1
    worker: Name
    reply_to: Endpoint
    parts: Annotated[tuple[Addressed, ...], Meta(max_length=MAX_PARTS)]


class Applied(_Array, frozen=True):
    """What a lane has applied as of a commit: all up to `mark`, and the `above` ranges."""

    partition: Partition
    epoch: Epoch
    commit: Commit
    mark: Mark
    above: Ranges
    totals: dict[PageName, dict[Name, Total]]  # page -> datacenter -> subtotal, as of that commit

    def __post_init__(self) -> None:
        _check_ranges(self.mark, self.above)


class Ack(Message, frozen=True):
    """Processor to collector: these lanes of `worker` are committed this far."""

    KIND = 2
    worker: Name
    applied: Annotated[tuple[Applied, ...], Meta(max_length=MAX_PARTS)]


class Redirect(Message, frozen=True):
    """Processor to collector: the epoch under which `owner` holds a partition; 0: it doesn't."""

    KIND = 3
    owner: Name  # the sending processor's instance
    epochs: Annotated[dict[Partition, Epoch], Meta(max_length=MAX_PARTITIONS)]


class LaneEnd(_Array, frozen=True):
    """A lane that ends: nothing after `last` will come, and everything up to it is committed."""

    partition: Partition
    epoch: Epoch
    last: Mark


class Close(Message, frozen=True):
    """Collector to processor: this worker stops with clean books; drop its lanes."""

    KIND = 4
    worker: Name
    lanes: Annotated[tuple[LaneEnd, ...], Meta(max_length=MAX_PARTITIONS)]


# --- who is where -------------------------------------------------------------------------


class Release(_Array, frozen=True):
    """What runs in an instance: its version, and the newest of each format that it reads."""

    version: Name
    reads: Annotated[dict[Name, Number], Meta(max_length=MAX_FORMATS)]


class Instance(_Array, frozen=True):
    """One running process of a role, as its heartbeats describe it.

    `release` is there from wire format 2 on, and its loads say it before that: `hitmesh.protocol.formats`.
    """

    dc: Name
    role: Name
    name: Name  # the operator's, such as collector-1; stable over restarts
    id: Name  # this process's own, new at every start
    state: State  # "up" or "draining"
    pid: Number
    started_ms: Millis  # wall clock
    endpoints: Annotated[dict[Name, Endpoint], Meta(max_length=MAX_ENDPOINTS)]
    load: Annotated[dict[Name, Load], Meta(max_length=MAX_LOADS)]
    owns: Annotated[dict[Partition, Epoch], Meta(max_length=MAX_PARTITIONS)]
    release: Release | None = None  # None: the field isn't there


class Heartbeat(Message, frozen=True):
    """Any role to every Nexus, each interval, and at once when something changes."""

    KIND = 5
    number: Number  # rises by one with every heartbeat of this instance
    interval_ms: Millis
    instance: Instance


class Leave(Message, frozen=True):
    """An instance's last words: it stops on purpose."""

    KIND = 6
    id: Name


class Seen(_Array, frozen=True):
    """An instance as a Nexus knows it."""

    instance: Instance
    number: Number  # of the last heartbeat heard
    age_ms: Millis  # since then
    alive: bool


class Change(Message, frozen=True):
    """Nexus to everybody: what is new. An empty one is the Nexus's own heartbeat.

    `number` rises by one with every Change; a gap, or a new `nexus` id, asks for a snapshot.
    """

    KIND = 7
    nexus: Name  # the Nexus process's id
    number: Number
    warm: bool  # it has listened for long enough to know everybody
    seen: Annotated[tuple[Seen, ...], Meta(max_length=MAX_INSTANCES)]
    forgotten: Annotated[tuple[Name, ...], Meta(max_length=MAX_INSTANCES)]  # instance ids


class Lookup(Message, frozen=True):
    """Anybody to a Nexus: `what` is "snapshot", "service" (a role), "owner" (a partition) or "settings" (after a key)."""

    KIND = 8
    request: Number  # comes back in the answer
    what: Name
    key: Text


class Control(Message, frozen=True):
    """An operator to a Nexus: `verb` is "forget" (a dead instance, by name)."""

    KIND = 9
    request: Number
    verb: Name
    key: Text


class Answer(Message, frozen=True):
    """A Nexus's answer to a Lookup or a Control; `error` is empty when it went well."""

    KIND = 10
    request: Number
    error: Text
    nexus: Name
    number: Number  # of the last Change this answer includes
    warm: bool
    seen: Annotated[tuple[Seen, ...], Meta(max_length=MAX_INSTANCES)]


# --- between datacenters --------------------------------------------------------------------


class Neighbours(Message, frozen=True):
    """A Nexus to the Nexuses of other datacenters: who its own datacenter is.

    A whole picture each time, so that a lost one is made good by the next.
    """

    KIND = 11
    dc: Name
    nexus: Name  # the Nexus process's id
    number: Number  # rises by one with every one of this Nexus
    interval_ms: Millis  # to the next one at the latest
    partitions: Number  # of its datacenter: they must be as many everywhere
    settings: Name  # digest of the live settings that are in force there; "-": not known
    nexuses: Annotated[
        dict[Name, Annotated[tuple[Endpoint, ...], Meta(max_length=MAX_ENDPOINTS)]], Meta(max_length=MAX_DCS)
    ]  # datacenter -> the heartbeats endpoints of its Nexuses, as far as it has heard; its own too
    seen: Annotated[
        tuple[Seen, ...], Meta(max_length=MAX_INSTANCES)
    ]  # its datacenter's Nexuses, processors, dashboards


class LaneState(_Array, frozen=True):
    """A lane in a head: applied marks, the hits it brought, when it was last used."""

    mark: Mark
    above: Ranges
    hits: Total
    seen_s: Number  # wall clock, seconds since 1970

    def __post_init__(self) -> None:
        _check_ranges(self.mark, self.above)


Lanes = Annotated[dict[Name, LaneState], Meta(max_length=MAX_HEAD_LANES)]  # by worker


class Position(_Array, frozen=True):
    """A moment in the history of one datacenter's partition."""

    ledger: Name  # of the partition's head there: another ledger is another history
    epoch: Epoch
    commit: Commit

    @property
    def rank(self) -> tuple[int, int]:
        """Of two positions of one ledger the one with the higher rank is the later one.

        A partition whose store was lost goes on in another era of epochs, and there its commits may
        have numbers that were used, and lost, before.
        """
        return self.epoch // ERA, self.commit


class Origin(_Array, frozen=True):
    """What is known of another datacenter's partition: all its rows up to `position`."""

    position: Position
    hits: Total  # that its head had applied
    lanes: Lanes  # that its head had, as of the rows or later, never earlier
    as_of_s: Number  # wall clock of its owner, seconds since 1970


class Wanted(_Array, frozen=True):
    """Of one partition, the rows of `origin` above what is committed here."""

    partition: Partition
    origin: Name
    number: Number  # comes back with what answers it
    have: Position | None  # None: nothing


class Have(Message, frozen=True):
    """Owner to the owner of the same partitions elsewhere: how far we are. The ack of rows, and the asking for more."""

    KIND = 12
    dc: Name  # who asks
    owner: Name  # its instance id
    reply_to: Endpoint
    wanted: Annotated[tuple[Wanted, ...], Meta(max_length=MAX_ENTRIES)]


class OriginRow(_Array, frozen=True):
    """A row of some origin: absolute, and the commit there that wrote it."""

    page: PageName
    count: Total
    commit: Commit


class Chunk(_Array, frozen=True):
    """An answer to one Wanted: whole commits of its origin, the oldest first."""

    partition: Partition
    origin: Name
    number: Number  # of the Wanted
    held_ms: Millis  # how long the question was held
    age_ms: Millis  # how old the sender's own knowledge of the origin is; 0 of its own rows
    whole: bool  # nothing more than this is known: whoever applies it is as far as the sender
    state: Origin | None  # where the asker is with these rows; None: no news
    rows: Annotated[tuple[OriginRow, ...], Meta(max_length=MAX_CHUNK_ROWS)]
    known: Annotated[dict[Name, Position], Meta(max_length=MAX_DCS)]  # of which origins the sender has how much


class Rows(Message, frozen=True):
    """What answers Haves: between the owners of the same partitions in two datacenters."""

    KIND = 13
    dc: Name  # who answers
    owner: Name  # its instance id
    chunks: Annotated[tuple[Chunk, ...], Meta(max_length=MAX_ENTRIES)]


class SettingRecord(_Array, frozen=True):
    """A live setting as some datacenter has it; a value of None says that it was deleted."""

    key: SettingText
    value: SettingValue | None
    version: Number
    author: SettingText
    changed_at: Load  # seconds since 1970, by the writer's clock


class Settings(Message, frozen=True):
    """A Nexus's answer to a Lookup of "settings": those after the key that was asked for, in their order."""

    KIND = 14
    request: Number  # of the question
    more: bool  # whether there are more after the last of these
    records: Annotated[tuple[SettingRecord, ...], Meta(max_length=MAX_SETTINGS)]


class News(Message, frozen=True):
    """A dashboard to the dashboards of other datacenters: what its own looks like. The whole of it each time."""

    KIND = 15
    dc: Name
    dashboard: Name  # its instance id
    number: Number  # rises by one with every one of this dashboard
    format: Number  # of what is packed: hitmesh.dashboard.status.FORMAT
    packed: Packed  # a Part as JSON, by zlib


# --- what is recorded -----------------------------------------------------------------------


class Entry(_Array, frozen=True):
    """A line that a role logged; or, of level 0, the figures of a minute."""

    at_ms: Millis  # wall clock of its process
    level: Level  # that of Python's logging, such as 30: a warning; 0: figures
    logger: FieldName
    text: EntryText
    fields: Annotated[dict[FieldName, FieldText | int | Load | bool], Meta(max_length=MAX_FIELDS)]


class Records(Message, frozen=True):
    """Any role to one recorder of its datacenter: what it logged and counted, each entry once."""

    KIND = 16
    dc: Name
    role: Name
    name: Name
    id: Name  # of the instance
    first: Number  # the first entry's; each has the next one, over the life of its process
    dropped: Number  # entries of this process that found no room before, and never come
    entries: Annotated[tuple[Entry, ...], Meta(max_length=MAX_RECORD_ENTRIES)]


class Read(Message, frozen=True):
    """An operator to a recorder: what is recorded of a while, from a place in it on."""

    KIND = 17
    request: Number  # comes back in the answer
    since_ms: Millis
    until_ms: Millis
    volume: Number  # 0: the first that has some of it
    offset: Number


class Recorded(Message, frozen=True):
    """A recorder's answer to a Read: whole blocks of its volumes, as they are there."""

    KIND = 18
    request: Number  # of the question
    recorder: Name  # its instance id
    volume: Number  # where to read on
    offset: Number
    more: bool  # whether there is something now
    packed: PackedBlocks


class Gap(Message, frozen=True):
    """In a volume: entries that reached its recorder, and couldn't be kept; in an answer also some that can't be read."""

    KIND = 19
    recorder: Name  # its name
    since_ms: Millis
    until_ms: Millis
    entries: Number  # 0: nobody knows, for they are in a volume and can't be read
    why: Text


# --- what the totals store holds ----------------------------------------------------------


class EarlierRedoRow(_Array, frozen=True):
    """A RedoRow of an EarlierHead."""

    page: PageName
    dc: Name
    count: Total


class EarlierHead(Message, frozen=True):
    """A head as it was before there were other datacenters: read, and never written any more."""

    KIND = 30
    ledger: Name
    epoch: Epoch
    owner: Name
    commit: Commit
    hits: Total
    lanes: Lanes
    redo: Annotated[tuple[EarlierRedoRow, ...], Meta(max_length=MAX_REDO_ROWS)]


class RedoRow(_Array, frozen=True):
    """A row that a commit decided and that may not be written yet: absolute, so repeatable."""

    page: PageName
    dc: Name
    count: Total
    commit: Commit  # of its own datacenter, as in the row


class Head(Message, frozen=True):
    """A partition's head: who owns it, how far it is, what each lane has had applied."""

    KIND = 31
    ledger: Name  # made when the partition's first head was written
    epoch: Epoch
    owner: Name  # the owner's instance id
    commit: Commit
    hits: Total  # applied in all, by hits alone (no starting values)
    lanes: Lanes
    redo: Annotated[tuple[RedoRow, ...], Meta(max_length=MAX_REDO_ROWS)]
    origins: Annotated[dict[Name, Origin], Meta(max_length=MAX_DCS)]  # how far it is with each other datacenter
    restoring: bool  # the rows are being brought back from other datacenters: not to be counted on, nor read
    lost: Total  # hits whose rows weren't, when a store that was wiped was restored


MESSAGES: Final[tuple[type[Message], ...]] = (
    Batch, Ack, Redirect, Close, Heartbeat, Leave, Change, Lookup, Control, Answer, Neighbours, Have, Rows, Settings, News,
    Records, Read, Recorded, Gap, Job, EarlierHead, Head,
)  # fmt: skip
M = TypeVar("M", bound=Message)
N = TypeVar("N", bound=Message)

_TELLING = (Heartbeat, Change, Answer, Neighbours)  # of instances
_encoder = msgpack.Encoder()
_decoders: dict[type[Message], msgpack.Decoder[Message]] = {kind: msgpack.Decoder(kind) for kind in MESSAGES}
_by_kind: dict[int, type[Message]] = {kind.KIND: kind for kind in MESSAGES}


def encode(message: Message) -> bytes:
    """The bytes of one message."""
    return _encoder.encode(_earlier(message) if isinstance(message, _TELLING) else message)


@overload
def decode(data: bytes, kind: type[M], /) -> M: ...
@overload
def decode(data: bytes, kind: type[M], other: type[N], /) -> M | N: ...
@overload
def decode(data: bytes, *kinds: type[M]) -> M: ...
def decode(data: bytes, *kinds: type[M]) -> M:
    """The message in `data`, which must be one of `kinds`; raises DecodeError on anything else."""
    found = _by_kind.get(_kind_of(data))
    for kind in kinds:
        if kind is found:
            try:
                return _decoders[kind].decode(data)  # type: ignore[return-value]
            except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors, as is bad UTF-8
                raise DecodeError(str(error), op=f"decode {kind.__name__}") from error
    expected = " or ".join(kind.__name__ for kind in kinds)
    raise DecodeError(f"not a {expected} message of version {VERSION}", op="decode")


def _kind_of(data: bytes) -> int:
    # [version, kind, ...]: the array's header is one byte (up to 15 fields), version and kind
    # are positive fixints, so the second and third bytes are theirs.
    if len(data) < 3 or not 0x92 <= data[0] <= 0x9F or data[1] != VERSION:
        return -1
    return data[2]


def _earlier(message: Heartbeat | Change | Answer | Neighbours) -> Message:
    """The message with instances that have no release as they were before there was that field: without it."""
    if isinstance(message, Heartbeat):
        return message if message.instance.release else replace(message, instance=_ten_fields(message.instance))
    if all(one.instance.release for one in message.seen):
        return message
    seen = (one if one.instance.release else replace(one, instance=_ten_fields(one.instance)) for one in message.seen)
    return replace(message, seen=tuple(seen))


def _ten_fields(instance: Instance) -> Instance:
    return cast("Instance", astuple(instance)[:-1])  # whose bytes are those of a record


def make(kind: type[M], *fields: object) -> M:
    """A message of `kind` with its version and kind filled in."""
    return kind(VERSION, kind.KIND, *fields)


def decode_head(data: bytes) -> Head:
    """A partition's head, of this release or the one before; raises DecodeError."""
    if data.startswith(UNFINISHED):
        raise DecodeError(
            "a backup is being restored here, or was until that broke off; `hitmesh restore` with the same file ends it"
        )
    head = decode(data, Head, EarlierHead)
    if isinstance(head, Head):
        return head
    redo = tuple(RedoRow(row.page, row.dc, row.count, head.commit) for row in head.redo)
    return make(
        Head, head.ledger, head.epoch, head.owner, head.commit, head.hits, head.lanes, redo, {}, False, 0
    )  # fmt: skip
