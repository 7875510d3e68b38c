"""What a role sends to recorders, seen from the role: in a process of its own, patched by gevent as every role is."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = """
import gevent.monkey
gevent.monkey.patch_all()
import logging
import threading
import time
import gevent
import zmq
import zmq.green
from hitmesh.config import parse
from hitmesh.mesh import recording
from hitmesh.mesh.network import Network
from hitmesh.mesh.pipes import bind_pull
from hitmesh.mesh.recording import of_config
from hitmesh.protocol.messages import Instance, Records, decode
from hitmesh.state.keylist import Peer
from hitmesh.state.outgoing import MAX_ENTRIES

recording.SEND_S = 0.05
node = {"address": "127.0.0.1", "nexus": 1, "processor": 1, "collector": 1}
def configured(recorders):
    return parse({"name": "dc", "nodes": {"a": {**node, "recorder": recorders}}}, source="test")

network = Network(zmq.green.Context())
living = []

def recorder(name, state="up"):
    pull, endpoint = bind_pull(network, "127.0.0.1", "records", heartbeat_s=1.0)
    living.append(Instance("dc", "recorder", name, f"{name}.0a", state, 1, 0, {"records": endpoint}, {}, {}))
    return pull

def made():
    who = Peer("dc", "collector", "collector-1")
    one = of_config(configured(1), network, who, "collector-1.0a", living=lambda: living, figures=lambda: {"hits": 7})
    one.start()
    return one

def received(pull, count):
    found = []
    while len(found) < count:
        with gevent.Timeout(20):
            message = decode(pull.recv(), Records)
        assert message.first == found[-1][0] + 1 if found else True, (message.first, found[-1:])
        found += enumerate(message.entries, start=message.first)
    return [entry for _, entry in found]

log = logging.getLogger("hitmesh.x")
logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
"""

CASES = {
    "a datacenter without recorders sends nothing": """
assert of_config(configured(0), network, Peer("dc", "nexus", "n"), "n.0a", living=list, figures=dict) is None
""",
    "a line goes out with its level, its fields and its traceback": """
pull, one = recorder("recorder-1"), made()
log.debug("too little")
log.warning("hello %s", "there", extra={"fields": {"page": "s/a", "hits": 3}})
log.error("%d", "no number")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it failed")
first, last = received(pull, 2)
assert (first.level, first.logger, first.text, first.fields) == (30, "hitmesh.x", "hello there", {"page": "s/a", "hits": 3})
assert last.text.startswith("it failed\\nTraceback") and last.text.endswith("ZeroDivisionError: division by zero")
one.stop()
""",
    "each minute its figures go out": """
now = [1_000_000_020.0]
class Clock:
    def __getattr__(self, name):
        return getattr(time, name)
    def time(self):
        return now[0]
recording.time = Clock()
pull, one = recorder("recorder-1"), made()
gevent.sleep(0.2)
now[0] += 60
[figures] = received(pull, 1)
assert (figures.level, figures.at_ms) == (0, 1_000_000_080_000 // 60_000 * 60_000)
assert figures.fields["hits"] == 7 and figures.fields["cpu_s"] > 0 and figures.fields["memory_bytes"] > 1e6
one.stop()
""",
    "with nobody there what is logged waits, within its bound, and is counted": """
one = made()
for number in range(MAX_ENTRIES + 100):
    log.info("%d", number)
gevent.sleep(0.3)
assert one.load() == {"records_dropped": 100}
pull = recorder("recorder-1")
found = received(pull, MAX_ENTRIES)
assert [entry.text for entry in found] == [str(number) for number in range(100, MAX_ENTRIES + 100)]
assert one.load() == {"records_dropped": 100}
one.stop()
""",
    "one that is dead gives its place to the other": """
first, second, one = recorder("recorder-1"), recorder("recorder-2"), made()
log.info("one")
poller = zmq.green.Poller()
poller.register(first, zmq.POLLIN)
poller.register(second, zmq.POLLIN)
[(chosen, _)] = poller.poll(20_000)
assert received(chosen, 1)[0].text == "one"
chosen.close(linger=0)
other = second if chosen is first else first
log.info("two")
assert received(other, 1)[0].text == "two"
one.stop()
""",
    "one that says that it fails is the last to be asked": """
sick, well, one = recorder("recorder-1", "failing: the disk is full"), recorder("recorder-2"), made()
log.info("one")
assert received(well, 1)[0].text == "one"
living.pop()
well.close(linger=0)
log.info("two")
assert received(sick, 1)[0].text == "two"
one.stop()
""",
    "one that takes nothing costs no time, and no memory beyond the bound": """
recording.SEND_S = 0.001
pull, one = recorder("recorder-1"), made()
gevent.sleep(0.2)
text = "x" * 4000
for number in range(50_000):  # 200 MB, far more than any buffer on the way holds
    log.info(text)
    if number % 100 == 0:
        gevent.sleep(0.002)  # in which it is sent, as long as that goes
assert one.load()["records_dropped"] > 20_000
# Not getrusage's, which begins with what the process was before it became this one: a part of whoever runs the tests.
[peak_kb] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
assert int(peak_kb) < 400 * 1024, peak_kb
one.stop()
""",
    "threads log too, and nothing of theirs is lost": """
pull, one = recorder("recorder-1"), made()
start = gevent.monkey.get_original("_thread", "start_new_thread")
done = []
def work():
    for number in range(500):
        log.info("from a thread")
    done.append(1)
for _ in range(4):
    start(work, ())
assert len(received(pull, 2000)) == 2000
one.stop()
""",
    "whatever its lines are made of, the role goes on": """
class Hostile:
    def __str__(self):
        raise RuntimeError("no words")
pull, one = recorder("recorder-1"), made()
logging.raiseExceptions = False
for hostile in (Hostile(), "\\ud800", "\\x00", b"\\xff"):
    log.info("%s", hostile, extra={"fields": {hostile: hostile, "n": float("nan")}})
log.info("harmless", extra={"fields": 7})
assert [entry.text for entry in received(pull, 4)][-1] == "harmless"
one.stop()
log.info("nobody listens any more")
""",
    "its own faults are said once": """
pull, one = recorder("recorder-1"), made()
one._outgoing.batch = lambda: 1 / 0
said = []
class Ears(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger().addHandler(Ears())
log.info("x")
gevent.sleep(0.5)
assert said == ["x", "a fault in what is recorded; it goes on"], said
one.stop()
""",
}


@pytest.mark.parametrize("case", CASES)
def test_seen_from_the_role(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + CASES[case]], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
