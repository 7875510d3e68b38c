"""The sending end of batches and acks; in a process of its own, patched by gevent as every role is."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent
import zmq.green
from hitmesh.mesh.network import Network
from hitmesh.mesh.pipes import Pushes, bind_pull

network = Network(zmq.green.Context())
pull, endpoint = bind_pull(network, "127.0.0.1", "batches", heartbeat_s=1.0)
pushes = Pushes(network, heartbeat_s=1.0, queue_unconnected=True)
turns = []
others = gevent.spawn(lambda: [turns.append(gevent.sleep(0)) for _ in range(10_000)])
gevent.sleep(0)
before = len(turns)
assert all([pushes.send(endpoint, b"x" * SIZE) for _ in range(5)])
assert len(turns) == before, "a send let others run"
others.kill()
assert [len(pull.recv()) for _ in range(5)] == [SIZE] * 5
pushes.close()
pull.close(linger=0)
"""


@pytest.mark.parametrize("size", [10, 60_000, 70_000, 3_000_000])
def test_a_send_doesn_t_let_other_greenlets_run(size: int) -> None:
    """They might close the socket, or change what the sender is going through."""
    subprocess.run([sys.executable, "-c", CODE.replace("SIZE", str(size))], check=True)
