"""Who is taken for hung: workers that are silent, not a machine that slept."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.process import beats
from balancer.process.beats import LOOKS, Watch
from tests.balancer.process.stubs import Stubs, running
from tests.services import wait_for

LOOK_S = 3.0
OFTEN_S = 0.4  # of a real master's looks


class Machine:
    """Two workers, 1 and 2, that beat every second while they run, and the looks at them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.watch = Watch(LOOK_S)
        self.beats = {1: self.now, 2: self.now}

    def looks(self, count: int, *, well: tuple[int, ...] = (1, 2), late_s: float = 0.0) -> list[int | None]:
        """So many looks, each `late_s` late; those who aren't well don't beat."""
        found = []
        for _ in range(count):
            self.now += LOOK_S + late_s
            self.beats |= dict.fromkeys(well, self.now)
            found.append(self.watch.look(self.beats, self.now))
        return found


def test_a_worker_that_stays_silent_is_found_once_enough_looks_have_said_so() -> None:
    machine = Machine()
    assert machine.looks(1) == [None]
    assert machine.looks(LOOKS, well=(2,)) == [None] * (LOOKS - 1) + [1]


def test_a_worker_that_beats_again_begins_anew() -> None:
    machine = Machine()
    machine.looks(1)
    for _ in range(3):
        assert machine.looks(LOOKS - 1, well=(2,)) == [None] * (LOOKS - 1)
        assert machine.looks(1) == [None]


def test_after_an_hour_of_sleep_nobody_is_taken_for_hung() -> None:
    machine = Machine()
    machine.looks(1)
    machine.looks(LOOKS - 1, well=())
    machine.now += 3600.0
    assert machine.looks(LOOKS - 1, well=()) == [None] * (LOOKS - 1)


def test_looks_that_come_late_prove_nothing() -> None:
    machine = Machine()
    machine.looks(1)
    assert machine.looks(10 * LOOKS, well=(), late_s=LOOK_S) == [None] * (10 * LOOKS)


def test_of_several_one_at_a_time_is_found() -> None:
    machine = Machine()
    machine.looks(1)
    assert machine.looks(LOOKS, well=())[-1] == 1
    del machine.beats[1]
    assert machine.looks(1, well=()) == [2]


def test_both_sides_find_in_the_file_what_the_other_wrote() -> None:
    fd = beats.make_file(3, 7)
    try:
        assert (beats.last_beat(fd), beats.hung(fd)) == (0.0, 3)
        beats.beat(fd, 17.5)
        beats.tell_hung(fd, 4)
        assert (beats.last_beat(fd), beats.hung(fd), beats.generation(fd)) == (17.5, 4, 7)
    finally:
        os.close(fd)


def test_how_many_workers_are_wanted_is_said_and_none_is_a_word_too() -> None:
    fd = beats.make_file(3, 7)
    try:
        assert beats.wanted(fd) is None
        for count in (0, 5):
            beats.tell_wanted(fd, count)
            assert (beats.wanted(fd), beats.hung(fd)) == (count, 3)
    finally:
        os.close(fd)


def test_with_the_file_of_an_earlier_version_nothing_is_said_and_nothing_goes_wrong() -> None:
    fd = os.memfd_create("as before")
    try:
        os.truncate(fd, 16)
        assert (beats.wanted(fd), beats.generation(fd)) == (None, 0)
        beats.tell_wanted(fd, 5)  # by a worker of this version, to a master of that one
        assert (beats.last_beat(fd), beats.hung(fd)) == (0.0, 0)
    finally:
        os.close(fd)


# With real processes


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[Stubs]:
    with running(tmp_path / "master") as stubs:
        stubs.write(beats=True, patience={"look_s": OFTEN_S})
        stubs.start()
        yield stubs


def test_a_worker_that_hangs_is_killed_and_replaced_and_the_other_stays(stubs: Stubs) -> None:
    before = set(stubs.children())
    hanging = stubs.ask().pid
    os.kill(hanging, signal.SIGSTOP)
    stubs.says(f"(pid {hanging}) hangs, and is killed")
    wait_for(lambda: len(set(stubs.children()) - {hanging}) == 2, what="another worker")
    assert before - {hanging} < set(stubs.children())
    assert stubs.log().count("hangs") == 1


def test_a_worker_that_hangs_is_found_by_the_next_version_too(stubs: Stubs) -> None:
    stubs.write(mode="ends before it is ready")  # so that the old workers stay
    stubs.signal(signal.SIGUSR2)
    stubs.says("nothing is changed: worker")
    stubs.write(mode=None)
    hanging = stubs.ask().pid
    os.kill(hanging, signal.SIGSTOP)
    stubs.says(f"(pid {hanging}) hangs, and is killed")


def test_a_machine_that_stood_still_costs_no_worker(stubs: Stubs) -> None:
    everybody = [stubs.pid, *stubs.children()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * LOOKS * OFTEN_S)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    os.kill(everybody[-1], signal.SIGKILL)  # so that the master has something else to do
    stubs.says("the next one starts")
    assert len(stubs.served_by()) == 2
    assert "hangs" not in stubs.log()
