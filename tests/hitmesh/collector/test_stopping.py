"""A collector that is told to stop before its worker is ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services import wait_for

ENDS_S = 60.0  # on a busy machine it may take a while to get so far
DRAIN_S = 600  # after which a worker that was told nothing is killed
FILE = f"""
name = "dev"
insecure = true
nodes.local = {{address = "127.0.0.1", nexus = 1, processor = 1, collector = 1}}
timing.drain_s = {DRAIN_S}
"""


@pytest.mark.parametrize("later_s", [0.0, 0.05, 0.15])
def test_a_worker_that_has_just_been_forked_hears_that_it_is_to_stop(tmp_path: Path, later_s: float) -> None:
    path = tmp_path / "dev" / "hitmesh.toml"
    path.parent.mkdir()
    path.write_text(FILE)
    command = [sys.executable, "-m", "hitmesh", "collector", "--config", str(path), "--state-dir", str(tmp_path)]
    with subprocess.Popen([*command, "--name", "collector-9", "--listen", "127.0.0.1:0"]) as master:
        worker = 0
        try:
            children = Path(f"/proc/{master.pid}/task/{master.pid}/children")
            worker = int(wait_for(children.read_text, what="the worker").split()[0])
            time.sleep(later_s)
            master.send_signal(signal.SIGTERM)
            assert master.wait(ENDS_S) == 0
        except BaseException:
            master.kill()
            if worker:
                os.kill(worker, signal.SIGKILL)
            raise
