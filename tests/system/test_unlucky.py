"""Roles whose machine fails them: nobody reads what they print, a disk is full. They go on, or heal by themselves."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import wait_for
from tests.system.mesh import Mesh
from tests.system.visitors import Visitor, accepted, at_work, doubtful

SETTLED_S = 90.0
PAGES = [f"s/{number}" for number in range(20)]
LOCKED_S = 4.0  # longer than a put waits for the file's lock
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
        for file in ("spool.db", "totals.db"):
            with locked(unread.folder / unread.config.name / file):
                time.sleep(LOCKED_S)
        for name in ("collector-1", "collector-2"):
            wait_for(lambda name=name: is_accepting(unread, name), what=f"{name} to take hits again")  # type: ignore[misc]
        before = sum(accepted(*visitors).values())
        wait_for(lambda: sum(accepted(*visitors).values()) > before + 20, what="hits to be counted")
    assert sum(sum(visitor.refused.values()) for visitor in visitors) > 0, "the lock hurt nobody"
    assert not doubtful(*visitors)
    wait_for(unread.is_settled, within_s=SETTLED_S, what="every job to be committed")
    assert unread.totals() == accepted(*visitors)
