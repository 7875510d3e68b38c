"""A master's workers, its beginning and its end, with real processes."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.balancer.process.stubs import Stubs, answer_to, asking, is_alive, is_refused, running
from tests.services import free_port, wait_for


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[Stubs]:
    with running(tmp_path / "master") as stubs:
        yield stubs


# Workers


def test_workers_share_the_port(stubs: Stubs) -> None:
    stubs.start()
    answers = stubs.served_by()
    assert {answer.slot for answer in answers} == {0, 1}
    assert {answer.pid for answer in answers} == set(stubs.children())


def test_only_the_first_worker_has_the_admin_socket(stubs: Stubs) -> None:
    admin = free_port()
    stubs.write(listen={**stubs.config["listen"], "admin": f"127.0.0.1:{admin}"})
    stubs.start()
    assert {(answer.slot, answer.kind) for answer in stubs.served_by(admin, times=20)} == {(0, "admin")}


def test_connections_queued_on_a_killed_worker_are_served_by_the_next_one(stubs: Stubs) -> None:
    stubs.write(workers=1)
    stubs.start()
    killed = stubs.ask().pid
    os.kill(killed, signal.SIGSTOP)  # takes nothing more
    clients = [asking(stubs.port) for _ in range(20)]
    os.kill(killed, signal.SIGKILL)
    answers = []
    for client in clients:
        with client:
            answers.append(answer_to(client))
    assert len({answer.pid for answer in answers}) == 1
    assert answers[0].pid != killed
    stubs.says("was killed by SIGKILL; the next one starts at once")


def test_a_worker_that_dies_again_and_again_is_given_time(stubs: Stubs) -> None:
    stubs.write(workers=1)
    stubs.start()
    stubs.write(mode="dies at once")
    stubs.signal(signal.SIGHUP)
    stubs.says("ended with status 4; the next one starts at once")
    stubs.says("ended with status 4; the next one starts in 1 s, after 2 in a row")
    stubs.write(mode=None, label="b")
    stubs.signal(signal.SIGHUP)  # needn't wait for it
    stubs.says("read again", times=2)
    stubs.comes_to("b")


def test_a_worker_is_started_again_with_the_configuration_of_its_generation(stubs: Stubs) -> None:
    stubs.start()
    stubs.file.write_text("{ broken")
    killed = stubs.ask().pid
    os.kill(killed, signal.SIGKILL)
    stubs.says("serves", times=2)
    assert stubs.labels() == {"a"}


def test_dead_workers_are_reaped(stubs: Stubs) -> None:
    stubs.start()
    for pid in stubs.children():
        os.kill(pid, signal.SIGKILL)
    stubs.says("the next one starts", times=2)
    wait_for(lambda: len(stubs.children()) == 2 and "Z" not in stubs.children().values(), what="two live workers")


def test_a_master_with_nothing_to_do_uses_no_cpu(stubs: Stubs) -> None:
    stubs.start()
    os.kill(stubs.ask().pid, signal.SIGKILL)  # what is left behind by its channel mustn't wake anybody
    stubs.says("serves", times=2)

    def activity() -> tuple[int, int]:
        status = Path(f"/proc/{stubs.pid}/status").read_text()
        switches = sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", status))
        fields = Path(f"/proc/{stubs.pid}/stat").read_text().rpartition(")")[2].split()
        return switches, int(fields[11]) + int(fields[12])  # ticks of 10 ms, as a rule

    def rests() -> bool:
        before = activity()
        time.sleep(0.1)
        return activity() == before

    wait_for(rests, what="it to have done all it has to do")
    switches, ticks = activity()
    stubs.served_by(times=500)
    assert activity()[0] - switches <= 3
    assert activity()[1] - ticks <= 1


# The beginning


@pytest.mark.parametrize("mode", ["ends before it is ready", "is never ready"])
def test_a_first_generation_that_does_not_start_ends_the_master(stubs: Stubs, mode: str) -> None:
    stubs.write(mode=mode, bad=[1], patience={"start_s": 0.3})
    with pytest.raises(AssertionError, match="ended with 1"):
        stubs.start()
    assert "can't start: worker" in stubs.log()
    assert is_refused(stubs.port)


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_master_that_is_told_to_ends_with_its_workers(stubs: Stubs, number: signal.Signals) -> None:
    stubs.start()
    workers = set(stubs.children())
    stubs.signal(number)
    assert stubs.ended() == 0
    assert not any(map(is_alive, workers))
    assert is_refused(stubs.port)
    assert "killed" not in stubs.log()


def test_a_worker_that_does_not_drain_is_killed_even_by_the_next_version(stubs: Stubs) -> None:
    stubs.write(mode="is deaf", drain_s=0.0, patience={"grace_s": 1.0})
    stubs.start()
    deaf = set(stubs.children())
    stubs.write(mode=None, label="b")
    stubs.signal(signal.SIGHUP)
    stubs.says("read again")
    stubs.signal(signal.SIGUSR2)
    stubs.says("the new version serves")
    wait_for(lambda: not any(map(is_alive, deaf)), what="the deaf workers to be killed")
    stubs.says("which was to end, was killed by SIGKILL", times=2)


def test_a_stop_has_a_deadline(stubs: Stubs) -> None:
    stubs.write(mode="is deaf", drain_s=0.0, patience={"grace_s": 0.5})
    stubs.start()
    stubs.signal(signal.SIGTERM)
    assert stubs.ended() == 0
    assert stubs.log().count("has not ended in time, and is killed") == 2


def test_a_second_interrupt_ends_at_once(stubs: Stubs) -> None:
    stubs.write(mode="is deaf", drain_s=600.0)
    stubs.start()
    workers = set(stubs.children())
    stubs.signal(signal.SIGINT)
    stubs.says("drains and ends")
    stubs.signal(signal.SIGINT)
    assert stubs.ended() == 130
    wait_for(lambda: not any(map(is_alive, workers)), what="the workers to be killed")


@pytest.mark.parametrize("version", ["first", "next"])
def test_the_workers_of_a_killed_master_end(stubs: Stubs, version: str) -> None:
    stubs.start()
    if version == "next":
        old = set(stubs.children())
        stubs.signal(signal.SIGUSR2)
        stubs.says("the new version serves")
        wait_for(lambda: not old & set(stubs.children()), what="the old workers to end")
    workers = set(stubs.children())
    assert len(workers) == 2
    stubs.kill()
    wait_for(lambda: not any(map(is_alive, workers)), what="the workers to end")
    assert is_refused(stubs.port)
