"""A pair of real servers, one of which fails."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.spool import Spool, beanstalk
from hitmesh.spool.pair import PairSpool
from tests.hitmesh.spool.conftest import Place, has_unread, hasten
from tests.hitmesh.spool.test_spool import claim_all
from tests.services import START_S, wait_for
from tests.services.beanstalkd import HOST, Beanstalkd

pytestmark = pytest.mark.usefixtures("ways_of_putting")

LONG_S = 60.0
MakePlace = Callable[..., Place]


def open_pair(make_place: MakePlace, servers: list[Beanstalkd], *, required: int = 0) -> Spool:
    return make_place(*(server.url("jobs") for server in servers), required=required).open()


def waiting(spool: Spool) -> list[int]:
    return [copy.waiting for copy in spool.stats()]


def test_a_put_is_on_both_servers(make_place: MakePlace, servers: list[Beanstalkd]) -> None:
    spool = open_pair(make_place, servers)
    spool.put(b"x", LONG_S)
    assert waiting(spool) == [1, 1]


@pytest.mark.parametrize("killed", [0, 1])
def test_with_one_server_killed_puts_go_on_with_the_other(
    make_place: MakePlace, servers: list[Beanstalkd], killed: int
) -> None:
    spool = open_pair(make_place, servers)
    spool.put(b"before", LONG_S)
    servers[killed].kill()
    for _ in range(10):
        spool.put(b"after", LONG_S)
    spool.check()
    assert [copy.usable for copy in spool.stats()] == [killed != 0, killed != 1]
    assert waiting(spool)[1 - killed] == 11


def test_the_old_copy_on_a_server_that_comes_back_is_claimable_and_done(
    make_place: MakePlace, servers: list[Beanstalkd]
) -> None:
    spool = open_pair(make_place, servers)
    job = spool.put(b"old", 1)
    servers[0].kill()
    assert spool.done([job]) == [False], "a copy that can't be asked may come back"
    servers[0].start()
    [claimed] = claim_all(spool, 1)
    assert claimed.body == b"old"
    spool.done([claimed.id])
    assert [(copy.ready, copy.claimed) for copy in spool.stats()] == [(0, 0), (0, 0)]


def test_a_server_that_comes_back_is_put_on_again(make_place: MakePlace, servers: list[Beanstalkd]) -> None:
    spool = open_pair(make_place, servers)
    servers[0].kill()
    spool.put(b"alone", LONG_S)
    servers[0].start()

    def both() -> bool:
        spool.put(b"x", LONG_S)
        return waiting(spool)[0] > 0

    wait_for(both, what="a put on both")


def test_two_required_copies_refuse_when_one_server_is_down_and_leave_no_job(
    make_place: MakePlace, servers: list[Beanstalkd]
) -> None:
    spool = open_pair(make_place, servers, required=2)
    servers[0].kill()
    for _ in range(3):
        with pytest.raises(SpoolRefused, match="of the required 2 copies") as raised:
            spool.put(b"x", LONG_S)
        assert (str(servers[0].port) in str(raised.value), str(servers[0].port) in raised.value.reason) == (True, False)
    with pytest.raises(SpoolRefused, match="of the required 2 copies"):
        spool.check()
    assert waiting(spool) == [0, 0]


def test_two_required_copies_of_which_one_is_unknown_are_unknown_and_the_known_one_is_deleted(
    make_place: MakePlace, servers: list[Beanstalkd]
) -> None:
    spool = open_pair(make_place, servers, required=2)
    spool.put(b"both", LONG_S)
    with servers[0].failing_write(), pytest.raises(SpoolUnknown):
        spool.put(b"x", LONG_S)
    assert waiting(spool)[1] == 1


def test_a_job_that_one_server_may_have_is_never_certainly_unclaimed(
    make_place: MakePlace, servers: list[Beanstalkd]
) -> None:
    spool = open_pair(make_place, servers)
    spool.put(b"connected", LONG_S)
    with servers[0].failing_write():
        job = spool.put(b"x", LONG_S)
    assert spool.done([job]) == [False]


def test_a_job_that_one_server_refused_is_certainly_unclaimed_on_the_other(
    make_place: MakePlace, servers: list[Beanstalkd]
) -> None:
    spool = open_pair(make_place, servers)
    servers[0].kill()
    job = spool.put(b"x", LONG_S)
    assert spool.done([job]) == [True]


def test_with_both_servers_down_a_put_is_refused_and_heals(make_place: MakePlace, servers: list[Beanstalkd]) -> None:
    spool = open_pair(make_place, servers)
    for server in servers:
        server.kill()
    with pytest.raises(SpoolRefused):
        spool.put(b"x", LONG_S)
    for server in servers:
        server.start()

    def put() -> object:
        try:
            return spool.put(b"x", LONG_S)
        except SpoolRefused:
            return None

    wait_for(put, what="a put")


def test_a_hung_server_slows_one_put_and_no_more(
    make_place: MakePlace, servers: list[Beanstalkd], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_pair(make_place, servers)
    assert isinstance(spool, PairSpool)
    spool.put(b"x", LONG_S)
    hasten(spool._copies[0].spool)
    servers[0].signal(signal.SIGSTOP)
    spool.put(b"slow", LONG_S)
    monkeypatch.setattr(beanstalk, "REPLY_TIMEOUT_S", START_S)  # of the probes

    def is_probed() -> bool:
        spool.put(b"x", LONG_S)
        return has_unread(servers[0].port)

    wait_for(is_probed, what="a probe that hangs as well")
    for _ in range(10):
        spool.put(b"x", LONG_S)
    assert has_unread(servers[0].port), "somebody waited until the probe had ended"


def test_under_gevent_both_copies_are_waited_for_side_by_side(servers: list[Beanstalkd]) -> None:
    for server in servers:
        server.signal(signal.SIGSTOP)
    pids = [server.process.pid for server in servers if server.process is not None]
    code = f"""
from gevent import monkey; monkey.patch_all()
import gevent, os, signal
from hitmesh.spool import beanstalk
from hitmesh.spool.pair import PairSpool
beanstalk.REPLY_TIMEOUT_S = 20
asked = []
class Spool(beanstalk.BeanstalkSpool):
    def put(self, body, delay_s):
        asked.append(self.url)
        return super().put(body, delay_s)
pair = PairSpool([Spool({HOST!r}, port, "jobs", claim_s=2) for port in {[s.port for s in servers]!r}], required=2)
def wake():
    while len(asked) < 2:
        gevent.sleep(0.005)
    for pid in {pids!r}:
        os.kill(pid, signal.SIGCONT)
gevent.spawn(wake)
pair.put(b"x", 5)
print(len(asked))
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=2 * START_S, check=True
    )
    assert finished.stdout == "2\n"
