"""Reloads (SIGHUP) and new versions (SIGUSR2), with real processes."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.balancer.process.stubs import Stubs, answer_to, asking, is_alive, is_refused, running
from tests.services import free_port, wait_for


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[Stubs]:
    with running(tmp_path / "master") as stubs:
        yield stubs


# SIGHUP


def test_a_reload_under_load_replaces_all_workers_and_fails_nobody(stubs: Stubs) -> None:
    stubs.start()
    old = set(stubs.children())
    with stubs.under_load() as answers:
        stubs.write(label="b")
        stubs.signal(signal.SIGHUP)
        wait_for(lambda: answers[-1].label == "b" and not old & set(stubs.children()), what="new workers")
    assert len(stubs.children()) == 2
    assert {answer.label for answer in answers} == {"a", "b"}


def test_a_mistake_in_the_configuration_changes_nothing(stubs: Stubs) -> None:
    stubs.start()
    old = set(stubs.children())
    stubs.file.write_text("{ broken")
    stubs.signal(signal.SIGHUP)
    stubs.says("nothing is changed: not JSON")
    assert set(stubs.children()) == old
    assert stubs.labels() == {"a"}


@pytest.mark.parametrize("mode", ["ends before it is ready", "is never ready"])
def test_a_generation_that_does_not_start_changes_nothing(stubs: Stubs, mode: str) -> None:
    stubs.start()
    old = set(stubs.children())
    late = mode == "is never ready"
    with stubs.under_load() as answers:
        # the one that is more than before would have a socket of its own
        stubs.write(label="b", mode=mode, bad=[2], workers=3, patience={"start_s": 1.0 if late else 60.0})
        stubs.signal(signal.SIGHUP)
        stubs.says("nothing is changed: worker 2 (pid" if not late else "is not ready after 1 s")  # whoever is named
        wait_for(lambda: set(stubs.children()) == old, what="the new workers to go")
    assert {answer.label for answer in answers} == {"a"}


def test_a_reload_may_add_workers(stubs: Stubs) -> None:
    stubs.write(workers=1)
    stubs.start()
    with stubs.under_load():
        stubs.write(workers=3)
        stubs.signal(signal.SIGHUP)
        stubs.says("workers: 3")
    assert {answer.slot for answer in stubs.served_by(times=100)} == {0, 1, 2}


def test_with_fewer_workers_the_clients_on_all_sockets_are_served(stubs: Stubs) -> None:
    stubs.write(workers=3, drain_s=0.0, patience={"grace_s": 0.5})
    stubs.start()
    old = set(stubs.children())
    for pid in old:
        os.kill(pid, signal.SIGSTOP)
    clients = [asking(stubs.port) for _ in range(60)]
    stubs.write(workers=1, label="b")
    stubs.signal(signal.SIGHUP)
    answers = []
    for client in clients:
        with client:
            answers.append(answer_to(client))
    assert {(answer.label, answer.slot) for answer in answers} == {("b", 0)}
    wait_for(lambda: not old & set(stubs.children()), what="the stopped workers to be killed")
    stubs.write(workers=2, label="c")  # and the sockets are given out again
    stubs.signal(signal.SIGHUP)
    stubs.says("workers: 2")
    assert {answer.slot for answer in stubs.served_by()} == {0, 1}


def test_a_reload_may_move_to_another_port(stubs: Stubs) -> None:
    stubs.start()
    old_port, stubs.port = stubs.port, free_port()
    stubs.write(listen={"http": f"127.0.0.1:{stubs.port}"}, label="b")
    stubs.signal(signal.SIGHUP)
    stubs.says("read again")
    stubs.comes_to("b")
    wait_for(lambda: is_refused(old_port), what="the old port to be closed")


def test_a_port_that_is_taken_changes_nothing(stubs: Stubs) -> None:
    stubs.start()
    old = set(stubs.children())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stubs.write(listen={"http": f"127.0.0.1:{port}"})
        stubs.signal(signal.SIGHUP)
        stubs.says(f"nothing is changed: port {port} of 127.0.0.1 is in use")
    assert set(stubs.children()) == old
    assert stubs.labels() == {"a"}


def test_a_reload_asked_for_during_a_reload_is_done_afterwards(stubs: Stubs) -> None:
    go_on = stubs.folder / "go-on"
    stubs.start()
    stubs.write(label="b", mode="takes its time", until=str(go_on))
    stubs.signal(signal.SIGHUP)
    wait_for(lambda: len(stubs.children()) == 4, what="the next generation to be under way")
    stubs.write(label="c")
    stubs.signal(signal.SIGHUP)
    go_on.touch()
    stubs.says("read again", times=2)
    stubs.comes_to("c")


# SIGUSR2


def test_a_new_version_takes_over_under_load_and_fails_nobody(stubs: Stubs) -> None:
    stubs.start()
    old = set(stubs.children())
    with stubs.under_load() as answers:
        stubs.write(label="b")
        stubs.signal(signal.SIGUSR2)
        stubs.says("the new version serves")
        wait_for(lambda: answers[-1].label == "b" and not old & set(stubs.children()), what="new workers")
    assert stubs.process is not None and stubs.process.poll() is None  # the same pid
    assert {answer.pid for answer in stubs.served_by()} == set(stubs.children())
    assert "master is gone" not in stubs.log()


def test_a_new_version_that_fails_its_check_changes_nothing(stubs: Stubs) -> None:
    stubs.start()
    old = set(stubs.children())
    stubs.write(check=2)
    stubs.signal(signal.SIGUSR2)
    stubs.says("nothing is changed: the new version's check ended with status 2")
    assert set(stubs.children()) == old
    assert stubs.labels() == {"a"}


def test_a_new_version_whose_check_does_not_end_changes_nothing(stubs: Stubs) -> None:
    stubs.write(patience={"check_s": 0.5})
    stubs.start()
    old = set(stubs.children())
    stubs.write(check=-1)
    stubs.signal(signal.SIGUSR2)
    stubs.says("nothing is changed: the new version's check was killed by SIGKILL")
    assert set(stubs.children()) == old
    stubs.write(label="b")
    stubs.signal(signal.SIGHUP)
    stubs.says("read again")


def test_a_new_version_whose_workers_do_not_start_leaves_the_old_ones(stubs: Stubs) -> None:
    stubs.start()
    old = set(stubs.children())
    with stubs.under_load():
        stubs.write(mode="ends before it is ready", workers=3)
        stubs.signal(signal.SIGUSR2)
        stubs.says("nothing is changed: worker")
        wait_for(lambda: set(stubs.children()) == old, what="the new workers to go")
    old_pid = stubs.ask().pid  # the new master looks after them
    stubs.write(mode=None, workers=2, label="b")
    stubs.signal(signal.SIGHUP)
    stubs.says("read again")
    stubs.comes_to("b")
    wait_for(lambda: not is_alive(old_pid), what="the old workers to end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_during_the_switch_to_a_new_version_is_not_lost(stubs: Stubs, number: signal.Signals) -> None:
    go_on = stubs.folder / "go-on"
    stubs.start()
    stubs.write(waits_for=str(go_on))
    stubs.signal(signal.SIGUSR2)
    stubs.says("the new version waits")
    stubs.write(label="b")
    stubs.signal(number)
    go_on.touch()
    if number == signal.SIGHUP:
        stubs.says("read again")
        stubs.comes_to("b")
    else:
        workers = set(stubs.children())
        assert stubs.ended() == 0
        assert not any(map(is_alive, workers))


def test_a_worker_that_died_during_the_switch_is_replaced(stubs: Stubs) -> None:
    go_on = stubs.folder / "go-on"
    stubs.start()
    stubs.write(waits_for=str(go_on))
    stubs.signal(signal.SIGUSR2)
    stubs.says("the new version waits")
    for pid in stubs.children():
        os.kill(pid, signal.SIGKILL)
    client = asking(stubs.port)
    go_on.touch()
    with client:
        assert answer_to(client).label == "a"
    wait_for(lambda: list(stubs.children().values()) in (["S", "S"], ["R", "S"], ["S", "R"]), what="two workers")
