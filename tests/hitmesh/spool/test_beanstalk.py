"""One beanstalkd server, and each way in which it can fail."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import greenstalk
import pytest

from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.spool import Spool, beanstalk, beanstalk_client
from hitmesh.spool.beanstalk import RETRY_PAUSE_S
from tests.hitmesh.spool.conftest import HASTY_S, Clock, MakeServer, Place, has_unread, hasten
from tests.hitmesh.spool.test_spool import claim_all, fill
from tests.services import START_S, free_port, wait_for
from tests.services.beanstalkd import HOST, Beanstalkd

pytestmark = pytest.mark.usefixtures("ways_of_putting")

LONG_S = 60.0
MakePlace = Callable[..., Place]


@pytest.fixture
def spool(server: Beanstalkd, make_place: MakePlace) -> Spool:
    return make_place(server.url("jobs")).open()


def stranger(server: Beanstalkd) -> greenstalk.Client[bytes]:
    """Another client of the server, with a tube of its own."""
    return greenstalk.Client((HOST, server.port), encoding=None, use="strange", watch="strange")


def put_again(spool: Spool, body: bytes, delay_s: float = 0) -> object:
    """Put as soon as the spool takes it again."""

    def try_it() -> object:
        try:
            return spool.put(body, delay_s)
        except SpoolRefused:
            return None

    return wait_for(try_it, what="a put")


def test_a_put_job_survives_the_servers_sudden_death(server: Beanstalkd, spool: Spool) -> None:
    spool.put(b"kept", 0)
    server.kill()
    server.start()
    assert [job.body for job in claim_all(spool, 1)] == [b"kept"]


def test_a_restart_between_two_puts_is_not_noticed(server: Beanstalkd, spool: Spool) -> None:
    spool.put(b"before", LONG_S)
    server.kill()
    server.start()
    spool.put(b"after", LONG_S)
    assert spool.stats()[0].waiting == 2


def test_a_job_put_before_a_restart_is_still_deleted_by_its_id(server: Beanstalkd, spool: Spool) -> None:
    job = spool.put(b"kept", LONG_S)
    server.kill()
    server.start()
    assert spool.done([job]) == [True]
    assert spool.stats()[0].waiting == 0


def test_a_strangers_job_that_got_the_same_number_is_not_deleted(server: Beanstalkd, spool: Spool) -> None:
    job = spool.put(b"ours", LONG_S)
    server.kill()
    server.forget()
    server.start()
    with stranger(server) as client:
        number = client.put(b"a stranger's", delay=60)
        assert spool.done([job]) == [False]
        assert client.peek(number).body == b"a stranger's"


def test_a_server_that_is_not_there_refuses(make_place: MakePlace) -> None:
    spool = make_place(f"beanstalk://{HOST}:{free_port()}/jobs").open()
    with pytest.raises(SpoolRefused, match="refused"):
        spool.put(b"x", 0)
    with pytest.raises(SpoolRefused, match="refused"):
        spool.check()
    assert spool.claim(10) == []
    assert not spool.stats()[0].usable


def test_a_server_without_a_log_is_refused_with_a_hint(make_server: MakeServer, make_place: MakePlace) -> None:
    spool = make_place(make_server(binlog=None).url("jobs")).open()
    with pytest.raises(SpoolRefused, match="start it with -b FOLDER -f 0"):
        spool.put(b"x", 0)
    with pytest.raises(SpoolRefused, match="-b FOLDER"):
        spool.check()
    assert spool.claim(10) == []


def test_a_server_that_takes_small_jobs_only_is_refused_with_a_hint(
    make_server: MakeServer, make_place: MakePlace
) -> None:
    spool = make_place(make_server(extra=["-z", "65535"]).url("jobs")).open()
    with pytest.raises(SpoolRefused, match="start it with -z 4194304"):
        spool.put(b"x", 0)


def test_a_job_beyond_the_servers_limit_is_refused_and_the_next_is_taken(spool: Spool) -> None:
    with pytest.raises(SpoolRefused, match="too big"):
        spool.put(bytes(9 * 1024 * 1024), 0)
    spool.put(b"small", 0)
    assert [job.body for job in claim_all(spool, 1)] == [b"small"]


def test_a_draining_server_refuses_puts_and_still_gives_out_jobs(server: Beanstalkd, spool: Spool) -> None:
    spool.put(b"before", 0)
    server.signal(signal.SIGUSR1)
    with pytest.raises(SpoolRefused, match="drains"):
        wait_for(lambda: spool.put(b"x", LONG_S) is None, what="the drain mode")
    with pytest.raises(SpoolRefused, match="drains"):
        spool.check()
    time.sleep(RETRY_PAUSE_S)  # from here the check has to ask the server
    with pytest.raises(SpoolRefused, match="drains"):
        spool.check()
    assert [job.body for job in claim_all(spool, 1)] == [b"before"]


def test_a_full_disk_refuses_loses_nothing_and_heals(
    make_server: MakeServer, make_place: MakePlace, small_disk: Path, clock: Clock
) -> None:
    server = make_server(binlog=small_disk / "binlog", extra=["-s", str(512 * 1024)])
    spool = make_place(server.url("jobs")).open()
    clock.stop()
    stored = fill(spool, match="no room")
    assert len(stored) > 200
    with pytest.raises(SpoolRefused, match="no room"):
        spool.check()
    clock.go_on()
    assert spool.done(stored[:200]) == [True] * 200
    put_again(spool, b"after", LONG_S)
    server.kill()
    server.start()
    assert spool.stats()[0].waiting == len(stored) - 200 + 1


def test_a_failed_write_of_the_log_leaves_a_put_unknown_and_the_server_unusable_until_restarted(
    server: Beanstalkd, spool: Spool
) -> None:
    spool.put(b"before", 0)
    with server.failing_write(), pytest.raises(SpoolUnknown, match="couldn't write its log"):
        spool.put(b"lost", LONG_S)
    with pytest.raises(SpoolRefused, match="restart it"):
        spool.check()
    with pytest.raises(SpoolRefused, match="restart it"):
        spool.put(b"x", LONG_S)
    assert not spool.stats()[0].usable
    server.kill()
    server.start()
    wait_for(lambda: spool.stats()[0].usable, what="the spool to be usable")
    spool.put(b"after", 0)
    assert sorted(job.body for job in claim_all(spool, 2)) == [b"after", b"before"]


def test_a_log_lost_by_another_clients_command_is_noticed_by_the_very_next_put(
    server: Beanstalkd, spool: Spool
) -> None:
    spool.put(b"before", LONG_S)
    with stranger(server) as client:
        number = client.put(b"x", delay=60)
        with server.failing_write(), pytest.raises(greenstalk.InternalError):
            client.delete(number)
        assert client.put(b"x", delay=60) > number  # INSERTED, it says
        with pytest.raises(SpoolRefused, match="without its log"):
            spool.put(b"not on disk", LONG_S)
        assert spool.stats()[0].waiting == 1, "the job that isn't on disk is still there"
    with pytest.raises(SpoolRefused, match="without its log"):
        spool.check()
    server.kill()
    server.start()
    put_again(spool, b"after", LONG_S)


def test_a_deletion_that_is_not_in_the_log_is_not_certain(server: Beanstalkd, spool: Spool) -> None:
    job = spool.put(b"before", LONG_S)
    with stranger(server) as client:
        number = client.put(b"x", delay=60)
        with server.failing_write(), pytest.raises(greenstalk.InternalError):
            client.delete(number)
    assert spool.done([job]) == [False]
    server.kill()
    server.start()
    assert spool.stats()[0].waiting == 1, "it is back: nobody may close a lane on it"


def test_jobs_are_deleted_together_and_each_is_told_by_itself(
    server: Beanstalkd, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beanstalk_client, "PIPELINED", 3)
    jobs = [spool.put(b"%d" % number, LONG_S) for number in range(10)]
    with stranger(server) as client:
        for gone in (2, 3, 9):
            client.delete(gone + 1)
    assert spool.done(jobs) == [number not in (2, 3, 9) for number in range(10)]
    assert spool.stats()[0].waiting == 0
    assert spool.done(jobs) == [False] * 10


def test_whoever_waits_for_many_deletions_is_woken_for_some_together(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beanstalk_client, "TOGETHER", 4)
    jobs = [spool.put(b"x", LONG_S) for _ in range(23)]
    assert spool.done(jobs[5:6] + jobs[9:12]) == [True] * 4
    assert spool.done(jobs) == [at not in (5, 9, 10, 11) for at in range(23)]
    spool.put(b"after", LONG_S)
    assert spool.stats()[0].waiting == 1


def questions(server: Beanstalkd) -> int:
    """How often the server was asked about a job."""
    with stranger(server) as client:
        return int(client.stats()["cmd-stats-job"])


def test_a_put_s_proof_is_asked_for_together_with_it_while_its_number_is_foreseen(
    server: Beanstalkd, spool: Spool, request: pytest.FixtureRequest
) -> None:
    sent: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        send = beanstalk_client.PutLink.send

        def note(link: beanstalk_client.PutLink, data: bytes) -> bool:
            sent.append(data)
            return send(link, data)

        patch.setattr(beanstalk_client.PutLink, "send", note)
        jobs = [spool.put(body, LONG_S) for body in (b"1", b"2", b"3", b"4" * 100_000, b"")]
        with stranger(server) as client:
            for _ in range(3):
                client.put(b"in between", delay=60)
        jobs.append(spool.put(b"6", LONG_S))
        jobs.append(spool.put(b"7", LONG_S))
    assert spool.stats()[0].waiting == 7
    way = request.node.callspec.params["ways_of_putting"]
    if way == "on the hub":
        commands = [data.count(b"\r\nstats-job ") + data.startswith(b"put ") for data in sent]
        # The first went by greenstalk; two ask afterwards, three together, the last of these in vain; and one afterwards.
        assert commands == [1, 0, 1, 0, 2, 2, 2, 0, 1, 0]
    assert questions(server) == (7 if way == "by greenstalk" else 8 + (way == "on the hub, foreseen"))
    assert spool.done(jobs) == [True] * 7


def test_a_refused_put_leaves_nothing_behind_for_the_next(server: Beanstalkd, spool: Spool) -> None:
    for body in (b"1", b"2", b"3"):
        spool.put(body, LONG_S)
    for _ in range(2):
        with pytest.raises(SpoolRefused, match="too big"):
            spool.put(b"x" * 9_000_000, LONG_S)
        spool.put(b"y", LONG_S)
    assert spool.stats()[0].waiting == 5


def test_an_operators_deletion_is_only_said_where_it_is_in_the_log(server: Beanstalkd, spool: Spool) -> None:
    """Deleting a job that a failed write has left in memory, the server would never answer again."""
    assert isinstance(spool, beanstalk.BeanstalkSpool)
    spool.put(b"before", 0)
    spool.bury(claim_all(spool, 1)[0].id)
    [before] = spool.held(9)
    with server.failing_write(), pytest.raises(SpoolUnknown, match="couldn't write its log"):
        spool.put(b"lost", LONG_S)
    [lost] = [each for each in spool.held(9) if each.body == b"lost"]
    with pytest.raises(SpoolRefused, match="never given out"):
        spool.delete(lost)
    with pytest.raises(SpoolUnknown, match="is back after a restart"):
        spool.delete(before)
    server.kill()
    server.start()
    wait_for(lambda: spool.stats()[0].usable, what="the spool to be usable")
    assert [each.body for each in spool.held(9)] == [b"before"]


def test_a_hung_server_leaves_a_put_unknown_and_refuses_at_once_after_that(
    server: Beanstalkd, spool: Spool, clock: Clock
) -> None:
    job = spool.put(b"before", LONG_S)
    hasten(spool)
    server.signal(signal.SIGSTOP)
    clock.stop()  # within the pause, whatever the machine does meanwhile
    started = time.monotonic()
    with pytest.raises(SpoolUnknown, match="no clear answer"):
        spool.put(b"hung", LONG_S)
    assert time.monotonic() - started >= HASTY_S
    for _ in range(10):
        with pytest.raises(SpoolRefused, match="no answer in time"):
            spool.put(b"x", LONG_S)
    with pytest.raises(SpoolRefused, match="no answer in time"):
        spool.check()
    assert spool.done([job]) == [False]
    assert not has_unread(server.port), "it was asked once more"
    clock.go_on()
    server.signal(signal.SIGCONT)
    put_again(spool, b"after", LONG_S)


def test_a_hung_server_does_not_stop_the_hub(server: Beanstalkd) -> None:
    server.signal(signal.SIGSTOP)
    assert server.process is not None
    code = f"""
from gevent import monkey; monkey.patch_all()
import gevent, os, signal
from hitmesh.spool import beanstalk
beanstalk.REPLY_TIMEOUT_S = 20
spool = beanstalk.BeanstalkSpool({HOST!r}, {server.port}, "jobs", claim_s=2)
def turn():
    for _ in range(20):
        gevent.sleep(0.01)
    os.kill({server.process.pid}, signal.SIGCONT)
gevent.spawn(turn)
spool.put(b"x", 5)
"""
    subprocess.run([sys.executable, "-c", code], timeout=2 * START_S, check=True)


def test_a_connection_that_ends_during_a_put_leaves_it_unknown(make_place: MakePlace, server: Beanstalkd) -> None:
    """A server that dies after the command and before its answer may have written the job."""
    spool = make_place(server.url("jobs")).open()
    spool.check()
    spool.put(b"x", LONG_S)
    server.signal(signal.SIGSTOP)

    def kill() -> None:
        wait_for(lambda: has_unread(server.port), what="the put")
        server.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SpoolUnknown, match="no clear answer"):
        spool.put(b"cut off", LONG_S)
    killer.join()


def test_a_dead_claimers_job_comes_back_at_once(make_place: MakePlace, server: Beanstalkd) -> None:
    place = make_place(server.url("jobs"))
    dead, alive = place.open(), place.open()
    dead.put(b"claimed", 0)
    claim_all(dead, 1)
    dead.close()
    assert [job.body for job in claim_all(alive, 1)] == [b"claimed"]


def test_done_of_a_claim_whose_connection_is_gone_leaves_the_next_claimers_job(
    make_place: MakePlace, server: Beanstalkd
) -> None:
    place = make_place(server.url("jobs"))
    first, second = place.open(), place.open()
    first.put(b"claimed", 0)
    [job] = claim_all(first, 1)
    first.close()
    claim_all(second, 1)
    assert first.done([job.id]) == [False]
    assert second.stats()[0].claimed == 1


def test_a_delay_is_rounded_up_to_whole_seconds(spool: Spool) -> None:
    put_at = time.monotonic()
    spool.put(b"x", 0.2)
    claim_all(spool, 1)
    assert time.monotonic() - put_at >= 0.9


def test_a_port_that_accepts_and_never_answers_is_refused(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beanstalk, "REPLY_TIMEOUT_S", HASTY_S)
    with socket.create_server((HOST, 0)) as listener:
        spool = make_place(f"beanstalk://{HOST}:{listener.getsockname()[1]}/jobs").open()
        with pytest.raises(SpoolRefused, match="timed out"):
            spool.put(b"x", 0)
