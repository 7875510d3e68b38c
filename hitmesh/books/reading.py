"""What the books need, read from a datacenter's store, its spools and its collectors' heartbeats."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from hitmesh.books.audit import Book, Spooled, Worker, book
from hitmesh.books.copies import Stored
from hitmesh.config import Config
from hitmesh.errors import CommandError, DecodeError, SpoolRefused, StoreUnknown
from hitmesh.protocol.messages import Head, Instance, Job, Seen, decode
from hitmesh.spool import Spool
from hitmesh.spool.open import open_spool
from hitmesh.store import Row, StoredHead, TotalsStore
from hitmesh.store.totals import Subtotals, read_partition

REFUSED = ("refused", "bad_frames", "bad_rows")  # loads of all roles

Opener = Callable[[Config, Path], Spool]


class Reading(Struct, frozen=True):
    """One partition as its store has it at one moment."""

    partition: int
    head: Head | None
    subtotals: Subtotals
    unreadable: str = ""  # why it can't be read


class Found(Struct):
    """What a whole store has."""

    books: dict[int, Book]
    unreadable: dict[int, str]
    stored: Stored


def reading(partition: int, stored: StoredHead | None, rows: list[Row]) -> Reading:
    """One partition of a store's `scan`, decoded."""
    try:
        return Reading(partition, *read_partition(partition, stored, rows))
    except StoreUnknown as error:
        return Reading(partition, None, {}, error.message)


def book_of(each: Reading, dc: str) -> Book:
    """A partition's book, in the store of `dc`."""
    return book(each.head, sum(count for (_, origin), count in each.subtotals.items() if origin == dc))


def read_store(store: TotalsStore, config: Config) -> Found:
    """What a datacenter's store has. Raises CommandError."""
    try:
        return found((reading(*each) for each in store.scan()), config)
    except StoreUnknown as error:
        raise CommandError(f"the store of {config.name} can't be read: {error}") from error


def found(readings: Iterable[Reading], config: Config) -> Found:
    """The same of partitions that were read."""
    books: dict[int, Book] = {}
    unreadable: dict[int, str] = {}
    counts: dict[str, dict[str, int]] = {}
    as_of_s: dict[str, float] = {}
    restoring = set(range(config.partitions))  # those without a head too
    for each in readings:
        if each.unreadable:
            unreadable[each.partition] = each.unreadable
            continue
        for (page, dc), count in each.subtotals.items():
            counts.setdefault(dc, {})[sys.intern(page)] = count
        books[each.partition] = book_of(each, config.name)
        for dc, origin in each.head.origins.items() if each.head else ():
            as_of_s[dc] = min(as_of_s.get(dc, float("inf")), origin.as_of_s)
        if each.head and not each.head.restoring:
            restoring.discard(each.partition)
    return Found(books, unreadable, Stored(config.partitions, counts, as_of_s, restoring))


def worker_of(instance: Instance) -> Worker:
    """A live collector's counters. Raises KeyError of what it doesn't say."""
    load = instance.load
    accepted, acked, unknown, jobs = (int(load[key]) for key in ("accepted", "acked", "unknown", "jobs"))
    return Worker(
        instance.name, accepted, acked, unknown, jobs, int(load.get("jumps", 0)), int(load.get("in_doubt", 0))
    )  # fmt: skip


def workers(collectors: Mapping[str, Seen]) -> dict[str, Worker]:
    """The counters of live collectors, by worker id. Raises CommandError."""
    counters = {}
    for worker, seen in collectors.items():
        try:
            counters[worker] = worker_of(seen.instance)
        except KeyError as error:
            raise CommandError(f"{seen.instance.name} doesn't say how many hits it has {error}") from error
    return counters


def refused(seen: Iterable[Seen]) -> dict[str, int]:
    """What living instances have refused of what arrived, by name."""
    refusals: dict[str, int] = {}
    for one in seen:
        count = sum(int(one.instance.load.get(key, 0)) for key in REFUSED)
        if one.alive and count:
            refusals[one.instance.name] = refusals.get(one.instance.name, 0) + count
    return dict(sorted(refusals.items()))


class _Copy(Struct, frozen=True):
    jobs: list[Job] | None
    count: int
    bad: list[str] = []


def read_spools(config: Config, base: Path, open_one: Opener = open_spool) -> Spooled:
    """The jobs of all copies together, if each can list them; else of the fullest copy how many. Raises CommandError."""
    copies = [_copy(one, base, open_one) for one in copies_of(config)]
    listed = [job for copy in copies for job in copy.jobs or ()]
    complete = all(copy.jobs is not None for copy in copies)
    bad = [reason for copy in copies for reason in copy.bad]
    return Spooled(listed if complete else None, max(copy.count for copy in copies), bad)


def copies_of(config: Config) -> Iterator[Config]:
    """The configuration once for each copy of the spool, with that one alone."""
    for url in config.stores.spools:
        stores = msgspec.structs.replace(config.stores, spools=(url,), spool_copies=0)
        yield msgspec.structs.replace(config, stores=stores)


def decoded(bodies: Iterable[bytes]) -> tuple[Sequence[Job], Sequence[str]]:
    """Jobs, and why others can't be read."""
    listed, bad = [], []
    for body in bodies:
        try:
            listed.append(decode(body, Job))
        except DecodeError as error:
            bad.append(str(error))
    return listed, bad


def _copy(config: Config, base: Path, open_one: Opener) -> _Copy:
    spool = open_one(config, base)
    try:
        if hasattr(spool, "jobs"):
            listed, bad = decoded(body for _, _, body in spool.jobs())
            return _Copy(list(listed), len(listed), list(bad))
        counts = [each.waiting + each.ready + each.claimed + each.buried for each in spool.stats() if each.usable]
        return _Copy(None, max(counts, default=0))
    except SpoolRefused as error:
        raise CommandError(f"the spool of {config.name} can't be read: {error}") from error
    finally:
        spool.close()
