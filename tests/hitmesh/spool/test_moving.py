"""Moving jobs from one spool to another: each is somewhere at every moment, and is counted once."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import greenstalk
import pytest

from hitmesh.errors import SpoolRefused
from hitmesh.protocol.messages import Job, Part, decode, encode, make
from hitmesh.spool import BURIED, CLAIMED, READY, WAITING, Copy, CopyStats, Held, JobId, Spool
from hitmesh.spool.beanstalk import BeanstalkSpool
from hitmesh.spool.moving import move
from hitmesh.spool.sqlite import SqliteSpool
from tests.hitmesh.spool.conftest import CLAIM_S, LONG_CLAIM_S, MakeServer, Place
from tests.services import PATIENCE_S, wait_for

JOBS = 150
KINDS = ("sqlite", "beanstalkd")
# What `hitmesh spool move` does, between two places whatever they are.
MOVER = """
import sys
from pathlib import Path
from hitmesh.config import Config, Node, Stores, Timing
from hitmesh.spool.moving import move
from hitmesh.spool.open import open_spool
base, claim_s, *urls = sys.argv[1:]
def opened(url):
    nodes = {"here": Node(address="127.0.0.1")}
    timing = Timing(claim_s=float(claim_s))
    return open_spool(Config(name="dc", nodes=nodes, stores=Stores(spools=(url,)), timing=timing), Path(base))
moved = move(opened(urls[0]), opened(urls[1]), within_s=60.0, told=lambda moved, left: print(moved, flush=True))
sys.exit(1 if moved.left.waiting + moved.left.ready + moved.left.claimed else 0)
"""


def job(seq: int) -> bytes:
    return encode(make(Job, "collector-1.a", int(time.time() * 1000), (Part(3, seq, 1, {"a.example/x": 2}),)))


class Enough(Exception):
    """Ends a move that would wait on."""


def nothing(*_: object) -> None:
    """Nobody is told."""


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, make_place: Callable[..., Place]) -> Iterator[tuple[Place, Place]]:
    """Where jobs come from and go to."""
    if request.param == "sqlite":
        yield make_place("sqlite:///from.db"), make_place("sqlite:///to.db")
    else:
        make_server: MakeServer = request.getfixturevalue("make_server")
        yield make_place(make_server().url("jobs")), make_place(make_server().url("jobs"))


def copy_of(spool: Spool) -> Copy:
    assert isinstance(spool, Copy)
    return spool


def sequences(spool: Spool) -> list[int]:
    """Of every job that can be claimed, which are then deleted."""
    found = []
    while claimed := spool.claim(100):
        found += [decode(each.body, Job).parts[0].seq for each in claimed]
        spool.done([each.id for each in claimed])
    return sorted(found)


def test_jobs_are_moved_as_they_are_and_nothing_stays(pair: tuple[Place, Place]) -> None:
    source, target = pair[0].open(), pair[1].open()
    for seq in range(1, 41):
        source.put(job(seq), 0)
    heard: list[int] = []
    moved = move(source, target, within_s=PATIENCE_S, told=lambda count, _: heard.append(count))
    assert (moved.jobs, moved.left.waiting, moved.left.ready, moved.left.claimed) == (40, 0, 0, 0)
    assert heard[-1] == 40
    assert sequences(target) == list(range(1, 41))


def test_one_that_waits_for_its_ack_is_moved_when_its_delay_ends_and_its_collector_does_not_take_it_for_gone(
    pair: tuple[Place, Place],
) -> None:
    source, target = pair[0].open(), pair[1].open()
    theirs = pair[0].open()  # the collector's own
    early, late = theirs.put(job(1), LONG_CLAIM_S), theirs.put(job(2), 1)

    def told(moved: int, left: CopyStats) -> None:
        if moved:
            assert (moved, left.waiting) == (1, 1)
            raise Enough

    with pytest.raises(Enough):
        move(source, target, within_s=10 * PATIENCE_S, told=told)
    # What was moved may be resent by anybody: who made it must keep its lane. What wasn't is its own.
    assert theirs.done([late, early]) == [False, True]
    assert sequences(target) == [2]


class Target:
    """A spool to which something happens at each put."""

    def __init__(self, spool: Spool, after_put: Callable[[], None] = nothing, refuses_after: int = JOBS) -> None:
        self._spool, self._after_put, self._left = spool, after_put, refuses_after

    def put(self, body: bytes, delay_s: float) -> JobId:
        if not self._left:
            raise SpoolRefused("no room", op="put")
        self._left -= 1
        made = self._spool.put(body, delay_s)
        self._after_put()
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spool, name)


def test_a_collector_whose_ack_comes_between_put_and_delete_does_not_take_its_job_for_gone(
    pair: tuple[Place, Place],
) -> None:
    source, theirs = pair[0].open(), pair[0].open()
    job_id = theirs.put(job(1), 1)
    said: list[bool] = []
    target = Target(pair[1].open(), after_put=lambda: said.extend(theirs.done([job_id])))
    move(source, target, within_s=PATIENCE_S, told=nothing)
    assert said == [False]


def test_what_a_target_refuses_half_way_is_where_it_was(pair: tuple[Place, Place]) -> None:
    source, target = pair[0].open(claim_s=CLAIM_S), pair[1].open()
    for seq in range(1, 6):
        source.put(job(seq), 0)
    with pytest.raises(SpoolRefused, match="no room"):
        move(source, Target(target, refuses_after=2), within_s=PATIENCE_S, told=nothing)
    assert len(sequences(target)) == 2
    moved = move(source, target, within_s=PATIENCE_S, told=nothing)
    assert (moved.jobs, sequences(target)) == (3, [3, 4, 5])


def test_what_is_set_aside_stays(pair: tuple[Place, Place]) -> None:
    source, target = pair[0].open(), pair[1].open()
    source.put(b"nonsense", 0)
    [claimed] = source.claim(1)
    source.bury(claimed.id)
    moved = move(pair[0].open(), target, within_s=PATIENCE_S, told=nothing)
    assert (moved.jobs, moved.left.buried) == (0, 1)


def test_a_target_that_takes_nothing_changes_nothing(make_place: Callable[..., Place], make_server: MakeServer) -> None:
    source = make_place("sqlite:///from.db").open()
    source.put(job(1), 0)
    server = make_server(binlog=None)
    with pytest.raises(SpoolRefused, match="it keeps no log on disk"):
        move(source, make_place(server.url("jobs")).open(), within_s=1.0, told=nothing)
    assert sequences(source) == [1]


def test_a_mover_that_is_killed_anywhere_loses_nothing(pair: tuple[Place, Place]) -> None:
    source, target = pair[0].open(claim_s=CLAIM_S), pair[1].open(claim_s=CLAIM_S)
    for seq in range(1, JOBS + 1):
        source.put(job(seq), 0)
    command = [
        sys.executable,
        "-c",
        MOVER,
        str(pair[0].base),
        str(CLAIM_S),
        *pair[0].stores.spools,
        *pair[1].stores.spools,
    ]
    draw = random.Random(7)
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as mover:
            assert mover.stdout is not None
            mover.stdout.readline()  # some are moved
            time.sleep(draw.random() * 0.02)
            mover.send_signal(signal.SIGKILL)
    finished = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (source.stats()[0].ready, source.stats()[0].claimed) == (0, 0)
    found = sequences(target)
    assert set(found) == set(range(1, JOBS + 1)), "each is there"
    assert len(found) <= JOBS + 3 * 32, "and twice only what a killed one had in its hands"


# --- looking, and kicking -----------------------------------------------------------------------


@pytest.fixture
def spool(pair: tuple[Place, Place]) -> Spool:
    return pair[0].open()


def test_a_job_is_found_by_its_number_with_its_state(spool: Spool) -> None:
    for body, delay_s in ((b"waits", 600), (b"ready", 0)):
        spool.put(body, delay_s)
    states = {each.body: each.state for each in copy_of(spool).held(10)}
    assert states == {b"waits": WAITING, b"ready": READY}
    for each in copy_of(spool).held(10):
        assert copy_of(spool).find(each.number) == each
    number = next(each.number for each in copy_of(spool).held(10) if each.body == b"ready")
    [claimed] = spool.claim(1)
    found = copy_of(spool).find(number)
    assert found is not None
    assert (found.state, found.claims) == (CLAIMED, 1)
    spool.bury(claimed.id)
    assert BURIED in {each.state for each in copy_of(spool).held(10)}
    assert copy_of(spool).find(10**9) is None


def test_what_is_set_aside_is_claimable_after_a_kick(spool: Spool) -> None:
    spool.put(b"aside", 0)
    [claimed] = spool.claim(1)
    spool.bury(claimed.id)
    [held] = copy_of(spool).held(10)
    assert copy_of(spool).kick(held.number) is True
    assert [each.body for each in spool.claim(1)] == [b"aside"]
    assert copy_of(spool).kick(10**9) is False


def test_one_that_was_never_given_out_is_not_kicked(spool: Spool) -> None:
    """Its collector takes it for its own until the delay ends, and closes its lane when it has deleted it."""
    mine = spool.put(b"mine", 600)
    [held] = copy_of(spool).held(10)
    with pytest.raises(SpoolRefused, match="was never given out"):
        copy_of(spool).kick(held.number)
    assert spool.claim(1) == []
    assert spool.done([mine]) == [True]


def test_one_that_is_ready_needs_no_kick(spool: Spool) -> None:
    spool.put(b"ready", 0)
    [held] = copy_of(spool).held(10)
    assert copy_of(spool).kick(held.number) is True


def test_a_job_that_was_released_is_claimable_after_a_kick(
    make_place: Callable[..., Place], make_server: MakeServer
) -> None:
    server = make_server()
    spool = make_place(server.url("jobs")).open()
    spool.put(b"released", 0)
    with contextlib.closing(greenstalk.Client(("127.0.0.1", server.port), encoding=None, watch="jobs")) as client:
        client.release(client.reserve(), delay=600)
    [held] = copy_of(spool).held(10)
    assert (held.state, held.claims) == (WAITING, 1)
    assert copy_of(spool).kick(held.number) is True
    wait_for(lambda: spool.claim(1), what="the job")


def test_a_job_of_another_tube_is_none_of_ours(make_place: Callable[..., Place], make_server: MakeServer) -> None:
    server = make_server()
    make_place(server.url("others")).open().put(b"theirs", 0)
    spool = make_place(server.url("jobs")).open()
    assert isinstance(spool, BeanstalkSpool)
    assert spool.find(1) is None
    assert spool.kick(1) is False


def test_a_file_job_that_was_claimed_and_left_is_claimable_after_a_kick(make_place: Callable[..., Place]) -> None:
    spool = make_place("sqlite:///spool.db").open()
    assert isinstance(spool, SqliteSpool)
    spool.put(b"left", 0)
    spool.claim(1)
    assert spool.claim(1) == []
    assert spool.kick(1) is True
    assert [each.claims for each in spool.claim(1)] == [2]


def test_a_job_is_deleted_as_it_was_seen_and_no_other(spool: Spool) -> None:
    for body in (b"a text", b"another"):
        spool.put(body, 0)
    numbers: list[Held] = []
    for claimed in spool.claim(2):
        spool.bury(claimed.id)
        [first] = copy_of(spool).held(1, only_buried=True)
        if not numbers:
            numbers.append(first)
    [seen] = numbers
    assert copy_of(spool).delete(replace(seen, body=b"what stood there before")) is False
    assert spool.stats()[0].buried == 2
    assert copy_of(spool).delete(seen) is True
    assert (copy_of(spool).find(seen.number), spool.stats()[0].buried) == (None, 1)
    assert copy_of(spool).delete(seen) is False


def test_a_job_that_is_given_out_is_not_deleted(spool: Spool) -> None:
    spool.put(b"ready", 0)
    [held] = copy_of(spool).held(10)
    with pytest.raises(SpoolRefused, match="was never given out"):
        copy_of(spool).delete(held)
    spool.claim(1)
    with pytest.raises(SpoolRefused, match="is given out just now"):
        copy_of(spool).delete(held)
    assert spool.stats()[0].claimed == 1


def test_a_deleted_job_does_not_come_back_with_a_restart(
    make_place: Callable[..., Place], make_server: MakeServer
) -> None:
    server = make_server()
    spool = make_place(server.url("jobs")).open()
    spool.put(b"a text", 0)
    spool.bury(spool.claim(1)[0].id)
    [held] = copy_of(spool).held(10)
    assert copy_of(spool).delete(held) is True
    server.kill()
    server.start()
    wait_for(lambda: spool.stats()[0].usable, what="the server")
    assert (copy_of(spool).find(held.number), spool.stats()[0].buried) == (None, 0)


def test_jobs_moved_to_where_they_are_under_another_name_are_not_lost(pair: tuple[Place, Place]) -> None:
    source, same = pair[0].open(), pair[0].open()
    for seq in range(1, 21):
        source.put(job(seq), 0)
    moved = move(source, same, within_s=0.5, told=nothing)
    assert moved.left.ready + moved.left.claimed == 20
    assert sequences(source) == list(range(1, 21))


def test_jobs_that_two_move_to_and_fro_are_not_lost(pair: tuple[Place, Place]) -> None:
    here, there = pair[0].open(), pair[1].open()
    for seq in range(1, 4):
        here.put(job(seq), 0)
    went_back: list[int] = []

    def go_back() -> None:
        if not went_back:
            went_back.append(move(pair[1].open(), pair[0].open(), within_s=PATIENCE_S, told=nothing).jobs)

    move(here, Target(there, go_back), within_s=PATIENCE_S, told=nothing)
    assert went_back == [1]
    assert sorted({*sequences(here), *sequences(there)}) == [1, 2, 3]
