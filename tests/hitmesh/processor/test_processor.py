"""The processor's loop: what it does while the store is busy with a commit. In this process, over real sockets and files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gevent
import pytest
import zmq.green
from gevent.event import Event

from hitmesh.config import parse
from hitmesh.hub.blocking import call_blocking
from hitmesh.hub.rest import rest
from hitmesh.mesh.network import Network
from hitmesh.processor import processor as module
from hitmesh.processor.processor import Processor
from hitmesh.processor.steps import Phase
from hitmesh.protocol.messages import Ack, Addressed, Applied, Batch, Part, decode, encode, make
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.store import Outcome, Write, sqlite
from hitmesh.store.sqlite import SqliteTotals
from tests.services import PATIENCE_S

PARTITIONS = 2
WORKER = "c.1"
NOBODY = 1  # a port at which there is no Nexus: whoever has partitions keeps them
PAGES = ("s/a", "s/d")  # one of each partition


class Store(SqliteTotals):
    """One whose writes wait until they may go on: in a greenlet as Consul's do, or in the thread as a disk's."""

    def __init__(self, path: Path, *, in_thread: bool) -> None:
        super().__init__(path)
        self._in_thread = in_thread
        self.writes: list[Sequence[Write]] = []
        self.may_end = Event()
        self.may_end.set()
        self._disk = threading.Event()

    def stop(self) -> None:
        """Let no write end."""
        self.may_end.clear()
        self._disk.clear()

    def go_on(self) -> None:
        """Let all of them end."""
        self.may_end.set()
        self._disk.set()

    def write(self, writes: Sequence[Write]) -> list[Outcome]:
        self.writes.append(writes)
        if not self._in_thread:
            self.may_end.wait()
        elif not self.may_end.is_set():
            call_blocking(self._disk.wait)
        return super().write(writes)


def make_processor(folder: Path, store: Store, network: Network) -> Processor:
    """The only one of its datacenter, not started."""
    node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}
    config = parse(
        {
            "name": "dc", "partitions": PARTITIONS, "nodes": {"a": node},
            "timing": {"commit_s": 0.01}, "ports": {"nexus": NOBODY},
        },
        source="test",
    )  # fmt: skip
    settings = SqliteSettings(folder / "settings.db")
    return Processor(config, name="p", store=store, settings=settings, network=network)


class Stage:
    """A processor that owns all partitions, and a collector's two sockets."""

    def __init__(self, folder: Path, *, in_thread: bool) -> None:
        self.network = Network(zmq.green.Context())
        self.store = Store(folder / "totals.db", in_thread=in_thread)
        self.processor = make_processor(folder, self.store, self.network)
        self.acks = self.network.context.socket(zmq.PULL)
        port = self.acks.bind_to_random_port("tcp://127.0.0.1")
        self.reply_to = f"tcp://127.0.0.1:{port}"
        self.batches = self.network.context.socket(zmq.PUSH)
        self.batches.connect(self.processor.mesh._endpoints["batches"])
        self.processor.start()
        self.partitions = self.processor._partitions
        for partition in self.partitions:
            partition.take()
            self.processor._drive(partition)
        self.until(lambda: all(one.phase is Phase.OWNED for one in self.partitions))
        self.store.writes.clear()

    def hit(self, seq: int, page: str = PAGES[0], count: int = 1) -> None:
        """A part of one page, as a collector sends it."""
        number = PAGES.index(page)
        addressed = Addressed(self.partitions[number].epoch, Part(number, seq, 1, {page: count}))
        self.batches.send(encode(make(Batch, WORKER, self.reply_to, (addressed,))))

    def ack(self) -> list[Applied]:
        """What the next ack says."""
        with gevent.Timeout(PATIENCE_S):
            ack = decode(self.acks.recv(), Ack)
        assert ack.worker == WORKER
        return list(ack.applied)

    def keep_one_back(self) -> None:
        """A commit that the store writes until it may `go_on`, and parts of both partitions for the next one."""
        self.store.stop()
        self.hit(1)
        self.until(lambda: self.store.writes)
        self.hit(2)
        self.hit(1, PAGES[1])
        self.until(lambda: all(partition.is_dirty for partition in self.partitions))

    def until(self, what: Callable[[], object]) -> None:
        """Let the others go on until it is so."""
        with gevent.Timeout(PATIENCE_S):
            while not what():
                gevent.sleep(0.001)

    def close(self) -> None:
        self.store.go_on()
        self.processor.stop()
        assert all(one.phase is Phase.AWAY for one in self.partitions)  # with what was staged committed
        self.network.close()


def test_a_process_s_questions_to_other_datacenters_have_numbers_that_the_one_before_it_never_used(
    tmp_path: Path,
) -> None:
    network = Network(zmq.green.Context())
    store = Store(tmp_path / "totals.db", in_thread=True)
    before, now = (make_processor(tmp_path, store, network)._replication._following for _ in range(2))
    assert abs(next(now._numbers) - next(before._numbers)) > 1_000_000
    network.close()


@pytest.fixture(params=["a server", "a disk"])
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(tmp_path, in_thread=request.param == "a disk")
    yield made
    made.close()


def test_parts_that_come_while_a_commit_is_written_are_taken_in_and_acked_by_the_next(stage: Stage) -> None:
    stage.store.stop()
    stage.hit(1)
    stage.until(lambda: stage.store.writes)
    for seq in range(2, 102):
        stage.hit(seq)
    stage.until(lambda: stage.partitions[0].is_dirty and stage.partitions[0]._staging.counts == {PAGES[0]: 101})
    assert len(stage.store.writes) == 1
    assert stage.processor._counters.applied_hits == 0
    stage.store.go_on()
    first, second = stage.ack(), stage.ack()
    assert [(one.mark, one.totals) for one in first] == [(1, {PAGES[0]: {"dc": 1}})]
    assert [(one.mark, one.totals) for one in second] == [(101, {PAGES[0]: {"dc": 101}})]
    assert len(stage.store.writes) == 2


def test_a_part_that_comes_again_while_its_commit_is_written_counts_once_and_is_acked_with_it(stage: Stage) -> None:
    stage.store.stop()
    stage.hit(1)
    stage.until(lambda: stage.store.writes)
    for _ in range(3):
        stage.hit(1)
    stage.until(lambda: stage.processor._counters.duplicates == 3)
    stage.store.go_on()
    assert [(one.mark, one.totals) for one in stage.ack()] == [(1, {PAGES[0]: {"dc": 1}})]
    stage.hit(2)
    assert [(one.mark, one.totals) for one in stage.ack()] == [(2, {PAGES[0]: {"dc": 2}})]


def test_other_partitions_go_on_being_counted_while_one_s_commit_is_written(stage: Stage) -> None:
    stage.store.stop()
    stage.hit(1)
    stage.until(lambda: stage.store.writes)
    stage.hit(1, PAGES[1], count=7)
    stage.until(lambda: stage.partitions[1].is_dirty)
    stage.store.go_on()
    said = [one for _ in range(2) for one in stage.ack()]
    assert {one.partition: one.totals for one in said} == {0: {PAGES[0]: {"dc": 1}}, 1: {PAGES[1]: {"dc": 7}}}
    assert [[write.partition for write in writes] for writes in stage.store.writes] == [[0], [1]]


@pytest.mark.parametrize(("turn_s", "messages"), [(PATIENCE_S, [[0, 1]]), (-1.0, [[0], [1]])])
def test_a_commit_that_takes_long_is_made_known_in_pieces(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, turn_s: float, messages: list[list[int]]
) -> None:
    monkeypatch.setattr(module, "TURN_S", turn_s)
    stage.keep_one_back()
    stage.store.go_on()
    assert [one.mark for one in stage.ack()] == [1]
    said = [stage.ack() for _ in messages]
    assert [[one.partition for one in each] for each in said] == messages
    assert [[write.partition for write in writes] for writes in stage.store.writes] == [[0], [0, 1]]


def test_others_have_the_hub_while_a_commit_of_many_rows_is_made_and_made_known(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[list[Phase]] = []

    def note() -> None:
        rests.append([partition.phase for partition in stage.partitions])
        rest()

    stage.keep_one_back()
    monkeypatch.setattr(module, "TURN_S", -1.0)
    monkeypatch.setattr(module, "rest", note)
    stage.store.go_on()
    for _ in range(3):
        stage.ack()
    assert [Phase.COMMITTING, Phase.OWNED] in rests  # the first is decided, the second isn't
    assert [Phase.OWNED, Phase.COMMITTING] in rests  # the first is known


def test_a_sync_of_the_file_keeps_the_hub_from_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in for the disk is within the transaction, where the file is written."""
    disk, were_in_time = threading.Event(), list[bool]()
    apply = sqlite._apply

    def slow(*given: object) -> Outcome:
        were_in_time.append(disk.wait(PATIENCE_S))
        return apply(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite, "_apply", slow)
    stage.hit(1)
    stage.until(lambda: stage.store.writes)
    stage.hit(2)
    stage.until(lambda: stage.partitions[0]._staging.counts == {PAGES[0]: 2})
    disk.set()
    assert [one.mark for _ in range(2) for one in stage.ack()] == [1, 2]
    assert all(were_in_time)
