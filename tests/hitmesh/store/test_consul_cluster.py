"""A cluster of three that loses servers: what was reported stays true."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from hitmesh.config import Config, Node, Stores
from hitmesh.errors import StoreUnknown
from hitmesh.store import Done, Refused, Row, StoredHead, TotalsStore, Unknown, Write
from hitmesh.store.open import open_store
from tests.services import START_S, wait_for
from tests.services.consul import ConsulCluster
from tests.services.faulty_proxy import Fault, FaultyProxy, writes

PARTITIONS = 2
COMMITS = 10  # of each partition's committers, before the leader is killed and after it

T = TypeVar("T")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ConsulCluster]:
    """Three servers of this test's own."""
    made = ConsulCluster(tmp_path, servers=3)
    made.start_all()
    yield made
    made.stop()


@pytest.fixture
def lossy(cluster: ConsulCluster) -> Iterator[list[FaultyProxy]]:
    """A proxy to each server. Some writes are carried out and their answers lost, as when a leader
    dies between the two, which a killed one does too seldom to be a test."""
    numbers = itertools.count(1)
    made = [FaultyProxy(cluster.http(number)) for number in range(3)]
    for proxy in made:
        proxy.inject(Fault(cut=True, forward=True, when=lambda request: writes(request) and next(numbers) % 25 == 0))
    yield made
    for proxy in made:
        proxy.close()


def open_totals(url: str) -> TotalsStore:
    """The store that `url` names."""
    config = Config(name="dc", nodes={"n": Node(address="127.0.0.1")}, stores=Stores(totals=url))
    return open_store(config, Path())


def read_at_last(read: Callable[[], T]) -> T:
    """What a read answers when there is a leader; on a busy machine there may be several elections."""
    found: list[T] = []

    def is_read() -> bool:
        try:
            found.append(read())
        except StoreUnknown:
            return False
        return True

    wait_for(is_read, within_s=START_S, what="a read")
    return found[0]


class Committer(threading.Thread):
    """Adds numbered marks to a partition's head until it is told to stop, and remembers each outcome.

    Two of them share a partition, so that writes are refused too.
    """

    def __init__(self, store: TotalsStore, partition: int, name: str, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.store, self.partition, self.stop = store, partition, stop
        self.done: list[tuple[float, str]] = []
        self.refused: set[str] = set()
        self.unknown: set[str] = set()

    def run(self) -> None:
        head = self._read()
        number = 0
        while not self.stop.is_set():
            number += 1
            mark = f"{self.name}{number}"
            marks = [*(head.body.decode().split() if head else ()), mark]
            write = Write(
                self.partition,
                head.index if head else 0,
                " ".join(marks).encode(),
                [Row("a/b", "dc", len(marks), number)],
            )
            (outcome,) = self.store.write([write])
            if isinstance(outcome, Done):
                self.done.append((time.monotonic(), mark))
                head = StoredHead(write.head or b"", outcome.index)
                continue
            (self.refused if outcome == Refused() else self.unknown).add(mark)
            head = self._read()

    def _read(self) -> StoredHead | None:
        while not self.stop.is_set():
            try:
                return self.store.read_head(self.partition)
            except StoreUnknown:
                time.sleep(0.02)
        return None


def test_no_commit_is_lost_or_made_up_when_the_leader_is_killed(
    cluster: ConsulCluster, lossy: list[FaultyProxy], prefix: str
) -> None:
    hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in lossy)
    store = open_totals(cluster.url(prefix))
    stop = threading.Event()
    committers = [
        Committer(open_totals(f"consul://{hosts}/{prefix}"), partition, f"p{partition}{name}-", stop)
        for partition in range(PARTITIONS)
        for name in "ab"
    ]
    for committer in committers:
        committer.start()

    def of(partition: int) -> list[Committer]:
        return [c for c in committers if c.partition == partition]

    def is_shown_since(began: float) -> bool:
        """Whether enough was committed, refused, and carried out without an answer."""
        for partition in range(PARTITIONS):
            if sum(at > began for c in of(partition) for at, _ in list(c.done)) < COMMITS:
                return False
        return any(c.refused for c in committers) and any(
            mark in head.body.decode().split()
            for partition in range(PARTITIONS)
            if (head := read_at_last(lambda partition=partition: store.read_head(partition)))  # type: ignore[misc]
            for c in of(partition)
            for mark in list(c.unknown)
        )

    try:
        wait_for(lambda: is_shown_since(0.0), within_s=START_S, what="commits under way")
        cluster.kill(cluster.leader())
        killed = time.monotonic()
        wait_for(lambda: is_shown_since(killed), within_s=START_S, what="commits after the election")
    finally:
        stop.set()
    for committer in committers:
        committer.join(START_S)
        assert not committer.is_alive()

    for partition in range(PARTITIONS):
        mine = of(partition)
        head, rows = read_at_last(lambda partition=partition: store.read({partition: ["a/b"]}))[partition]  # type: ignore[misc]
        assert head is not None
        marks = head.body.decode().split()
        assert len(marks) == len(set(marks))
        assert {mark for c in mine for _, mark in c.done} - set(marks) == set()
        assert {mark for c in mine for mark in c.refused} & set(marks) == set()
        assert [row.count for row in rows] == [len(marks)]


def test_without_a_quorum_nothing_is_read_and_nothing_is_refused(cluster: ConsulCluster, prefix: str) -> None:
    store = open_totals(cluster.url(prefix))
    first: StoredHead | None = None
    while first is None:  # an election may take the write's answer away
        store.write([Write(1, 0, b"head", [Row("a/b", "dc", 5, 1)])])
        first = read_at_last(lambda: store.read_head(1))
    left = cluster.leader()
    others = [number for number in range(3) if number != left]
    for number in others:
        cluster.kill(number)
    with pytest.raises(StoreUnknown):
        store.read({1: ["a/b"]})
    with pytest.raises(StoreUnknown):
        list(store.scan())
    (second,) = store.write([Write(1, first.index, b"next", [])])
    assert isinstance(second, Unknown)
    cluster.start(others[0])
    cluster.leader()
    head, rows = read_at_last(lambda: store.read({1: ["a/b"]}))[1]
    assert head is not None
    assert head.body in (b"head", b"next")
    assert rows == [Row("a/b", "dc", 5, 1)]
