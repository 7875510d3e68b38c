"""What counting itself takes: processor time of a commit by the pages in it, and memory of a page and of a lane.

The processor's and the collector's own state in this process, without servers, sockets and syncs. A commit is of all 32
partitions together, each page changed once, as Consul would be given it; its time is told by what is done.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from hitmesh import compiled

compiled.install()  # as a role does, before what is compiled is imported

from hitmesh.collector.batches import Batches
from hitmesh.collector.known import Known
from hitmesh.processor.partition import Partition
from hitmesh.processor.steps import Acks, Counters, LoadRows, Phase, ReadHead
from hitmesh.protocol.messages import Ack, Applied, Head, LaneState, Part, encode, make
from hitmesh.protocol.pages import partition_of
from hitmesh.store import Done, Row, StoredHead, Write, consul_txn
from hitmesh.store.consul import MAX_HEAD_BYTES, MAX_ROWS, MAX_WRITE_BYTES
from hitmesh.store.consul_keys import Keys
from hitmesh.store.limits import check_writes

PARTITIONS = 32
PAGES = (1, 1000, 10_000, 100_000)
PART_PAGES = 300
MEMORY_PAGES = 100_000
MEMORY_LANES = 1000
ROUNDS = 5
PARTS = ("cpu", "memory")
WORKER, HERE, DC = "collector-1.0123456789ab", "tcp://127.0.0.1:1", "eu-west"


class Owner:
    """A processor's partitions, and a store that is empty and takes everything."""

    def __init__(self) -> None:
        counters = Counters()
        self.partitions = [
            Partition(
                number, dc=DC, me="processor-1.0123456789ab", ledger="0123456789abcdef", max_rows=MAX_ROWS,
                max_write_bytes=MAX_WRITE_BYTES, counters=counters, partitions=PARTITIONS,
            )
            for number in range(PARTITIONS)
        ]  # fmt: skip
        self._index = 0
        for partition in self.partitions:
            partition.take()
            self.carry_on(partition)

    def carry_on(self, partition: Partition) -> None:
        """Until it is owned."""
        while partition.phase is not Phase.OWNED:
            step = partition.step(time.time())
            if isinstance(step, ReadHead):
                partition.head_read(None)
            elif isinstance(step, LoadRows):
                partition.rows_loaded(())
            elif isinstance(step, Write):
                consul_txn.write_body([consul_txn.pack(0, step, Keys("hitmesh"))])
                partition.wrote(self.done())

    def done(self) -> Done:
        """That a write is done."""
        self._index += 1
        return Done(self._index)


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="bench/run commits", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts")
    options = parser.parse_args()
    print(f"hot modules: {compiled.in_words()}")
    if "cpu" in options.only:
        print("CPU of counting a page's part and of its commit, microseconds a page")
        for pages in PAGES:
            _cpu(pages)
    if "memory" in options.only:
        _memory()
    return 0


def _cpu(pages: int) -> None:
    spent: dict[str, list[float]] = defaultdict(list)
    owner, names, seqs = Owner(), _by_partition(pages), defaultdict[int, int](int)
    for _ in range(ROUNDS):
        took: dict[str, float] = defaultdict(float)
        longest_s = 0.0
        parts = list(_parts(names, seqs))
        with _timed(took, "staged"):
            for part in parts:
                owner.partitions[part.partition].offer(WORKER, HERE, 1, part)
        while due := [partition for partition in owner.partitions if partition.is_dirty]:
            before_s = sum(took.values())
            with _timed(took, "made"):
                writes = [step for partition in due if isinstance(step := partition.step(time.time()), Write)]
            with _timed(took, "packed"):
                _pack(writes)
            with _timed(took, "made known"):
                _ack([partition.wrote(owner.done()) for partition in due])
            longest_s = max(longest_s, sum(took.values()) - before_s)
            with _timed(took, "rows of redo"):
                for partition in due:
                    owner.carry_on(partition)
        for what, used_s in took.items():
            spent[what].append(used_s / pages * 1e6)
        spent["longest"].append(longest_s * 1e3)
    medians = {what: statistics.median(values) for what, values in spent.items()}
    longest_ms = medians.pop("longest")
    each = ", ".join(f"{what} {used:.2f}" for what, used in medians.items())
    print(
        f"  {pages:>9,} pages {sum(medians.values()):>8.2f} ({each}); a commit of all {longest_ms:.1f} ms", flush=True
    )


@contextmanager
def _timed(took: dict[str, float], what: str) -> Iterator[None]:
    began_s = time.process_time()
    yield
    took[what] += time.process_time() - began_s


def _by_partition(pages: int) -> Mapping[int, Sequence[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for page in _names(pages):
        found[partition_of(page, PARTITIONS)].append(page)
    return found


def _names(pages: int) -> Iterator[str]:
    return (f"example.com/some/page-{number:07d}" for number in range(pages))


def _parts(names: Mapping[int, Sequence[str]], seqs: dict[int, int]) -> Iterator[Part]:
    for partition, pages in names.items():
        for at in range(0, len(pages), PART_PAGES):
            seqs[partition] += 1
            yield Part(partition, seqs[partition], 1, dict.fromkeys(pages[at : at + PART_PAGES], 1))


def _pack(writes: Sequence[Write]) -> None:
    check_writes(writes, max_rows=MAX_ROWS, max_write_bytes=MAX_WRITE_BYTES, max_head_bytes=MAX_HEAD_BYTES)
    packed = [consul_txn.pack(number, write, Keys("hitmesh")) for number, write in enumerate(writes)]
    for together in consul_txn.group(packed):
        consul_txn.write_body(together)


def _ack(acks: Iterable[Acks]) -> None:
    applied = [one for each in acks for one in each.values()]
    encode(make(Ack, WORKER, tuple(applied)))


# --- memory -------------------------------------------------------------------------------


def _memory() -> None:
    print(f"bytes in memory, of {MEMORY_PAGES:,} pages (names of 29 bytes) and of {MEMORY_LANES:,} lanes")
    for what, count, keep in (
        ("a page of its own rows, in the processor", MEMORY_PAGES, _owned),
        ("a lane, in the processor", MEMORY_LANES, _lanes),
        ("a page whose total is known, in a collector", MEMORY_PAGES, _known),
        ("a page of a batch that isn't acked yet, in a collector", MEMORY_PAGES, _unacked),
        ("a lane, in a collector", PARTITIONS, _own_lanes),
    ):
        gc.collect()
        tracemalloc.start()
        kept = keep()
        gc.collect()
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        print(f"  {what:<56} {size / count:>7,.0f}", flush=True)
        del kept


def _owner_of(lanes: Mapping[str, LaneState], rows: Sequence[Row]) -> Partition:
    partition = Partition(
        0, dc=DC, me="processor-1", ledger="l", max_rows=MAX_ROWS, max_write_bytes=MAX_WRITE_BYTES, counters=Counters()
    )
    head = encode(make(Head, "l", 1, "processor-0", 1, 0, dict(lanes), (), {}, False, 0))
    partition.take()
    while partition.phase is not Phase.OWNED:
        step = partition.step(time.time())
        if isinstance(step, ReadHead):
            partition.head_read(StoredHead(head, 1))
        elif isinstance(step, LoadRows):
            partition.rows_loaded(rows)
        else:
            partition.wrote(Done(2))
    return partition


def _owned() -> object:
    return _owner_of({}, [Row(page, DC, 7, 1) for page in _names(MEMORY_PAGES)])


def _lanes() -> object:
    return _owner_of(
        {f"collector-1.{number:012x}": LaneState(number, (), 1000, 1_800_000_000) for number in range(MEMORY_LANES)}, ()
    )


def _known() -> object:
    known = Known(dc=DC, fresh_s=60, max_pages=2 * MEMORY_PAGES)
    for partition, pages in _by_partition(MEMORY_PAGES).items():
        known.told(Applied(partition, 1, 1, 1, (), {page: {DC: 1000 + at} for at, page in enumerate(pages)}), 1.0)
    return known


def _unacked() -> object:
    batches = Batches(WORKER, partitions=PARTITIONS, resend_s=1, unacked_bytes=1 << 30)
    names = list(_names(MEMORY_PAGES))
    for at in range(0, MEMORY_PAGES, 1000):
        job = batches.form(dict.fromkeys(names[at : at + 1000], 1), 0)
        batches.spooled(job, at, 1.0)
    return batches


def _own_lanes() -> object:
    batches = Batches(WORKER, partitions=PARTITIONS, resend_s=1, unacked_bytes=1 << 30)
    batches.refused(batches.form(dict.fromkeys(_names(1000), 1), 0), unknown=False)
    return batches


if __name__ == "__main__":
    sys.exit(main())
