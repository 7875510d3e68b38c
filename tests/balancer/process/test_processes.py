from __future__ import annotations

import os
import signal
import sys

import pytest

from balancer.process import handover
from balancer.process.handover import Handover, Leaver, Process
from balancer.process.listeners import Address
from balancer.process.processes import delay_s, ending, keep_text, read_text, reaped, spawn
from hitmesh.errors import ConfigError

HANDOVER = Handover(
    master=os.getpid(),
    sockets=(handover.Socket("http", Address("::1", 0), (3, 4)),),
    alive_fds=(5, 6),
    text_fd=7,
    slots=2,
    workers=(Process(1, 4711),),
    leaving=(Leaver(4712, 17.5),),
    drain_s=8.0,
)


def test_the_first_death_costs_no_time_and_the_next_ones_more_and_more() -> None:
    assert [delay_s(deaths) for deaths in range(1, 9)] == [0, 1, 2, 4, 8, 15, 15, 15]


def test_an_end_is_told_in_words() -> None:
    assert ending(3 << 8) == "ended with status 3"
    assert ending(signal.SIGKILL) == "was killed by SIGKILL"
    assert ending(45) == "was killed by signal 45"


def test_a_text_is_kept_and_read_again_and_again() -> None:
    text = b"x" * 100_000
    fd = keep_text(text)
    try:
        assert read_text(fd) == read_text(fd) == text
    finally:
        os.close(fd)


def test_a_child_gets_the_descriptors_that_it_is_given_and_no_other() -> None:
    given, kept = os.pipe()
    code = (
        "import os, sys\n"
        "def is_open(fd):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: return False\n"
        "    return True\n"
        "sys.exit(0 if is_open(int(sys.argv[1])) and not is_open(int(sys.argv[2])) else 1)\n"
    )
    pid = spawn([sys.executable, "-c", code, str(given), str(kept)], inherited=[given])
    assert os.waitpid(pid, 0) == (pid, 0)
    os.close(given)
    os.close(kept)


def test_a_child_has_no_signal_blocked() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        code = "import signal, sys; sys.exit(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
        pid = spawn([sys.executable, "-c", code], inherited=[])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert os.waitpid(pid, 0) == (pid, 0)


def test_without_children_nothing_is_reaped() -> None:
    assert list(reaped()) == []


def test_a_handover_is_what_it_was_after_an_exec() -> None:
    assert handover.decode(HANDOVER.encode()) == HANDOVER
    assert HANDOVER.fds() == [3, 4, 5, 6, 7]


def test_a_handover_of_a_later_version_is_understood_if_it_only_says_more() -> None:
    assert handover.decode(HANDOVER.encode()[:-1] + ',"more":1}') == HANDOVER


def test_a_handover_that_is_not_understood_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(handover.VARIABLE, '{"master": 1}')
    with pytest.raises(ConfigError, match="isn't a handover that this version understands"):
        handover.check()


def test_a_handover_to_another_process_is_not_taken_and_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(handover.VARIABLE, HANDOVER.encode().replace(f'"master":{os.getpid()}', '"master":1'))
    assert handover.take() is None
    assert handover.VARIABLE not in os.environ
