"""A dashboard's looks into spools: how much waits, since when, what can't be used; and nothing is changed by them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hitmesh.config import Config, Node, Stores
from hitmesh.dashboard import spooled
from hitmesh.dashboard.spooled import Look, Spools
from hitmesh.dashboard.status import Spool
from hitmesh.protocol.messages import Job, Part, encode, make
from hitmesh.spool.sqlite import SqliteSpool
from tests.hitmesh.spool.conftest import Place
from tests.services.beanstalkd import Beanstalkd
from tests.services.disks import full, small_disk

TUBE = "looks"


def spools(base: Path, *urls: str) -> Spools:
    return Spools(Config(name="eu", nodes={"here": Node(address="127.0.0.1")}, stores=Stores(spools=urls)), base)


def seen(watched: Spools) -> tuple[Look, Sequence[Spool]]:
    look = watched.look()
    return look, watched.shown()


def job(seq: int, age_s: float) -> bytes:
    created_ms = int((time.time() - age_s) * 1000)
    return encode(make(Job, "w1", created_ms, (Part(0, seq, 1, {"a.example/x": 3}),)))


def near(age_s: float | None, wanted_s: float) -> bool:
    return age_s is not None and wanted_s <= age_s < wanted_s + 30


def test_a_file_that_is_not_there_is_empty_and_is_not_made(tmp_path: Path) -> None:
    look, shown = seen(spools(tmp_path, "sqlite:///spool.db"))
    assert (shown[0].depth, shown[0].usable, look.whole) == (0, True, True)
    assert list(tmp_path.iterdir()) == []


def test_jobs_in_a_file_are_listed_and_stay_as_they_are(tmp_path: Path, make_place: Callable[..., Place]) -> None:
    spool = make_place("sqlite:///spool.db").open()
    spool.put(job(1, 40.0), 60)
    spool.put(job(2, 5.0), 0)
    spool.put(b"nonsense", 60)
    before = (tmp_path / "spool.db").read_bytes(), (tmp_path / "spool.db-wal").read_bytes()
    look, shown = seen(spools(tmp_path, "sqlite:///spool.db"))
    assert (shown[0].depth, shown[0].buried) == (3, 0)
    assert near(shown[0].oldest_s, 40.0)
    assert look.spooled.jobs is not None
    assert [each.parts[0].seq for each in look.spooled.jobs] == [1, 2]
    assert len(look.spooled.bad) == 1
    assert ((tmp_path / "spool.db").read_bytes(), (tmp_path / "spool.db-wal").read_bytes()) == before
    (claimed,) = spool.claim(9)
    assert claimed.claims == 1, "looking claims nothing"


def test_of_too_many_jobs_only_the_number_is_told(
    tmp_path: Path, make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooled, "MAX_LISTED", 2)
    spool = make_place("sqlite:///spool.db").open()
    for seq in range(1, 4):
        spool.put(job(seq, 0.0), 60)
    look, shown = seen(spools(tmp_path, "sqlite:///spool.db"))
    assert (look.spooled.jobs, look.spooled.count, shown[0].depth) == (None, 3, 3)


def test_a_file_that_is_none_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"nothing of the kind" * 100)
    look, shown = seen(spools(tmp_path, "sqlite:///spool.db"))
    assert (shown[0].usable, look.whole, shown[0].depth) == (False, False, None)
    assert shown[0].why == "file is not a database"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        spool = SqliteSpool(folder / "spool.db", claim_s=60, longest_delay_s=60)
        spool.put(job(1, 0.0), 60)
        watched = spools(folder, "sqlite:///spool.db")
        assert seen(watched)[1][0].usable
        with full(folder):
            found = seen(watched)[1][0]
            assert (found.usable, found.why, found.depth) == (False, "no room on its disk", 1)
        assert seen(watched)[1][0].usable
        spool.close()


def test_a_pair_of_servers_each_for_itself(
    tmp_path: Path, servers: list[Beanstalkd], make_place: Callable[..., Place]
) -> None:
    urls = [server.url(TUBE) for server in servers]
    spool = make_place(*urls).open()
    spool.put(job(1, 40.0), 60)
    spool.put(job(2, 5.0), 0)
    watched = spools(tmp_path, *urls)
    look, shown = seen(watched)
    assert [(each.name, each.depth, each.usable) for each in shown] == [(url, 2, True) for url in urls]
    assert all(near(each.oldest_s, 40.0) for each in shown)
    assert (look.spooled.jobs, look.spooled.count, look.whole) == (None, 2, True)
    assert len(spool.claim(9)) == 2, "the ready one of each copy: looking claims nothing"
    servers[1].kill()
    look, shown = seen(watched)
    assert [(each.usable, each.depth) for each in shown] == [(True, 2), (False, None)]
    assert shown[1].why
    assert (look.spooled.count, look.whole) == (2, True), "the other one has every job"
    servers[0].kill()
    assert not watched.look().whole
    watched.close()


def test_what_was_set_aside_is_counted(tmp_path: Path, make_place: Callable[..., Place]) -> None:
    spool = make_place("sqlite:///spool.db").open()
    spool.put(job(1, 0.0), 0)
    (claimed,) = spool.claim(1)
    spool.bury(claimed.id)
    _, shown = seen(spools(tmp_path, "sqlite:///spool.db"))
    assert (shown[0].depth, shown[0].buried, shown[0].oldest_s) == (0, 1, None)


def test_looking_holds_no_lock(
    tmp_path: Path, make_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put while a look is in the middle of its reading goes through at once."""
    spool = make_place("sqlite:///spool.db").open()
    spool.put(job(1, 0.0), 60)
    during: list[float] = []

    def age_s(bodies: object, wall: float) -> None:
        db = sqlite3.connect(tmp_path / "spool.db", timeout=0.0)
        db.execute("INSERT INTO jobs (ready_at, body) VALUES (0, x'00')")
        db.commit()
        db.close()
        during.append(wall)

    monkeypatch.setattr(spooled, "_age_s", age_s)
    assert spools(tmp_path, "sqlite:///spool.db").look().whole
    assert during


def test_a_log_that_was_left_behind_stays_as_it_is(tmp_path: Path, make_place: Callable[..., Place]) -> None:
    """Whoever opens such a file last and may write would put the log into it."""
    make_place("sqlite:///spool.db").open().put(job(1, 0.0), 60)
    folder = tmp_path / "killed"
    folder.mkdir()
    for name in ("spool.db", "spool.db-wal"):
        (folder / name).write_bytes((tmp_path / name).read_bytes())
    before = [(folder / name).read_bytes() for name in ("spool.db", "spool.db-wal")]
    assert seen(spools(folder, "sqlite:///spool.db"))[1][0].depth == 1
    assert [(folder / name).read_bytes() for name in ("spool.db", "spool.db-wal")] == before
