"""What a write may look like, the same for every store. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hitmesh.protocol.messages import MAX_PARTITIONS, MAX_TOTAL
from hitmesh.protocol.pages import MAX_PAGE_BYTES
from hitmesh.store import Row, Write

MAX_DC_BYTES = 128  # as long as a name in a message may be


def size_of(write: Write) -> int:
    """The bytes that count against a store's max_write_bytes: head, page and dc names, counts as text."""
    rows = sum(len(row.page.encode()) + len(row.dc.encode()) + len(str(row.count)) for row in write.rows)
    return rows + len(write.head or b"")


def check_writes(writes: Sequence[Write], *, max_rows: int, max_write_bytes: int, max_head_bytes: int) -> None:
    """Raise ValueError for what no store may be asked to write; nothing has been sent then.

    `max_head_bytes` is for a head without rows: a redo.
    """
    seen: set[int] = set()
    for write in writes:
        where = f"partition {write.partition}"
        if not 0 <= write.partition < MAX_PARTITIONS:
            raise ValueError(f"{where} is not within 0..{MAX_PARTITIONS - 1}")
        if write.partition in seen:
            raise ValueError(f"{where}: two writes in one call")
        seen.add(write.partition)
        if not 0 <= write.index <= MAX_TOTAL:
            raise ValueError(f"{where}: index {write.index} is not one of a head")
        if write.head is None and write.index == 0:
            raise ValueError(f"{where}: rows can't be written under a head that must not exist")
        if write.head == b"":
            raise ValueError(f"{where}: an empty head")
        if len(write.rows) > max_rows:
            raise ValueError(f"{where}: {len(write.rows)} rows; the limit is {max_rows}")
        for row in write.rows:
            _check_row(where, row)
        limit = max_write_bytes if write.rows else max_head_bytes
        if (size := size_of(write)) > limit:
            raise ValueError(f"{where}: {size} bytes of head, names and counts; the limit is {limit}")


def _check_row(where: str, row: Row) -> None:
    if not 1 <= len(row.page.encode()) <= MAX_PAGE_BYTES:
        raise ValueError(f"{where}: a page of {len(row.page.encode())} bytes; the limit is {MAX_PAGE_BYTES}")
    if not 1 <= len(row.dc.encode()) <= MAX_DC_BYTES:
        raise ValueError(f"{where}: a datacenter of {len(row.dc.encode())} bytes; the limit is {MAX_DC_BYTES}")
    if not 0 <= row.count <= MAX_TOTAL or not 0 <= row.commit <= MAX_TOTAL:
        raise ValueError(f"{where}: {row.page}: count {row.count} or commit {row.commit} is not within 0..2^63-1")
