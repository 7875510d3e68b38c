"""What one SQLite file does when it is shared, locked, full, or not ours."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.store import Done, Row, StoredHead, Unknown, Write
from hitmesh.store.sqlite import SqliteTotals
from tests.services import PATIENCE_S, START_S, require

START = """
import sys
from pathlib import Path
from hitmesh.store import *
from hitmesh.store.sqlite import SqliteTotals
store = SqliteTotals(Path(sys.argv[1]), busy_timeout_s=30)
"""


def run(code: str, path: Path, *before: str) -> subprocess.CompletedProcess[str]:
    """Run a script with `store` open on `path`, in a process of its own."""
    command = [*before, sys.executable, "-c", START + code, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=START_S)


def test_processes_that_start_at_once_and_race_lose_no_commit(tmp_path: Path) -> None:
    code = """
for number in range(25):
    while True:
        head, rows = store.read({1: ["a/b"]})[1]
        count = rows[0].count + 1 if rows else 1
        write = Write(1, head.index if head else 0, b"%d" % count, [Row("a/b", "eu", count, count)])
        if isinstance(store.write([write])[0], Done):
            break
"""
    path = tmp_path / "deep" / "totals.db"
    command = [sys.executable, "-c", START + code, str(path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    assert [(process.communicate(timeout=2 * START_S)[1], process.returncode) for process in processes] == [("", 0)] * 6
    head, rows = SqliteTotals(path).read({1: ["a/b"]})[1]
    assert head is not None
    assert (head.body, rows) == (b"150", [Row("a/b", "eu", 150, 150)])
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".new")] == []


def test_an_index_is_never_given_again_even_after_a_delete(sqlite_store: SqliteTotals) -> None:
    (first,) = sqlite_store.write([Write(1, 0, b"one", [])])
    with sqlite3.connect(sqlite_store.path) as db:
        db.execute("DELETE FROM heads")
    db.close()
    (second,) = sqlite_store.write([Write(1, 0, b"two", [])])
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert second.index > first.index


def test_a_locked_file_is_unknown_and_says_so(tmp_path: Path) -> None:
    store = SqliteTotals(tmp_path / "totals.db", busy_timeout_s=0.1)
    store.check()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    (outcome,) = store.write([Write(1, 0, b"head", [])])
    assert isinstance(outcome, Unknown)
    assert "locked" in outcome.reason
    assert store.read_head(1) is None  # readers don't wait for writers
    other.close()
    assert isinstance(store.write([Write(1, 0, b"head", [])])[0], Done)
    store.close()


def test_a_full_disk_is_unknown_and_leaves_the_last_commit(tmp_path: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
index, number = 0, 0
while True:
    outcome = store.write([Write(1, index, b"%d" % number, [Row(f"a/{number}/" + "x" * 1000, "eu", number, 1)] * 1),
                           Write(2, 0, b"z" * 200_000, [])] if number == 0 else
                          [Write(1, index, b"%d " % number + b"x" * 200_000, [Row(f"a/{number}", "eu", number, 1)])])[0]
    if not isinstance(outcome, Done):
        break
    index, number = outcome.index, number + 1
assert isinstance(outcome, Unknown), outcome
print(outcome.reason, file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(index, number)
"""
    path = tmp_path / "totals.db"
    index, number = map(int, run(code, path).stdout.split())
    assert number > 1
    store = SqliteTotals(path)
    head = store.read_head(1)
    assert head is not None
    assert (head.index, int(head.body.split()[0])) == (index, number - 1)
    assert len(store.load(1)) == number
    assert isinstance(store.write([Write(1, index, b"again", [])])[0], Done)
    store.close()


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000], ids=["empty", "garbage"])
def test_a_file_that_holds_no_totals_is_unknown_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "totals.db"
    path.write_bytes(content)
    store = SqliteTotals(path)
    with pytest.raises(StoreUnknown):
        store.read_head(1)
    assert isinstance(store.write([Write(1, 0, b"head", [])])[0], Unknown)
    assert path.read_bytes() == content


def test_a_database_of_another_kind_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "totals.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE heads (partition, head_index, body)")
    db.close()
    with pytest.raises(StoreUnknown, match="not totals of version"):
        SqliteTotals(path).read_head(1)


def test_a_folder_that_can_not_be_made_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = SqliteTotals(tmp_path / "file" / "totals.db")
    with pytest.raises(StoreUnknown):
        store.check()
    assert isinstance(store.write([Write(1, 0, b"head", [])])[0], Unknown)


def test_a_read_is_one_snapshot_while_others_write(tmp_path: Path) -> None:
    code = """
index = number = 0
while True:
    number += 1
    index = store.write([Write(1, index, b"%d" % number, [Row("a/b", "eu", number, number)])])[0].index
"""
    path = tmp_path / "totals.db"
    store = SqliteTotals(path, busy_timeout_s=PATIENCE_S)
    store.check()
    with subprocess.Popen([sys.executable, "-c", START + code, str(path)]) as writer:
        seen: set[StoredHead | None] = set()
        deadline = time.monotonic() + START_S
        try:
            while len(seen) < 100 and writer.poll() is None and time.monotonic() < deadline:
                head, rows = store.read({1: ["a/b"]})[1]
                assert [b"%d" % row.count for row in rows] == ([head.body] if head else [])
                seen.add(head)
            assert writer.poll() is None
        finally:
            writer.kill()
    assert len(seen) > 5
    store.close()


def test_the_writes_of_one_call_are_synced_once_and_before_it_returns(tmp_path: Path) -> None:
    code = """
import os
store.write([Write(0, 0, b"warm", [])])
for at in range(1, 4):
    os.write(1, b"before\\n")
    store.write([Write(at * 100 + p, 0, b"head", [Row(f"a/{p}", "eu", 1, 1)]) for p in range(32)])
    os.write(1, b"after\\n")
"""
    trace = tmp_path / "trace"
    run(code, tmp_path / "totals.db", require("strace"), "-f", "-o", str(trace), "-e", "trace=fsync,fdatasync,write")
    calls = re.findall(r'(fsync|fdatasync)\(|write\(1, "(before|after)', trace.read_text())
    order = "".join({"before": "<", "after": ">"}.get(mark, "s") for _, mark in calls)
    assert order.lstrip("s") == "<s><s><s>" + "s" * (len(order) - len(order.rstrip("s")))


def test_a_waiting_call_leaves_the_hub_free(tmp_path: Path) -> None:
    code = """
import gevent, sqlite3
store.check()
other = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
other.execute("BEGIN IMMEDIATE")
def turn():
    for _ in range(20):
        gevent.sleep(0.01)
    other.execute("COMMIT")
gevent.spawn(turn)
outcome = store.write([Write(1, 0, b"head", [])])[0]
assert isinstance(outcome, Done), outcome
try:
    store.write([Write(1, 0, b"", [])])
except ValueError:
    pass
store.path.unlink(); store.close(); store.path.mkdir()
try:
    store.read_head(1)
except StoreUnknown:
    print("unknown")
"""
    finished = run("from hitmesh.errors import StoreUnknown" + code, tmp_path / "totals.db")
    assert (finished.stdout, finished.stderr) == ("unknown\n", "")


def test_a_store_reads_what_another_process_wrote(sqlite_store: SqliteTotals) -> None:
    assert sqlite_store.read_head(1) is None
    run('store.write([Write(1, 0, b"theirs", [])])', sqlite_store.path)
    assert sqlite_store.read_head(1) == StoredHead(b"theirs", 1)
