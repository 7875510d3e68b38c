"""A cluster of three that loses servers: what was reported stays true."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.config import Config, Node, Stores
from hitmesh.errors import StoreUnknown
from hitmesh.store import Done, Refused, Row, StoredHead, TotalsStore, Unknown, Write
from hitmesh.store.open import open_store
from tests.services import wait_for
from tests.services.consul import ConsulCluster
from tests.services.faulty_proxy import Fault, FaultyProxy, writes

LOAD_S = 8.0  # of which two before the leader is killed; an election takes one to three
PARTITIONS = 2


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


class Committer(threading.Thread):
    """Adds numbered marks to a partition's head for as long as it is told to, and remembers each outcome.

    Two of them share a partition, so that writes are refused too.
    """

    def __init__(self, store: TotalsStore, partition: int, name: str, until: float) -> None:
        super().__init__(name=name, daemon=True)
        self.store, self.partition, self.until = store, partition, until
        self.done: list[tuple[float, str]] = []
        self.refused: set[str] = set()
        self.unknown: set[str] = set()

    def run(self) -> None:
        head = self._read()
        number = 0
        while time.monotonic() < self.until:
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
        while True:
            try:
                return self.store.read_head(self.partition)
            except StoreUnknown:
                if time.monotonic() > self.until + 10:
                    raise
                time.sleep(0.02)


def test_no_commit_is_lost_or_made_up_when_the_leader_is_killed(
    cluster: ConsulCluster, lossy: list[FaultyProxy], prefix: str
) -> None:
    hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in lossy)
    store = open_totals(cluster.url(prefix))
    until = time.monotonic() + LOAD_S
    committers = [
        Committer(open_totals(f"consul://{hosts}/{prefix}"), partition, f"p{partition}{name}-", until)
        for partition in range(PARTITIONS)
        for name in "ab"
    ]
    for committer in committers:
        committer.start()
    wait_for(lambda: all(len(c.done) > 10 for c in committers), what="commits under way")
    leader = cluster.leader()
    cluster.kill(leader)
    killed = time.monotonic()
    for committer in committers:
        committer.join(LOAD_S + 15)
        assert not committer.is_alive()

    applied_unknown: set[str] = set()
    for partition in range(PARTITIONS):
        mine = [c for c in committers if c.partition == partition]
        head, rows = store.read({partition: ["a/b"]})[partition]
        assert head is not None
        marks = head.body.decode().split()
        assert len(marks) == len(set(marks))
        assert {mark for c in mine for _, mark in c.done} - set(marks) == set()
        assert {mark for c in mine for mark in c.refused} & set(marks) == set()
        assert [row.count for row in rows] == [len(marks)]
        applied_unknown |= {mark for c in mine for mark in c.unknown} & set(marks)
        assert any(at > killed for c in mine for at, _ in c.done), "nothing was committed after the election"
    assert applied_unknown, "no write was applied and unknown: the test shows less than it says"
    assert any(c.refused for c in committers), "nothing was ever refused: the test shows less than it says"


def test_without_a_quorum_nothing_is_read_and_nothing_is_refused(cluster: ConsulCluster, prefix: str) -> None:
    store = open_totals(cluster.url(prefix))
    (first,) = store.write([Write(1, 0, b"head", [Row("a/b", "dc", 5, 1)])])
    assert isinstance(first, Done)
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
    head, rows = store.read({1: ["a/b"]})[1]
    assert head is not None
    assert head.body in (b"head", b"next")
    assert rows == [Row("a/b", "dc", 5, 1)]
