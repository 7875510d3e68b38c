"""Answers to /trace, as the command reads them: of several processes at the same moment."""

from __future__ import annotations

import subprocess
import sys

TIMES = 6  # each alone ended badly every second time
AT_ONCE = """
import sys, threading
from hitmesh.protocol.stations import read_told
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
def read():
    barrier.wait()
    read_told(b'{"dc": "a", "role": "b", "name": "c"}')
threads = [threading.Thread(target=read) for _ in range(8)]
[each.start() for each in threads]
[each.join() for each in threads]
print("all")
"""


def test_threads_that_read_their_first_answers_at_the_same_moment_do_no_harm() -> None:
    for _ in range(TIMES):
        done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr
