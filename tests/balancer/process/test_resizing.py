"""As many workers as are wanted, while clients connect all the time: with real processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.process import handover
from balancer.vip import word
from tests.balancer.process.stubs import Stubs, running
from tests.services import free_port, wait_for

OFTEN = {"look_s": 0.2}


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[Stubs]:
    with running(tmp_path / "master") as stubs:
        yield stubs


def start(stubs: Stubs, workers: int, **config: object) -> None:
    """Begin with so many that the configuration says, of whom the first one wants no others."""
    stubs.write(workers=workers, **config)
    stubs.wants(0)
    stubs.start()


def comes_to(stubs: Stubs, workers: int) -> None:
    """So many serve, and nobody else runs."""
    wait_for(
        lambda: re.findall(r"workers: (\d+)", stubs.log())[-1] == str(workers) and len(stubs.children()) == workers,
        what=f"{workers} workers",
    )


def test_it_grows_and_shrinks_again_and_again_under_load_on_every_socket_and_fails_nobody(stubs: Stubs) -> None:
    ports = {kind: free_port() for kind in ("tls", "vip", "vip_tls")}
    listen = {"http": f"127.0.0.1:{stubs.port}", **{kind: f"127.0.0.1:{port}" for kind, port in ports.items()}}
    start(stubs, 1, listen=listen)
    with stubs.under_load(ports=[stubs.port, *ports.values()]) as answers:
        for workers in (4, 2, 5, 1, 3):
            stubs.wants(workers)
            comes_to(stubs, workers)
            answered = len(answers)
            wait_for(
                lambda workers=workers, answered=answered: (  # type: ignore[misc]
                    {(each.slot, each.kind) for each in answers[answered:]}
                    >= {(slot, kind) for slot in range(workers) for kind in listen}
                ),
                what=f"an answer of each of {workers} workers on each kind of socket",
            )  # fmt: skip
    assert "nothing is changed" not in stubs.log()


def test_there_are_never_fewer_than_the_configuration_says(stubs: Stubs) -> None:
    start(stubs, 2)
    stubs.wants(4)
    comes_to(stubs, 4)
    stubs.wants(1)
    comes_to(stubs, 2)
    before = set(stubs.children())
    stubs.wants(0)
    stubs.signal(signal.SIGHUP)  # and then all are others
    stubs.says("read again")
    wait_for(lambda: len(stubs.children()) == 2 and not before & set(stubs.children()), what="two others")
    assert stubs.log().count("are wanted") == 2


@pytest.mark.parametrize(
    ("change", "words"), [(signal.SIGHUP, "read again"), (signal.SIGUSR2, "the new version serves")]
)
def test_a_change_keeps_the_number_at_once(stubs: Stubs, change: signal.Signals, words: str) -> None:
    start(stubs, 1)
    stubs.wants(3)
    comes_to(stubs, 3)
    stubs.write(label="b", wants=None)  # the new workers know nothing yet
    stubs.signal(change)
    stubs.says(words)
    stubs.comes_to("b")
    comes_to(stubs, 3)
    stubs.write(label="c", wants=str(stubs.folder / "wanted"))
    stubs.signal(signal.SIGHUP)
    stubs.comes_to("c")
    comes_to(stubs, 3)
    assert stubs.log().count("are wanted") == 1


def test_a_killed_worker_comes_again_among_as_many(stubs: Stubs) -> None:
    start(stubs, 1)
    stubs.wants(3)
    comes_to(stubs, 3)
    before = set(stubs.children())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(stubs.children()) == 3 and not before & set(stubs.children()), what="three others")
    assert {each.slot for each in stubs.served_by()} == {0, 1, 2}
    assert stubs.log().count("are wanted") == 1


def test_workers_that_cant_be_started_change_nothing_and_are_tried_again_after_a_while_only(stubs: Stubs) -> None:
    start(stubs, 1, mode="ends before it is ready", bad=[2])
    old = set(stubs.children())
    with stubs.under_load():
        stubs.wants(3)
        stubs.says("nothing is changed: worker 2")
        stubs.wants(2)
        comes_to(stubs, 2)
        assert stubs.log().count("nothing is changed") == 1, "at each look once more"
        assert not old & set(stubs.children())
    stubs.write(patience={**OFTEN, "again_s": 0.5})
    stubs.signal(signal.SIGHUP)
    stubs.says("read again")
    stubs.wants(3)
    stubs.says("nothing is changed: worker 2", times=3)
    comes_to(stubs, 2)


def test_a_handover_of_an_earlier_version_says_nothing_of_it() -> None:
    left = (
        b'{"master":1,"sockets":[],"alive_fds":[3,4],"text_fd":null,"slots":2,"workers":[],"leaving":[],"drain_s":8.0}'
    )
    assert handover.decode(left.decode()).told == 0


def test_the_virtual_ip_is_not_given_up_for_workers_that_have_just_begun(stubs: Stubs) -> None:
    start(stubs, 1, vip="127.0.0.7")
    said = stubs.folder / "said"  # of what stubs, who write nothing there, are silent
    stubs.wants(3)
    wait_for(lambda: (seen := word.read(said)) is not None and len(seen.beats) == 3, what="three to be told of")
    seen = word.read(said)
    assert seen is not None
    assert [beat.at > 0 for beat in seen.beats] == [False, True, True]
