"""The embedded spool: one file, several processes, and a disk that fails."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.spool import sqlite as sqlite_spool
from hitmesh.spool.sqlite import SqliteSpool
from tests.hitmesh.spool.conftest import HASTY_S, LONG_CLAIM_S
from tests.hitmesh.spool.test_spool import claim_all, fill
from tests.services import PATIENCE_S, START_S, require, wait_for
from tests.services.pipes import broken_pipe

LONG_S = 60.0


def make(path: Path, *, claim_s: float = LONG_CLAIM_S) -> SqliteSpool:
    return SqliteSpool(path, claim_s=claim_s, longest_delay_s=LONG_S)


@pytest.fixture
def spool(tmp_path: Path) -> SqliteSpool:
    return make(tmp_path / "spool.db")


def test_two_processes_put_and_claim_at_the_same_time_without_loss(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from hitmesh.spool import sqlite
sqlite.BUSY_S = 30
spool = sqlite.SqliteSpool(Path(sys.argv[1]), claim_s=600, longest_delay_s=60)
for number in range(150):
    spool.put(b"%s %d" % (sys.argv[2].encode(), number), 0)
    for job in spool.claim(2):
        print(job.body.decode())
        spool.done([job.id])
"""
    path = tmp_path / "spool.db"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name], stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    claimed = [line for process in processes for line in process.communicate(timeout=2 * START_S)[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0]
    claimed += [job.body.decode() for job in make(path).claim(1000)]
    assert sorted(claimed) == sorted(f"{name} {number}" for name in ("a", "b") for number in range(150))


def test_a_put_survives_the_sudden_death_of_its_process(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    code = """
import os, signal, sys
from pathlib import Path
from hitmesh.spool.sqlite import SqliteSpool
SqliteSpool(Path(sys.argv[1]), claim_s=60, longest_delay_s=60).put(b"kept", 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], timeout=START_S, check=False)
    assert [job.body for job in make(path).claim(10)] == [b"kept"]


@pytest.mark.parametrize("operation", ["put", "done"])
def test_the_log_is_synced_after_its_last_write_and_before_the_call_returns(tmp_path: Path, operation: str) -> None:
    code = """
import os, sys
from pathlib import Path
from hitmesh.spool.sqlite import SqliteSpool
spool = SqliteSpool(Path(sys.argv[1]), claim_s=60, longest_delay_s=60)
job = spool.put(b"first", 30)
os.write(2, b"BEGIN")
spool.put(b"x" * 100_000, 30) if sys.argv[2] == "put" else spool.done([job])
os.write(2, b"END")
"""
    calls = tmp_path / "calls"
    command = [require("strace"), "-f", "-y", "-o", str(calls), "-e", "trace=write,pwrite64,fsync,fdatasync"]
    command += [sys.executable, "-c", code, str(tmp_path / "spool.db"), operation]
    subprocess.run(command, capture_output=True, timeout=2 * START_S, check=True)
    between = re.search(r'"BEGIN"(.*)"END"', calls.read_text(), re.DOTALL)
    assert between is not None
    lines = [line for line in between[1].splitlines() if "spool.db-wal" in line]
    synced = [at for at, line in enumerate(lines) if re.search(r"f(data)?sync\(.*= 0", line)]
    written = [at for at, line in enumerate(lines) if "pwrite64(" in line]
    assert written
    assert synced
    assert synced[-1] > written[-1]


def test_a_full_disk_refuses_loses_nothing_and_heals(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_spool, "RECENT_S", PATIENCE_S)
    spool = make(small_disk / "spool.db")
    stored = fill(spool, match="make room on its disk")
    assert len(stored) > 50
    with pytest.raises(SpoolRefused, match="full"):
        spool.check()
    assert len(list(spool.jobs())) == len(stored)
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    spool.put(b"after", LONG_S)
    spool.check()
    spool.close()
    assert len(list(make(small_disk / "spool.db").jobs())) == len(stored) + 1


def test_a_sync_that_fails_leaves_the_put_unknown(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from hitmesh.errors import SpoolRefused, SpoolUnknown
from hitmesh.spool.sqlite import SqliteSpool
spool = SqliteSpool(Path(sys.argv[1]), claim_s=60, longest_delay_s=60)
spool.put(b"first", 30)
print("ready", flush=True)
sys.stdin.readline()
try:
    spool.put(b"second", 30)
except (SpoolRefused, SpoolUnknown) as error:
    print(type(error).__name__)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "spool.db")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
        messages = tmp_path / "messages"
        with messages.open("wb") as stderr:
            strace = subprocess.Popen(
                [require("strace"), "-f", "-p", str(process.pid), "-o", os.devnull, *inject], stderr=stderr
            )
        try:
            wait_for(lambda: b"attached" in messages.read_bytes(), what="strace to attach")
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.read() == "SpoolUnknown\n"
        finally:
            strace.terminate()
            strace.wait(PATIENCE_S)


def together(spool: SqliteSpool, calls: Sequence[Callable[[], object]]) -> list[object]:
    """What each says, or raises, when they all wait while somebody else's call is under way."""
    said: list[object] = [None] * len(calls)

    def say(at: int) -> None:
        try:
            said[at] = calls[at]()
        except (SpoolRefused, SpoolUnknown) as error:
            said[at] = error

    threads = [threading.Thread(target=say, args=[at]) for at in range(len(calls))]
    with spool._turn:
        for thread in threads:
            thread.start()
        wait_for(lambda: len(spool._shares) == len(calls), what="all to wait")
    for thread in threads:
        thread.join(PATIENCE_S)
    return said


class Connection:
    """One to a file, which notes its statements, and fails at COMMIT when it is told to."""

    def __init__(self, spool: SqliteSpool) -> None:
        assert spool._file is not None
        self._real: Any = spool._file.connection
        self.statements: list[str] = []
        self.error: sqlite3.OperationalError | None = None
        spool._file = replace(spool._file, connection=self)  # type: ignore[arg-type]

    def execute(self, statement: str, *values: object) -> Any:
        self.statements.append(statement)
        if statement == "COMMIT" and self.error is not None:
            raise self.error
        return self._real.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_puts_and_deletes_that_wait_share_a_transaction(spool: SqliteSpool) -> None:
    old = [spool.put(b"old", LONG_S) for _ in range(2)]
    connection = Connection(spool)
    puts = [lambda body=b"new %d" % number: spool.put(body, LONG_S) for number in range(8)]
    *ids, deleted = together(spool, [*puts, lambda: spool.done(old)])
    assert connection.statements.count("COMMIT") == 1
    assert deleted == [True, True]
    found = [spool.find(int(str(id))) for id in ids]
    assert [one.body for one in found if one] == [b"new %d" % number for number in range(8)]
    assert len(list(spool.jobs())) == 8


def test_more_than_one_transaction_takes_are_written_in_several(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_spool, "SHARES", 3)
    spool.check()
    connection = Connection(spool)
    said = together(spool, [lambda: spool.put(b"x", LONG_S)] * 8)
    assert len({str(id) for id in said}) == 8
    assert connection.statements.count("COMMIT") == 3


def test_a_put_that_finds_no_room_doesn_t_keep_deletes_from_making_some(spool: SqliteSpool) -> None:
    old = spool.put(b"x" * 100_000, LONG_S)
    assert spool._file is not None
    pages = spool._file.connection.execute("PRAGMA page_count").fetchone()[0]
    spool._file.connection.execute(f"PRAGMA max_page_count = {pages}")
    refused, deleted = together(spool, [lambda: spool.put(b"y" * 200_000, LONG_S), lambda: spool.done([old])])
    assert isinstance(refused, SpoolRefused)
    assert refused.hint == "make room on its disk"
    assert deleted == [True]
    assert list(spool.jobs()) == []
    spool.put(b"z" * 90_000, LONG_S)


@pytest.mark.parametrize(
    ("code", "expected"), [(sqlite3.SQLITE_IOERR_FSYNC, SpoolUnknown), (sqlite3.SQLITE_BUSY, SpoolRefused)]
)
def test_whoever_shares_a_transaction_that_fails_is_told_what_is_certain(
    spool: SqliteSpool, code: int, expected: type[Exception]
) -> None:
    old = spool.put(b"old", LONG_S)
    connection = Connection(spool)
    connection.error = sqlite3.OperationalError("no")
    connection.error.sqlite_errorcode = code
    *refused, deleted = together(spool, [*[lambda: spool.put(b"new", LONG_S)] * 2, lambda: spool.done([old])])
    assert [type(one) for one in refused] == [expected, expected]
    assert deleted == [False]
    assert connection.statements.count("COMMIT") == 1
    connection.error = None
    assert [body for _, _, body in spool.jobs()] == [b"old"]


def test_a_file_locked_by_another_process_for_long_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_spool, "BUSY_S", HASTY_S)
    spool = make(tmp_path / "spool.db")
    spool.check()
    other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolRefused, match="held the file's lock"):
        spool.put(b"x", LONG_S)
    other.close()
    spool.put(b"x", LONG_S)


def test_looking_for_claims_takes_no_lock_while_nothing_is_ready(tmp_path: Path) -> None:
    spool = make(tmp_path / "spool.db")
    spool.put(b"x", LONG_S)
    other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    assert spool.claim(10) == []
    assert time.monotonic() - started < PATIENCE_S / 2, "it waited for the lock"
    other.close()


def test_a_job_from_before_the_clock_was_put_back_is_claimable(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.put(b"x", LONG_S)
    assert spool.claim(10) == []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    assert [job.body for job in spool.claim(10)] == [b"x"]
    assert spool.claim(10) == [], "claimed by the clock as it is now"


def test_a_file_whose_folder_was_moved_is_not_made_anew_where_nobody_would_look(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    spool = make(before / "dc" / "spool.db")
    spool.put(b"kept", LONG_S)
    before.rename(after)
    with pytest.raises(SpoolRefused, match="its folder was moved or removed") as raised:
        spool.put(b"lost", LONG_S)
    assert str(tmp_path) not in raised.value.reason
    with pytest.raises(SpoolRefused, match="its folder was moved or removed"):
        spool.check()
    assert not before.exists()
    assert make(after / "dc" / "spool.db").stats()[0].waiting == 1


def test_a_file_that_was_removed_is_not_written_to(spool: SqliteSpool, tmp_path: Path) -> None:
    """SQLite would go on writing into the nameless file, which nobody can ever read."""
    old = spool.put(b"old", 0)
    for path in tmp_path.glob("spool.db*"):
        path.unlink()
    spool.put(b"new", 0)
    assert spool.done([old]) == [False], "the new file's first job has the old one's number"
    assert [job.body for job in make(tmp_path / "spool.db").claim(10)] == [b"new"]


def test_a_file_that_was_replaced_is_not_written_to(spool: SqliteSpool, tmp_path: Path) -> None:
    spool.put(b"old", 0)
    for path in tmp_path.glob("spool.db*"):
        path.unlink()
    other = make(tmp_path / "spool.db")
    other.check()
    spool.put(b"new", 0)
    assert [job.body for job in other.claim(10)] == [b"new"]


def test_a_folder_that_cannot_be_made_refuses_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = make(tmp_path / "file" / "spool.db")
    with pytest.raises(SpoolRefused, match=re.escape(str(tmp_path / "file"))):
        spool.put(b"x", 0)
    with pytest.raises(SpoolRefused):
        spool.check()
    assert spool.claim(1) == []
    assert not spool.stats()[0].usable


def test_a_file_that_is_no_database_refuses(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"something else" * 100)
    with pytest.raises(SpoolRefused, match="not a database"):
        make(tmp_path / "spool.db").check()


def test_a_refused_put_makes_the_spool_unhealthy_for_a_while(
    spool: SqliteSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_spool, "BUSY_S", HASTY_S)
    monkeypatch.setattr(sqlite_spool, "RECENT_S", PATIENCE_S)
    spool.check()
    other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolRefused):
        spool.put(b"x", LONG_S)
    other.close()
    with pytest.raises(SpoolRefused, match="locked"):
        spool.check()

    def healthy() -> bool:
        try:
            spool.check()
        except SpoolRefused:
            return False
        return True

    assert not healthy()
    monkeypatch.setattr(sqlite_spool, "RECENT_S", 0.2)
    wait_for(healthy, what="the refusal to be old")


def test_all_jobs_are_listed_for_the_audit(spool: SqliteSpool) -> None:
    spool.put(b"bad", 0)
    [bad] = claim_all(spool, 1)
    spool.bury(bad.id)
    spool.put(b"claimed", 0)
    claim_all(spool, 1)
    for number in range(250):
        spool.put(b"%d" % number, LONG_S)
    listed = list(spool.jobs())
    assert listed[:3] == [(True, 1, b"bad"), (False, 1, b"claimed"), (False, 0, b"0")]
    assert len(listed) == 252


def test_under_gevent_the_hub_turns_while_the_file_is_locked(tmp_path: Path) -> None:
    code = """
from gevent import monkey; monkey.patch_all()
import gevent, sqlite3, sys
from pathlib import Path
from hitmesh.spool import sqlite
sqlite.BUSY_S = 20
spool = sqlite.SqliteSpool(Path(sys.argv[1]), claim_s=60, longest_delay_s=60)
spool.check()
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
def turn():
    for _ in range(20):
        gevent.sleep(0.01)
    other.execute("COMMIT")
gevent.spawn(turn)
spool.put(b"x", 5)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "spool.db")], timeout=2 * START_S, check=True)


def test_under_gevent_nobody_is_passed_over_and_those_who_wait_share_syncs(tmp_path: Path) -> None:
    code = """
from gevent import monkey; monkey.patch_all()
import gevent, sys
from pathlib import Path
from hitmesh.spool.sqlite import SqliteSpool
spool = SqliteSpool(Path(sys.argv[1]), claim_s=60, longest_delay_s=60)
spool.check()
commits, puts = [], dict.fromkeys(range(8), 0)
spool._file.connection.set_trace_callback(lambda said: said == "COMMIT" and commits.append(1))
def work(name):
    while max(puts.values()) < 50:
        spool.put(b"x", 60)
        puts[name] += 1
gevent.joinall([gevent.spawn(work, name) for name in puts], raise_error=True)
print(min(puts.values()) > 40, len(commits) < sum(puts.values()) / 2)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "spool.db")]
    said = subprocess.run(arguments, capture_output=True, text=True, timeout=2 * START_S, check=True).stdout
    assert said == "True True\n"


def test_under_gevent_greenlets_share_the_file(tmp_path: Path) -> None:
    code = """
from gevent import monkey; monkey.patch_all()
import gevent, sys
from pathlib import Path
from hitmesh.spool.sqlite import SqliteSpool
spool = SqliteSpool(Path(sys.argv[1]), claim_s=60, longest_delay_s=60)
def work(name):
    for number in range(20):
        spool.put(b"%d %d" % (name, number), 0)
gevent.joinall([gevent.spawn(work, name) for name in range(20)], raise_error=True)
print(len(spool.claim(1000)))
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "spool.db")]
    assert subprocess.run(arguments, capture_output=True, text=True, timeout=2 * START_S, check=True).stdout == "400\n"


@pytest.mark.parametrize("stderr", ["without a reader", "full"])
def test_an_error_in_a_patched_process_comes_back_whatever_its_stderr_is(tmp_path: Path, stderr: str) -> None:
    code = """
import gevent.monkey
gevent.monkey.patch_all()
import os, sys
from pathlib import Path
from hitmesh.errors import SpoolRefused
from hitmesh.spool import sqlite
sqlite.BUSY_S = 0.1
spool = sqlite.SqliteSpool(Path(sys.argv[1]), claim_s=60, longest_delay_s=60)
for _ in range(2):
    try:
        spool.put(b"x", 0)
    except SpoolRefused as error:
        print(error.message, flush=True)
"""
    path = tmp_path / "spool.db"
    make(path).check()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with broken_pipe(full=stderr == "full") as pipe:
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=pipe, text=True, timeout=START_S, check=False)
    other.close()
    assert done.stdout == "database is locked\n" * 2
