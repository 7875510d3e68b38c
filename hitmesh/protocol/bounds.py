"""Bounds on what arrives that no field's type can say: how its numbers may lie to each other and to what is known. Pure.

Owns what a part and a chunk of rows may be, each bound with its reason. Must not know who sent them, nor
what becomes of what is refused. A check answers why not, empty when nothing speaks against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hitmesh.errors import PageError
from hitmesh.protocol.messages import MAX_DCS, MAX_PART_BYTES, Applied, Chunk, Job, LaneState, Part, Position
from hitmesh.protocol.pages import check_page, partition_of

# One datacenter's count of one page. The counts of MAX_DCS datacenters sum to less than 2^63, so that no
# answer overflows; a million hits a second reach it after 4,500 years.
MAX_PAGE_TOTAL: Final = 2**57 - 1
# A lane's numbers beyond the highest that is known. Numbers of refused puts never come: at 5,000 puts a
# second these are used up after 9 days, and after 7 without a part the lane is forgotten.
MAX_AHEAD: Final = 2**32
# The number at which a lane may begin that nobody knows (any more): 5,000 a second take 57,000 years.
MAX_FIRST: Final = 2**53
# Both rise by one, epochs also by a thousand when a store was wiped; 100 commits a second take 89,000 years.
MAX_POSITION: Final = 2**48
# Commits between two that a collector hears of: 100 a second take a year.
MAX_COMMITS: Final = 2**32
# Lanes in a head. Those of a redo's rows leave 160 KiB of it to lanes with Consul: a third for our own, two
# for all that is remembered of others. A lane takes 50 bytes or so, and is left by a worker that was killed:
# a thousand of them in 7 days are one each ten minutes.
LANES_BYTES: Final = 48 * 1024
OTHERS_LANES_BYTES: Final = 96 * 1024
# The last quarter is kept for workers that the mesh shows as alive: who invents names can't fill it.
GUEST_LANES_BYTES: Final = LANES_BYTES * 3 // 4
LANE_BYTES: Final = 32  # of a lane beside its worker's name: mark, hits, time, framing
RANGE_BYTES: Final = 19  # of a range above its mark


def check_pages(pages: Iterable[str], partition: int, partitions: int) -> str:
    """Whether these pages may be counted, and in this partition."""
    for page in pages:
        try:
            check_page(page)
        except PageError as error:
            return f"{error}: {page!a:.100}"
        if partition_of(page, partitions) != partition:
            return f"page {page!a:.100} isn't one of partition {partition}"
    return ""


def check_job(job: Job, partitions: int) -> str:
    """Whether a job can have been made by a collector, and can ever be applied."""
    seen: set[tuple[int, int]] = set()
    for part in job.parts:
        if part.partition >= partitions:
            return f"partition {part.partition} of {partitions}"
        if (part.partition, part.seq) in seen:
            return f"two parts with the number {part.seq} of partition {part.partition}"
        seen.add((part.partition, part.seq))
        if reason := check_part(part, partitions):
            return reason
    return ""


def check_part(part: Part, partitions: int) -> str:
    """Whether a part can have been made by a collector, whatever its lane is."""
    if not part.counts:
        return "a part without hits"  # it would use up a number that somebody else's hits may have
    if sum(len(page.encode()) for page in part.counts) > MAX_PART_BYTES:
        return f"a part with more than {MAX_PART_BYTES} bytes of page names"
    return check_pages(part.counts, part.partition, partitions)


def check_applied(applied: Applied, partitions: int, epoch: int, commit: int = 0) -> str:
    """Whether an ack can be of an owner that parts were sent to under `epoch`, or an earlier one.

    `commit` is the latest that was told before; 0: none.
    """
    partition = applied.partition
    if partition >= partitions:
        return f"an ack of partition {partition} of {partitions}"
    if not 1 <= applied.epoch <= epoch:
        return f"an ack of partition {partition} of epoch {applied.epoch}; parts were sent under {epoch}"
    if applied.commit > (commit + MAX_COMMITS if commit else MAX_POSITION):
        return f"an ack of commit {applied.commit} of partition {partition}; the one before was {commit}"
    for page, counts in applied.totals.items():
        if partition_of(page, partitions) != partition:
            return f"a total of {page!a:.100}, which isn't one of partition {partition}"
        if len(counts) > MAX_DCS:
            return f"a total of {page!a:.100} of {len(counts)} datacenters"
        for count in counts.values():  # in every hit's way: no generator
            if count > MAX_PAGE_TOTAL:
                return f"a total of {page!a:.100} that can't be: {count} hits"
    return ""


def lanes_bytes(lanes: Mapping[str, LaneState]) -> int:
    """What lanes take of a head, at most."""
    return sum(LANE_BYTES + len(worker.encode()) + RANGE_BYTES * len(lane.above) for worker, lane in lanes.items())


def is_possible(position: Position) -> bool:
    """Whether a partition can have come so far."""
    return 1 <= position.epoch <= MAX_POSITION and 1 <= position.commit <= MAX_POSITION


def check_chunk(chunk: Chunk, partitions: int) -> str:
    """Whether a chunk can be what an owner says of its rows."""
    state = chunk.state
    if state is None:
        return "rows without a position" if chunk.rows else ""
    if not is_possible(state.position):
        return f"commit {state.position.commit} of epoch {state.position.epoch}"
    if lanes_bytes(state.lanes) > LANES_BYTES:
        return f"{len(state.lanes)} lanes"
    if sum(lane.hits for lane in state.lanes.values()) > state.hits:
        return f"lanes with more than its {state.hits} hits"
    for row in chunk.rows:
        if row.count > MAX_PAGE_TOTAL:
            return f"a row with {row.count} hits"
        if row.commit > state.position.commit:
            return f"a row of commit {row.commit} as of commit {state.position.commit}"
    return check_pages((row.page for row in chunk.rows), chunk.partition, partitions)
