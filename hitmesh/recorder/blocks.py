"""What a volume consists of: blocks, each of some messages, and each readable by itself. Pure.

    magic "hmb1"   4 bytes
    packed         4 bytes, how long what follows the head is
    raw            4 bytes, how long it is unpacked
    first_ms       8 bytes, the time of its oldest entry; milliseconds since 1970
    last_ms        8 bytes, of its newest
    zlib, with its own checksum, of: [length, 4 bytes; a Records or a Gap], one after the other

Numbers are unsigned and big-endian. A block whose end is missing, as after a crash, is none; what is before it stands.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from hitmesh.errors import DecodeError
from hitmesh.protocol.messages import MAX_PACKED_BLOCKS, MAX_TOTAL, Gap, Records, decode, encode, make
from hitmesh.protocol.names import is_name

MAGIC: Final = b"hmb1"
HEAD: Final = struct.Struct(">4sIIQQ")
LENGTH: Final = struct.Struct(">I")
MAX_RECORDS_BYTES: Final = 256 * 1024  # of one message: its sender ends it at 64 KiB, and the entry before that
MAX_RAW_BYTES: Final = 1024 * 1024  # of a block: what a busy datacenter says in seconds; unpacked at once by a reader
MAX_WHY_CHARS: Final = 300
LEVEL: Final = 6  # of zlib: a tenth of what a log takes, 30 MiB a second

assert MAX_RAW_BYTES + 4096 < MAX_PACKED_BLOCKS, "one block at least fits into an answer"


class Head(NamedTuple):
    """What is known of a block without unpacking it."""

    packed: int
    raw: int
    first_ms: int
    last_ms: int

    @property
    def size_bytes(self) -> int:
        """Of the whole block."""
        return HEAD.size + self.packed


Recorded = Records | Gap


def pack(messages: Sequence[tuple[bytes, int, int]]) -> bytes:
    """A block of messages: each with the times of its first and last entry."""
    raw = b"".join(LENGTH.pack(len(data)) + data for data, _, _ in messages)
    assert len(raw) <= MAX_RAW_BYTES, "a block that no reader would take"
    packed = zlib.compress(raw, LEVEL)
    first_ms, last_ms = min(first for _, first, _ in messages), max(last for _, _, last in messages)
    return HEAD.pack(MAGIC, len(packed), len(raw), first_ms, last_ms) + packed


def message_of(message: Recorded, data: bytes = b"") -> tuple[bytes, int, int]:
    """A message for a block, with the times of its entries; `data` is what it was decoded from."""
    if isinstance(message, Gap):
        return encode(message), message.since_ms, message.until_ms
    times = [one.at_ms for one in message.entries] or [0]
    return data or encode(message), min(times), max(times)


def head_of(data: bytes) -> Head | None:
    """The head at the beginning of `data`; None where none is, or none can be."""
    if len(data) < HEAD.size:
        return None
    magic, packed, raw, first_ms, last_ms = HEAD.unpack_from(data)
    if magic != MAGIC or raw > MAX_RAW_BYTES or packed > MAX_PACKED_BLOCKS - HEAD.size:
        return None
    return Head(packed, raw, first_ms, last_ms)


def unread(recorder: str, since_ms: int, until_ms: int, why: str) -> Gap:
    """In the place of what a volume of `recorder` has of a while, and nobody can read: of so many entries as nobody knows."""
    name = recorder if is_name(recorder) else "recorder"
    since_ms, until_ms = min(since_ms, MAX_TOTAL), min(max(since_ms, until_ms), MAX_TOTAL)
    return make(Gap, name, since_ms, until_ms, 0, why[:MAX_WHY_CHARS])


def unpack(data: bytes, recorder: str) -> Iterator[Recorded]:
    """The messages of blocks of `recorder`, one after the other, and a Gap in the place of a block that can't be read.

    Raises DecodeError at what is no block, behind those before it: where the next one would be isn't known then.
    """
    at = 0
    while at < len(data):
        head = head_of(data[at : at + HEAD.size])
        if head is None or at + head.size_bytes > len(data):
            raise DecodeError("what follows isn't a block", op="read")
        body = data[at + HEAD.size : at + head.size_bytes]
        at += head.size_bytes
        try:
            yield from _messages(body, head)
        except DecodeError as error:
            yield unread(recorder, head.first_ms, head.last_ms, f"a block can't be read: {error}")


def _messages(body: bytes, head: Head) -> Iterator[Recorded]:
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(body, head.raw + 1)  # never more than its head says
    except zlib.error as error:
        raise DecodeError(str(error), op="read") from error
    if len(raw) != head.raw or not unpacker.eof:
        raise DecodeError("a block isn't as long as it says", op="read")
    at = 0
    while at < len(raw):
        if len(raw) - at < LENGTH.size:
            raise DecodeError("a block ends in the middle", op="read")
        (length,) = LENGTH.unpack_from(raw, at)
        at += LENGTH.size
        yield decode(raw[at : at + length], Records, Gap)
        at += length
