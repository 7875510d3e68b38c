"""A lock whose turns come in order, for greenlets and for threads."""

from __future__ import annotations

import subprocess
import sys
import threading

from hitmesh.hub.fair import FairLock
from tests.services import PATIENCE_S, START_S, wait_for

# In a process that gevent has patched. Each of three asks again as soon as it has had its turn.
GREENLETS = """
from gevent import monkey; monkey.patch_all()
import gevent
from hitmesh.hub.fair import FairLock
lock, turns = FairLock(), []
def work(name):
    for _ in range(4):
        with lock:
            turns.append(name)
            gevent.sleep(0.001)
gevent.joinall([gevent.spawn(work, name) for name in "abc"], raise_error=True)
print("".join(turns))
"""
KILLED = """
from gevent import monkey; monkey.patch_all()
import gevent
from hitmesh.hub.fair import FairLock
lock, turns = FairLock(), []
def work(name):
    with lock:
        turns.append(name)
with lock:
    others = [gevent.spawn(work, name) for name in "abc"]
    gevent.sleep(0)
    others[1].kill()  # while it waits
    others[0].kill(block=False)  # it ends when its turn has come, and doesn't know that
gevent.joinall(others)
with lock:
    turns.append("d")
print("".join(turns))
"""


def say(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * START_S, check=True).stdout.strip()


def test_greenlets_have_their_turns_in_order() -> None:
    assert say(GREENLETS) == "abcabcabcabc"


def test_who_is_killed_while_it_waits_keeps_nobody_waiting() -> None:
    assert say(KILLED) == "cd"


def test_threads_have_their_turns_one_at_a_time_and_in_order() -> None:
    lock, turns = FairLock(), list[int]()
    inside = 0

    def work(number: int) -> None:
        nonlocal inside
        with lock:
            inside += 1
            assert inside == 1
            turns.append(number)
            inside -= 1

    threads = [threading.Thread(target=work, args=[number]) for number in range(20)]
    with lock:
        for at, thread in enumerate(threads, start=1):
            thread.start()
            wait_for(lambda at=at: len(lock._waiting) == at, what="it to wait")  # type: ignore[misc]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert turns == list(range(20))
