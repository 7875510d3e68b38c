"""Roles whose machine fails them: nobody reads what they print, a disk is full. They go on, or heal by themselves."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitmesh.state.dues import told
from tests.services import wait_for
from tests.system.mesh import Mesh
from tests.system.visitors import Visitor, accepted, at_work, doubtful

SETTLED_S = 90.0
PAGES = [f"s/{number}" for number in range(20)]
LOCKED_S = 4.0  # longer than a commit waits for the file's lock
# Its standard error becomes a pipe that nobody reads, full or without a reader, as when supervisord died.
UNREAD = """
import os, sys
reader, writer = os.pipe()
if sys.argv[1] == "full":
    os.set_inheritable(reader, True)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
else:
    os.close(reader)
os.dup2(writer, 2)
os.execv(sys.argv[2], sys.argv[2:])
"""
# Late after 2 s and hopeless after 12; puts hang as long as a file of that name is there.
HANGING = """
import os, sys
from hitmesh.state import dues
dues.LATE_S, dues.HOPELESS_S = 2.0, 12.0
if sys.argv[4] == "collector":
    from gevent.monkey import get_original
    from hitmesh.spool import sqlite
    put = sqlite._put
    def hanging(file, body, delay_s):
        path = file.connection.execute("PRAGMA database_list").fetchone()[2]
        while os.path.exists(os.path.join(os.path.dirname(path), "hang")):
            get_original("time", "sleep")(0.05)
        return put(file, body, delay_s)
    sqlite._put = hanging
sys.argv = ["hitmesh", *sys.argv[4:]]
from hitmesh.__main__ import main
main()
"""
HANGING_NEXUS = """
import os, sys
from gevent import monkey
monkey.patch_all(ssl=False)
import gevent
from hitmesh.state import dues
from nexus.registry import Registry
dues.LATE_S = 2.0
tick, hang = Registry.tick, os.path.join(sys.argv[-1], "hang")
def hanging(self, now):
    while os.path.exists(hang):
        gevent.sleep(0.05)
    return tick(self, now)
Registry.tick = hanging
sys.argv = ["nexus", *sys.argv[4:]]
from nexus.main import main
main()
"""


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh whose collector hangs in a put while there is a file `hang` beside its spool.

    And its Nexus, that publishes nothing while there is one in the state folder.
    """
    wrapper = [sys.executable, "-c", HANGING]
    wrappers = {"collector": wrapper, "processor": wrapper, "nexus": [sys.executable, "-c", HANGING_NEXUS]}
    with Mesh(tmp_path_factory.mktemp("hanging"), wrappers=wrappers) as mesh:
        yield mesh


def state_of(mesh: Mesh, name: str) -> tuple[str, str]:
    return next((told(one.instance.state) for one in mesh.living() if one.instance.name == name), ("", ""))


@pytest.fixture(scope="module")
def unread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh in which nobody reads what any role prints."""
    kinds = {"full": ["nexus-1", "processor-1", "collector-1"], "gone": ["nexus-2", "processor-2", "collector-2"]}
    wrappers = {name: [sys.executable, "-c", UNREAD, kind] for kind, names in kinds.items() for name in names}
    folder = tmp_path_factory.mktemp("unread")
    with Mesh(folder, nexuses=2, processors=2, collectors=2, wrappers=wrappers) as mesh:
        yield mesh


def url(mesh: Mesh, collector: str) -> str:
    host, port = mesh.address(collector)
    return f"http://{host}:{port}"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """The write lock of a SQLite file, held by somebody else."""
    other = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


def is_accepting(mesh: Mesh, collector: str) -> bool:
    return mesh.request("GET", "/health", collector=collector).status == 200


def test_roles_that_nobody_reads_outlive_errors_and_count_exactly(unread: Mesh) -> None:
    visitors = [Visitor(url(unread, name), PAGES) for name in ("collector-1", "collector-2")]
    with at_work(*visitors):
        for _ in range(200):  # each of them is said in the log
            with socket.create_connection(unread.address("collector-1")) as bad:
                bad.sendall(b"GARBAGE\r\n\r\n")
                bad.recv(1)
        with locked(unread.folder / unread.config.name / "spool.db"):
            wait_for(lambda: any(visitor.refused for visitor in visitors), what="the lock to hurt somebody")
        with locked(unread.folder / unread.config.name / "totals.db"):
            time.sleep(LOCKED_S)
        for name in ("collector-1", "collector-2"):
            wait_for(lambda name=name: is_accepting(unread, name), what=f"{name} to take hits again")  # type: ignore[misc]
        before = sum(accepted(*visitors).values())
        wait_for(lambda: sum(accepted(*visitors).values()) > before + 20, what="hits to be counted")
    assert not doubtful(*visitors)
    wait_for(unread.is_settled, within_s=SETTLED_S, what="every job to be committed")
    assert unread.totals() == accepted(*visitors)


def test_a_collector_that_cant_put_says_so_everywhere_and_is_well_again_by_itself(hanging: Mesh) -> None:
    visitor = Visitor(url(hanging, "collector-1"), PAGES)
    hang = hanging.folder / hanging.config.name / "hang"
    with at_work(visitor):
        wait_for(lambda: accepted(visitor), what="a hit to be counted")
        hang.touch()
        late = ("failing", "a put into the spool has been under way for 2 s")
        wait_for(lambda: state_of(hanging, "collector-1") == late, what="it to say so in its heartbeats")
        health = hanging.request("GET", "/health")
        assert (health.status, health.json()["title"]) == (503, "Not counted")
        assert "a put into the spool has been under way" in str(health.json())
        hang.unlink()
        wait_for(lambda: state_of(hanging, "collector-1") == ("up", ""), what="it to be up")
        wait_for(lambda: is_accepting(hanging, "collector-1"), what="it to take hits")
    assert not doubtful(visitor)
    wait_for(hanging.is_settled, within_s=SETTLED_S, what="every job to be committed")
    assert hanging.totals() == accepted(visitor)


def test_a_collector_that_hangs_for_good_ends_itself_and_another_one_counts_on(hanging: Mesh) -> None:
    before, pid = hanging.totals(), hanging.pid("collector-1")
    visitor = Visitor(url(hanging, "collector-1"), PAGES)
    hang = hanging.folder / hanging.config.name / "hang"
    with at_work(visitor):
        wait_for(lambda: accepted(visitor), what="a hit to be counted")
        hang.touch()
        said = "a put into the spool has been under way for 12 s; ending the process"
        wait_for(lambda: said in hanging.log("collector-1"), within_s=SETTLED_S, what="it to end with a word")
        hang.unlink()
        wait_for(
            lambda: {one.instance.pid for one in hanging.living() if one.instance.name == "collector-1"} - {pid},
            within_s=SETTLED_S,
            what="another one",
        )
        seen = sum(accepted(visitor).values())
        wait_for(lambda: sum(accepted(visitor).values()) > seen, what="hits to be counted again")
    wait_for(hanging.is_settled, within_s=SETTLED_S, what="every job to be committed")
    counted = Counter(hanging.totals()) - Counter(before)
    assert accepted(visitor) - counted == Counter()
    assert counted - accepted(visitor) - doubtful(visitor) == Counter()


def test_a_processor_whose_commits_arent_written_says_so_until_they_are(hanging: Mesh) -> None:
    before = hanging.totals()
    visitor = Visitor(url(hanging, "collector-1"), PAGES)
    with at_work(visitor):
        wait_for(lambda: accepted(visitor), what="a hit to be counted")
        with locked(hanging.folder / hanging.config.name / "totals.db"):
            wait_for(lambda: state_of(hanging, "processor-1")[0] == "failing", what="it to say so in its heartbeats")
            assert state_of(hanging, "collector-1")[0] == "up", "a spool that takes hits is all that it needs"
        wait_for(lambda: state_of(hanging, "processor-1") == ("up", ""), what="it to be up")
    assert not doubtful(visitor)
    wait_for(hanging.is_settled, within_s=SETTLED_S, what="every job to be committed")
    assert Counter(hanging.totals()) - Counter(before) == accepted(visitor)


def test_a_nexus_that_publishes_nothing_says_so(hanging: Mesh) -> None:
    hang = hanging.folder / "hang"
    hang.touch()
    late = ("failing", "the telling of who is alive has been under way for 2 s")
    wait_for(lambda: state_of(hanging, "nexus-1") == late, what="it to say so")
    hang.unlink()
    wait_for(lambda: state_of(hanging, "nexus-1") == ("up", ""), what="it to be up")
