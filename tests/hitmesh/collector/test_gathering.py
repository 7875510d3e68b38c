"""What a batch waits for before it is put: who is asking just now, and nobody else. A collector in this process."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq.green
from gevent.event import Event
from gevent.hub import get_hub

from hitmesh.collector import collector as module
from hitmesh.collector.collector import Collector
from hitmesh.config import parse
from hitmesh.hub.rest import rest
from hitmesh.mesh.network import Network
from hitmesh.protocol.messages import Job, decode
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.spool.sqlite import SqliteSpool
from hitmesh.store.sqlite import SqliteTotals
from tests.services import PATIENCE_S

PAGE = {"s/a": 1}


class Spool(SqliteSpool):
    """One that notes how many hits each put had, and answers when it may."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, claim_s=60, longest_delay_s=60)
        self.hits: list[int] = []
        self.may_answer = Event()
        self.may_answer.set()

    def put(self, body: bytes, delay_s: float) -> object:
        self.hits.append(sum(sum(part.counts.values()) for part in decode(body, Job).parts))
        self.may_answer.wait()
        return super().put(body, delay_s)


class Callers:
    """Clients of whom each asks when the one before has been heard: by a socket, so one in each turn of the hub."""

    def __init__(self, count: int, ask: Callable[[], object]) -> None:
        self._pairs = [socket.socketpair() for _ in range(count)]
        self._ask = ask
        self.heard = 0
        loop: Any = get_hub().loop
        self._watchers = [loop.io(ours.fileno(), 1) for _, ours in self._pairs]
        for at, watcher in enumerate(self._watchers):
            watcher.start(self._hear, at)

    def begin(self) -> None:
        self._pairs[0][0].send(b"x")

    def _hear(self, at: int) -> None:
        self._pairs[at][1].recv(1)
        self.heard += 1
        self._ask()
        if at + 1 < len(self._pairs):
            self._pairs[at + 1][0].send(b"x")

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        for pair in self._pairs:
            for each in pair:
                each.close()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool.db")


@pytest.fixture
def collector(tmp_path: Path, spool: Spool) -> Iterator[Collector]:
    """One that commits, and does nothing else."""
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}
    network = Network(zmq.green.Context())
    made = Collector(
        parse({"name": "dc", "nodes": {"a": node}}, source="test"),
        name="c", spool=spool, store=SqliteTotals(tmp_path / "totals.db"),
        settings=SqliteSettings(tmp_path / "settings.db"), network=network,
    )  # fmt: skip
    committer = gevent.spawn(made._commit)
    yield made
    committer.kill()
    network.close()
    spool.close()


@pytest.fixture
def callers(collector: Collector) -> Iterator[Callers]:
    made = Callers(20, lambda: collector.submit(PAGE))
    yield made
    made.close()


def put(spool: Spool, hits: int) -> list[int]:
    """The puts, once so many hits are in them."""
    with gevent.Timeout(PATIENCE_S):
        while sum(spool.hits) < hits:
            gevent.sleep(0.001)
    return spool.hits


def test_whoever_asks_while_others_do_joins_the_batch(spool: Spool, callers: Callers) -> None:
    callers.begin()
    assert put(spool, 20) == [20]


def test_a_hit_alone_waits_for_nobody(collector: Collector, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[int] = []

    def note() -> None:
        rests.append(1)
        rest()

    monkeypatch.setattr(module, "rest", note)
    monkeypatch.setattr(module, "GATHER_S", PATIENCE_S)
    began_s = time.monotonic()
    collector.submit(PAGE).wait()
    assert spool.hits == [1]
    assert len(rests) <= 2
    assert time.monotonic() - began_s < PATIENCE_S


def test_a_stream_of_hits_that_never_ends_doesn_t_keep_the_first_from_its_put(
    spool: Spool, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHER_S", 0.0)
    callers.begin()
    assert len(put(spool, 20)) > 1


def test_a_batch_that_is_full_waits_for_nobody(
    collector: Collector, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[int] = []  # how many puts there were before each
    monkeypatch.setattr(module, "rest", lambda: rests.append(len(spool.hits)))
    pages = collector.live.config.limits.forming_pages
    collector.submit({f"s/{number}": 1 for number in range(pages)})
    collector.submit(PAGE)
    assert put(spool, pages + 1) == [pages, 1]
    assert 0 not in rests


def test_those_who_come_during_a_put_are_the_next_batch(collector: Collector, spool: Spool) -> None:
    spool.may_answer.clear()
    first = collector.submit(PAGE)
    put(spool, 1)
    others = [collector.submit(PAGE) for _ in range(5)]
    spool.may_answer.set()
    for each in (first, *others):
        each.wait()
    assert spool.hits == [1, 5]
