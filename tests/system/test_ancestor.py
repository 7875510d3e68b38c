"""Each way in which the application that hitmesh descends from has lost counts, and that hitmesh doesn't.

Written in 2015 on the same parts (a queue, ZeroMQ, Consul), it read an error as 0, deleted jobs
before their count was written, took an error for a lock, ran its queue without fsync, and said OK
whatever its health. Here a whole mesh runs on a real Consul behind a proxy that fails on purpose,
and on a real beanstalkd.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from hitmesh.protocol.messages import Job
from tests.services import require, wait_for
from tests.services.beanstalkd import Beanstalkd
from tests.services.consul import ELECTION_S, ConsulServer
from tests.services.faulty_proxy import Fault, FaultyProxy, Request, reads, writes
from tests.system.user import PATIENCE_S, PATIENT, User, answer_to, hit_all, mesh
from tests.system.visitors import Reader, TerminalReader, Visitor, accepted, at_work, doubtful

FAULTY_S = 1.5  # longer than a retry delay: claims and resends go on meanwhile
HEALTHY_S = 0.5  # in between: long enough for a commit
# Quick to be resent and to be claimed, so that a few seconds have many of both.
TIMING = {**PATIENT, "heartbeat_s": 0.5, "resend_s": 0.3, "retry_delay_s": 1.0, "claim_s": 2.0}
RESTART_S = 1.0  # that a supervisor takes to start again what has died
TRIED_S = 2.0  # some tries of a processor to take over, which are a second apart at most


@dataclass(frozen=True)
class OnConsul:
    """A mesh whose every word with Consul goes through the proxy; its spool is SQLite."""

    user: User
    proxy: FaultyProxy


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnConsul]:
    require("consul")
    folder = tmp_path_factory.mktemp("ancestor")
    with contextlib.ExitStack() as stack:
        consul = ConsulServer(folder / "consul")
        stack.callback(consul.stop)
        consul.start()
        wait_for(consul.has_leader, within_s=ELECTION_S, what="Consul's leader")
        proxy = FaultyProxy(consul.ports.http)
        stack.callback(proxy.close)
        url = f"consul://127.0.0.1:{proxy.port}/pages"
        user = stack.enter_context(mesh(folder / "mesh", stores={"totals": url}, timing=TIMING))
        assert user.config.stores.totals == url  # `up` keeps what it is given
        yield OnConsul(user, proxy)


@pytest.fixture
def on_consul(running: OnConsul) -> Iterator[OnConsul]:
    """The mesh, healthy before and after."""
    try:
        yield running
    finally:
        running.proxy.heal()
        running.user.wait_until_settled()


def pages_of(site: str, count: int = 12) -> list[str]:
    return [f"{site}/{number}" for number in range(count)]


def hits_in(jobs: list[Job], site: str) -> Counter[str]:
    """What these jobs would add to the pages of a site."""
    found: Counter[str] = Counter()
    for job in jobs:
        for part in job.parts:
            found.update({page: count for page, count in part.counts.items() if page.startswith(f"{site}/")})
    return found


def by_chance(kind: Callable[[Request], bool], chance: float) -> Callable[[Request], bool]:
    return lambda request: kind(request) and random.random() < chance


def anything(request: Request) -> bool:
    return True


FAULTS = {
    "reads": [Fault(status=500, when=reads)],
    "writes": [Fault(status=500, when=writes)],
    "writes-that-went-through": [Fault(status=500, when=writes, forward=True)],
    "reads-and-writes": [Fault(status=500)],
    "anything-now-and-then": [
        Fault(status=500, when=by_chance(reads, 0.3)),
        Fault(status=500, when=by_chance(writes, 0.3)),
        Fault(status=500, when=by_chance(writes, 0.4), forward=True),
        Fault(cut=True, when=by_chance(writes, 0.3), forward=True),
        Fault(when=by_chance(anything, 0.1), delay_s=0.3, late=True),
    ],
}


def has_accepted_more(visitors: Sequence[Visitor], than: int) -> bool:
    return accepted(*visitors).total() > than


# --- it read an error as 0, and then took its index from a second read: 123456 became 3 ------


def test_errors_of_consul_never_change_a_total(on_consul: OnConsul) -> None:
    user, pages = on_consul.user, pages_of("totals")
    urls = user.collectors()
    for url in urls:
        hit_all(url, pages)
    user.wait_until_settled()
    least = dict.fromkeys(pages, len(urls))
    for url in urls:  # every collector has said it: it can't fall back on an older total that it knew
        assert [answer_to(url, "GET", f"/total/{page}")[1]["total"] for page in pages] == [len(urls)] * len(pages)
    visitors = [Visitor(url, pages) for url in urls]
    readers = [Reader(url, pages, least=least) for url in urls]
    kinds = random.sample(list(FAULTS), len(FAULTS))
    print("in this order:", kinds)
    with at_work(*visitors, *readers, TerminalReader(user, pages, least=least)):
        for kind in kinds:
            before = accepted(*visitors).total()
            for fault in FAULTS[kind]:
                on_consul.proxy.inject(fault)
            time.sleep(FAULTY_S)
            wait_for(
                partial(has_accepted_more, visitors, before), within_s=PATIENCE_S, what=f"hits while {kind} failed"
            )
            on_consul.proxy.heal()
            time.sleep(HEALTHY_S)
    assert not any(visitor.failed or visitor.refused for visitor in visitors)  # it costs no hit
    user.wait_until_settled()
    assert user.committed("totals/") == accepted(*visitors) + Counter(least)
    audit = user.assert_balanced()
    assert (audit["spooled"], audit["in_flight"], audit["unknown"]) == (0, 0, 0)


def test_a_page_that_was_counted_is_never_called_0_by_who_cannot_read_it(on_consul: OnConsul) -> None:
    user, page = on_consul.user, "unread/0"
    first, second = user.collectors()
    hit_all(first, [page])
    user.wait_until_settled()
    # Nor can it be written: an ack would tell of the total.
    on_consul.proxy.inject(Fault(status=500))
    assert answer_to(second, "GET", f"/total/{page}")[0] == http.client.SERVICE_UNAVAILABLE
    status, answer = answer_to(second, "POST", f"/hit/{page}")  # it is counted all the same
    assert (status, answer["total"], answer["dcs"]) == (http.client.OK, None, {})
    command = user.run("total", page)
    assert (command.returncode, command.stdout) == (1, "")
    assert "can't be read" in command.stderr
    on_consul.proxy.heal()
    user.wait_until_settled()
    assert user.committed("unread/") == {page: 2}


# --- jobs were deleted from the queue before the count was written ---------------------------


def test_nothing_leaves_the_spool_before_it_is_committed(on_consul: OnConsul) -> None:
    user, pages = on_consul.user, pages_of("kept")
    hit_all(user.collectors()[0], pages)
    user.wait_until_settled()
    on_consul.proxy.inject(Fault(status=500, when=writes))
    for url in user.collectors():
        hit_all(url, pages)
    expected = Counter(dict.fromkeys(pages, 2))
    assert hits_in(user.jobs(), "kept") == expected
    killed = [user.pid(name) for name in ("collector-1", "processor-1")]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: {"collector-1", "processor-1"} <= {n for n, one in user.living().items() if one.pid not in killed},
        within_s=PATIENCE_S,
        what="their successors",
    )
    claimed_at = time.monotonic() + TIMING["retry_delay_s"] + 1
    while time.monotonic() < claimed_at:  # they are claimed meanwhile, sent, and not acked
        assert hits_in(user.jobs(), "kept") == expected
        time.sleep(0.1)
    on_consul.proxy.heal()
    user.wait_until_settled()
    assert user.committed("kept/") == Counter(dict.fromkeys(pages, 3))
    user.assert_balanced()


# --- its lock counted as taken when Consul answered 500 --------------------------------------


def test_a_take_over_that_was_answered_500_is_none(on_consul: OnConsul) -> None:
    user, site = on_consul.user, "take-over"
    pages = pages_of(site)
    hit_all(user.collectors()[0], pages)
    user.wait_until_settled()
    before = {partition: head.hits for partition, head in user.heads().items()}
    names = ("processor-1", "processor-2")
    killed = {name: user.pid(name) for name in names}
    on_consul.proxy.inject(Fault(status=500, when=by_chance(writes, 0.5), forward=True))
    on_consul.proxy.inject(Fault(status=500, when=writes))
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)

    def successors() -> dict[str, str]:
        return {name: one.id for name, one in user.living().items() if name in names and one.pid != killed[name]}

    wait_for(lambda: len(successors()) == len(names), within_s=PATIENCE_S, what="new processors")
    hit_all(user.collectors()[0], pages)
    attempts = len(on_consul.proxy.requests)

    def has_tried() -> bool:
        return any(writes(request) for request in on_consul.proxy.requests[attempts:])

    def is_half_taken() -> bool:
        return bool({head.owner for head in user.heads().values()} & set(successors().values()))

    began = time.monotonic()
    while (passed_s := time.monotonic() - began) < TRIED_S or not (has_tried() and is_half_taken()):
        assert passed_s < PATIENCE_S, "nobody has tried to take over"
        assert user.owned() == {}
        assert {partition: head.hits for partition, head in user.heads().items()} == before
        assert hits_in(user.jobs(), site) == Counter(pages)
        time.sleep(0.1)
    assert is_half_taken()  # the store has their names already, and they still don't act on it
    on_consul.proxy.heal()
    wait_for(lambda: len(user.owned()) == user.config.partitions, within_s=PATIENCE_S, what="owners")
    user.wait_until_settled()
    assert user.committed(f"{site}/") == Counter(dict.fromkeys(pages, 2))
    user.assert_balanced()


# --- its queue ran without fsync, and its health check was a constant OK ---------------------
# `hitmesh up --beanstalkd` starts one that syncs every job: test_outages, on its pair.


@dataclass(frozen=True)
class OnBeanstalkd:
    """A mesh on one beanstalkd, which the test starts and stops."""

    user: User
    server: Beanstalkd


@pytest.fixture(scope="module")
def on_beanstalkd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnBeanstalkd]:
    require("beanstalkd")
    folder = tmp_path_factory.mktemp("health")
    server = Beanstalkd(folder / "beanstalkd")
    server.start()
    try:
        stores = {"spools": [server.url("pages")]}
        with mesh(folder / "mesh", stores=stores, timing=TIMING, nexus=1, processor=1, collector=1) as user:
            yield OnBeanstalkd(user, server)
    finally:
        server.stop()


def test_no_accepted_hit_is_lost_when_the_only_beanstalkd_is_killed(on_beanstalkd: OnBeanstalkd) -> None:
    user, server = on_beanstalkd.user, on_beanstalkd.server
    visitors = [Visitor(url, pages_of("killed-spool", 24)) for url in user.collectors() * 2]
    with at_work(*visitors):
        wait_for(partial(has_accepted_more, visitors, 50), within_s=PATIENCE_S, what="hits")
        server.kill()
        time.sleep(RESTART_S)
        server.start()
        before = accepted(*visitors).total()
        wait_for(partial(has_accepted_more, visitors, before + 50), within_s=PATIENCE_S, what="hits after its return")
    user.wait_until_settled()
    counted = Counter(user.committed("killed-spool/"))
    assert accepted(*visitors) - counted == Counter(), "accepted, and not counted"
    assert counted - accepted(*visitors) - doubtful(*visitors) == Counter(), "counted, and never accepted"
    user.assert_balanced()


def stop_it(server: Beanstalkd) -> None:
    server.stop()


def drain_it(server: Beanstalkd) -> None:
    server.signal(signal.SIGUSR1)


def take_its_log(server: Beanstalkd) -> None:
    server.stop()
    server.binlog = None
    server.start()


@pytest.mark.parametrize(
    ("harm", "why"),
    [(stop_it, "no connection"), (drain_it, "drains"), (take_its_log, "keeps no log on disk")],
    ids=["stopped", "draining", "without-a-log"],
)
def test_health_says_no_while_a_hit_could_not_be_kept(
    on_beanstalkd: OnBeanstalkd, harm: Callable[[Beanstalkd], None], why: str
) -> None:
    user, server = on_beanstalkd.user, on_beanstalkd.server
    (url,) = user.collectors()
    site = harm.__name__
    binlog = server.binlog
    wait_for(lambda: unhealthy(url) is None, within_s=PATIENCE_S, what="/health to be good")
    hit_all(url, [f"{site}/before"])
    user.wait_until_settled()
    harm(server)
    try:
        health = wait_for(partial(unhealthy, url, why), within_s=PATIENCE_S, what=f"/health to say {why}")
        assert health is not None
        assert health[0] == http.client.SERVICE_UNAVAILABLE
        status, answer = answer_to(url, "POST", f"/hit/{site}/meanwhile")
        assert (status, answer["title"]) == (http.client.SERVICE_UNAVAILABLE, "Not counted")
        assert why in answer["description"]
    finally:
        server.stop()
        server.binlog = binlog
        server.start()
    wait_for(lambda: unhealthy(url) is None, within_s=PATIENCE_S, what="/health to be good again")
    hit_all(url, [f"{site}/after"])
    user.wait_until_settled()
    assert user.committed(f"{site}/") == {f"{site}/before": 1, f"{site}/after": 1}
    user.assert_balanced()


def unhealthy(url: str, why: str = "") -> tuple[int, dict[str, str]] | None:
    """What /health answers when it isn't good, for that reason; a server that is restarted gives another one first."""
    status, answer = answer_to(url, "GET", "/health")
    return None if status == http.client.OK or why not in answer["description"] else (status, answer)
