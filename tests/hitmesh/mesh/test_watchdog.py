"""A process that hangs ends, and one that was only stopped doesn't."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from hitmesh.mesh.duty import EXIT_BROKEN
from tests.services import PATIENCE_S, START_S

START = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent
from gevent.monkey import get_original
from hitmesh.mesh.watchdog import Watchdog
from hitmesh.state import dues
dues.HOPELESS_S = 2.0
watchdog = Watchdog()
watchdog.start()
gevent.sleep(0)
"""


def test_a_hub_that_hangs_ends_the_process_with_a_word() -> None:
    code = START + "get_original('time', 'sleep')(600)"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=START_S, check=False)
    assert done.returncode == EXIT_BROKEN
    assert (
        b"ERROR hitmesh.mesh.watchdog: a turn of the hub has been under way for 2 s; ending the process" in done.stderr
    )


def test_what_never_comes_back_from_a_thread_ends_the_process() -> None:
    code = START + "from hitmesh.hub.blocking import call_blocking\n"
    code += "with watchdog.expect('a put'):\n    call_blocking(lambda: get_original('time', 'sleep')(600))"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=START_S, check=False)
    assert done.returncode == EXIT_BROKEN
    assert b"a put has been under way" in done.stderr


def test_a_process_that_was_stopped_for_long_goes_on() -> None:
    code = (
        START
        + """
dues.HOPELESS_S = 4.0
with watchdog.expect("a put"):
    print("begun", flush=True)
    gevent.sleep(1.0)  # is over as soon as it goes on, and the put isn't yet
    for _ in range(50):
        gevent.sleep(0.01)
"""
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(6)  # longer than anything may be under way
        process.send_signal(signal.SIGCONT)
        assert process.wait(PATIENCE_S) == 0
