"""The workers of one balancer tell one picture, whoever else is on the machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from balancer.admin.siblings import Siblings
from tests.balancer.stage import Instance, ask, backends, proxy, staged
from tests.balancer.wire.scripted import ScriptedBackend
from tests.services import PATIENCE_S, wait_for

WORKERS = 2
REQUESTS = 30
NOBODY = 65_534


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    with backends(1) as [one]:
        yield one


@pytest.fixture(scope="module")
def balancer(backend: ScriptedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    routes = {"default": proxy(backend.port)}
    with staged(tmp_path_factory.mktemp("siblings"), routes, balancer={"workers": WORKERS}) as instance:
        yield instance


def stats(balancer: Instance) -> Any:
    return balancer.admin("GET", "/stats.json")


def whole(balancer: Instance) -> Any:
    """A picture in which each worker is heard once: on a busy machine one may not answer in time."""

    def picture() -> Any:
        found = stats(balancer)
        return found if found["workers"] == WORKERS else None

    return wait_for(picture, what="all workers to be heard")


def test_the_picture_is_that_of_all_workers(balancer: Instance) -> None:
    before = whole(balancer)["fronts"]["http"]["requests"]
    for _ in range(REQUESTS):
        assert ask(balancer.port, "a").status == 200
    picture = whole(balancer)
    assert picture["fronts"]["http"]["requests"] == before + REQUESTS
    assert picture["services"]["default"]["classes"]["2xx"] >= REQUESTS


def test_a_worker_that_does_not_answer_is_left_out(balancer: Instance) -> None:
    first = whole(balancer)["pid"]
    frozen = next(pid for pid in balancer.workers() if pid != first)
    os.kill(frozen, signal.SIGSTOP)
    try:
        assert stats(balancer)["workers"] == WORKERS - 1
    finally:
        os.kill(frozen, signal.SIGCONT)
    whole(balancer)


def test_a_worker_that_hangs_is_replaced_and_counted(balancer: Instance) -> None:
    assert whole(balancer)["workers_hung"] == 0
    first = stats(balancer)["pid"]
    hanging = next(pid for pid in balancer.workers() if pid != first)
    os.kill(hanging, signal.SIGSTOP)
    wait_for(lambda: hanging not in balancer.workers(), within_s=2 * PATIENCE_S, what="it to be killed")
    picture = whole(balancer)
    assert (picture["pid"], picture["workers_hung"]) == (first, 1)
    assert ask(balancer.port, "a").status == 200


def test_sockets_of_others_with_whatever_names_are_no_trouble(balancer: Instance) -> None:
    assert balancer.process is not None
    names = [b"\0\xff\xfe not UTF-8", f"\0hitmesh-balancer-{balancer.process.pid}0-1".encode()]
    listeners = []
    for name in names:
        listeners.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listeners[-1].bind(name)
        listeners[-1].listen()
    try:
        assert whole(balancer)["workers"] == WORKERS
    finally:
        for listener in listeners:
            listener.close()


STRANGER = """
import os, socket, sys
os.setgid({nobody}); os.setuid({nobody})
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0hitmesh-balancer-{master}-1")
listener.listen()
print("there", flush=True)
while True:
    asking, _ = listener.accept()
    asking.sendall(b'{{"workers": 7, "fronts": {{}}, "services": {{}}}}')
    asking.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_what_another_user_says_is_not_believed(balancer: Instance) -> None:
    assert balancer.process is not None
    code = STRANGER.format(nobody=NOBODY, master=balancer.process.pid)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as stranger:
        try:
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == "there\n"
            assert whole(balancer)["workers"] == WORKERS
        finally:
            stranger.kill()


def test_who_gives_up_asking_is_no_fault_of_the_asked() -> None:
    siblings = Siblings(lambda: {"name": "x" * 1_000_000})
    asking, asked = socket.socketpair(socket.AF_UNIX)
    asking.close()
    with asked:
        siblings._tell(asked, None)
    siblings.stop()
