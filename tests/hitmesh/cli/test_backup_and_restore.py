"""Backups of a state folder's stores, and what restoring them makes of empty ones: no process runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli import datacenter, drill
from hitmesh.cli.backup_file import BackupFile, Partition, Rows
from hitmesh.cli.main import run
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import (
    ERA,
    UNFINISHED,
    Head,
    LaneState,
    Origin,
    Position,
    RedoRow,
    decode_head,
    encode,
    make,
)
from hitmesh.protocol.pages import partition_of
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.store import Done, Row, Write
from hitmesh.store.sqlite import SqliteTotals
from hitmesh.store.totals import read_totals
from tests.services import require, wait_for
from tests.services.consul import ELECTION_S, ConsulServer

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
PARTITIONS = 32
DCS = ("eu-west", "us-west")
COUNTS = {
    "eu-west": {"a.example/x": 3, "a.example/y": 5, "b.example/z": 5},
    "us-west": {"a.example/x": 4, "b.example/only-here": 1},
}
LANES = {"collector-1.0a": LaneState(7, ((9, 9),), 1, 1_790_000_000)}


def write_totals(folder: Path, dc: str, *, redo: bool = False) -> None:
    """A datacenter's totals, with the other one's as of the same moment."""
    [other] = {*DCS} - {dc}
    writes = []
    with contextlib.closing(SqliteTotals(folder / dc / "totals.db")) as store:
        for partition in range(PARTITIONS):
            rows = [
                Row(page, one, count, 4)
                for one, counts in COUNTS.items()
                for page, count in counts.items()
                if partition_of(page, PARTITIONS) == partition
            ]
            hits = {one: sum(row.count for row in rows if row.dc == one) for one in DCS}
            origins = (
                {other: Origin(Position("theirs", 1003, 4), hits[other], {}, 1_790_000_000)} if hits[other] else {}
            )
            lanes = LANES if hits[dc] else {}
            redone = tuple(RedoRow(row.page, row.dc, row.count, row.commit) for row in rows) if redo else ()
            head = make(Head, "ours", 1002, "owner", 4, hits[dc], lanes, redone, origins, False, 0)
            stale = [Row(row.page, row.dc, row.count - 1, 3) for row in rows]
            writes.append(Write(partition, 0, encode(head), stale if redo else rows))
        assert all(isinstance(outcome, Done) for outcome in store.write(writes))


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Nexus runs: waiting for one shows nothing."""
    monkeypatch.setattr(datacenter, "ASK_S", 0.02)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datacenters that have counted, and their backup."""
    folder = tmp_path_factory.mktemp("made")
    for index, dc in enumerate(DCS):
        (folder / dc).mkdir()
        text = DEV.read_text().replace('"dev"', f'"{dc}"').replace("80", f"8{index}")
        text = text.replace("insecure = false", "insecure = true")
        (folder / dc / "hitmesh.toml").write_text(text.replace("nexus = 2\n", "nexus = 1\n"))
        write_totals(folder, dc)
    with contextlib.closing(SqliteSettings(folder / DCS[0] / "settings.db")) as settings:
        settings.set("timing.commit_s", b"0.1", author="anna")
        settings.set("pages.query", b"keep", author="anna")
        settings.delete("pages.query", author="anna")
        settings.set("formats/wire", b"2", author="anna")  # of this mesh: no backup has it
    assert run(["backup", str(folder / "some.backup"), "--state-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "var"))


@pytest.fixture
def backup(state: Path) -> Path:
    return state / "some.backup"


def wipe(state: Path, *dcs: str) -> None:
    for dc in dcs or DCS:
        for path in (state / dc).glob("totals.db*"):
            path.unlink()


def restored(state: Path, dc: str = DCS[0]) -> dict[str, dict[str, int]]:
    with contextlib.closing(SqliteTotals(state / dc / "totals.db")) as store:
        return read_totals(store)


def heads(state: Path, dc: str = DCS[0]) -> dict[int, Head]:
    with contextlib.closing(SqliteTotals(state / dc / "totals.db")) as store:
        return {at: decode_head(stored.body) for at, stored, _ in store.scan() if stored}


EXPECTED = {
    page: {dc: counts[page] for dc, counts in COUNTS.items() if page in counts}
    for page in sorted({page for counts in COUNTS.values() for page in counts})
}


def failed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert run(words) == 1
    return capsys.readouterr().err


def test_what_is_backed_up_comes_back(state: Path, backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wipe(state)
    assert run(["restore", str(backup), "--state-dir", str(state)]) == 0
    assert "18 hits of 4 pages, of 2 datacenters" in capsys.readouterr().out
    assert restored(state) == EXPECTED
    assert not (state / DCS[1] / "totals.db").exists() or restored(state, DCS[1]) == {}


def test_lanes_come_back_in_another_history_and_era(state: Path, backup: Path) -> None:
    wipe(state)
    assert run(["restore", str(backup), "--state-dir", str(state)]) == 0
    found = heads(state)
    assert set(found) == set(range(PARTITIONS))
    at = partition_of("a.example/x", PARTITIONS)
    assert (found[at].lanes, found[at].hits, found[at].commit) == (LANES, 3, 4)
    assert (found[at].origins["us-west"].lanes, found[at].origins["us-west"].hits) == (LANES, 4)
    assert {head.epoch for head in found.values()} == {2 * ERA}
    ledgers = [head.ledger for head in found.values()] + [
        one.position.ledger for head in found.values() for one in head.origins.values()
    ]
    assert len(set(ledgers)) == len(ledgers)
    assert not {"ours", "theirs"} & set(ledgers)


def test_a_commit_whose_rows_are_not_written_yet_is_backed_up(state: Path, tmp_path: Path) -> None:
    wipe(state)
    for dc in DCS:
        write_totals(state, dc, redo=True)
    assert run(["backup", str(tmp_path / "b"), "--state-dir", str(state)]) == 0
    wipe(state)
    assert run(["restore", str(tmp_path / "b"), "--state-dir", str(state)]) == 0
    assert restored(state) == EXPECTED


def test_live_settings_come_back_above_what_is_there(
    state: Path, backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wipe(state)
    with contextlib.closing(SqliteSettings(state / DCS[0] / "settings.db")) as settings:
        later = settings.set("timing.commit_s", b"0.5", author="bob")
        settings.set("pages.query", b"keep", author="bob")
        assert run(["restore", str(backup), "--state-dir", str(state)]) == 0
        now = settings.list()
    assert (now["timing.commit_s"].value, now["pages.query"].value) == (b"0.1", b"keep")
    assert now["timing.commit_s"].version > later.version
    assert (
        "1 live settings are as they were, 1 of them set anew; 2 that the backup doesn't have stay"
        in capsys.readouterr().out
    )


def test_a_mesh_that_has_counts_is_left_alone(state: Path, backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wipe(state, DCS[0])
    said = failed(["restore", str(backup), "--state-dir", str(state)], capsys)
    assert "us-west has totals" in said
    assert "totals.db*" in said
    assert restored(state, DCS[1]) == EXPECTED
    assert not restored(state)


def test_a_restore_that_broke_off_is_not_counted_on_and_goes_on(
    state: Path, backup: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wipe(state)
    writes = 0
    write = SqliteTotals.write

    def breaks_off(self: SqliteTotals, given: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes > PARTITIONS + 1 + PARTITIONS // 2:  # amid the heads
            raise KeyboardInterrupt
        return write(self, given)

    with monkeypatch.context() as patch:
        patch.setattr(SqliteTotals, "write", breaks_off)
        assert run(["restore", str(backup), "--state-dir", str(state)]) == 130
    with contextlib.closing(SqliteTotals(state / DCS[0] / "totals.db")) as store:
        assert any(stored.body.startswith(UNFINISHED) for _, stored, _ in store.scan() if stored)
    assert run(["top", "--state-dir", str(state)]) == 0
    assert "`hitmesh restore` with the same file ends it" in capsys.readouterr().err
    assert run(["restore", str(backup), "--state-dir", str(state)]) == 0
    assert restored(state) == EXPECTED


def test_another_backup_does_not_go_on_where_one_broke_off(
    state: Path, backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wipe(state)
    with contextlib.closing(SqliteTotals(state / DCS[0] / "totals.db")) as store:
        store.write([Write(0, 0, UNFINISHED + b"another", ())])
    said = failed(["restore", str(backup), "--state-dir", str(state)], capsys)
    assert "a restore of another backup broke off in eu-west" in said


def test_a_backup_that_was_altered_changes_nothing(
    state: Path, backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wipe(state)
    data = backup.read_bytes()
    backup.write_bytes(data[:400] + bytes([data[400] ^ 1]) + data[401:])
    assert "cut or altered" in failed(["restore", str(backup), "--state-dir", str(state)], capsys)
    assert not list(state.glob("*/totals.db"))


def test_another_number_of_partitions_is_refused(state: Path, backup: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wipe(state)
    for dc in DCS:
        path = state / dc / "hitmesh.toml"
        path.write_text(path.read_text().replace("partitions = 32", "partitions = 16"))
    assert "16 partitions, and the backup 32" in failed(["restore", str(backup), "--state-dir", str(state)], capsys)


def test_a_backup_is_never_written_over_another_one(
    state: Path, backup: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = backup.read_bytes()
    assert "is there already" in failed(["backup", str(backup), "--state-dir", str(state)], capsys)
    assert backup.read_bytes() == before
    assert [path.name for path in backup.parent.iterdir() if path.name.startswith(".")] == []


def test_in_a_folder_it_is_named_by_the_moment(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    assert run(["backup", str(folder), "--state-dir", str(state), "--json"]) == 0
    [path] = folder.iterdir()
    said = json.loads(capsys.readouterr().out)
    assert (said["file"], said["hits"], said["pages"]) == (str(path), 18, 4)
    assert said["at"] == f"{path.name[8:21]}:{path.name[21:23]}:{path.name[23:25]}Z"


def restore_refuses() -> None:
    raise CommandError("the mesh counts")


def test_a_dry_restore_says_what_would_be_in_the_way_and_writes_nothing(
    made: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["restore", str(state / "some.backup"), "--state-dir", str(state), "--dry"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hitmesh.cli.restore.check_stopped", lambda *_: restore_refuses())
        assert "has totals" in failed(words, capsys)  # which isn't mended by stopping it
        assert "the mesh counts" in failed(words[:-1], capsys)
        wipe(state)
        assert "the mesh counts" in failed(words, capsys)
    assert run(words) == 0
    assert capsys.readouterr().out.startswith(f"{DCS[0]} could have what was counted until ")
    assert run(words) == 0
    capsys.readouterr()
    assert run(words[:-1]) == 0
    assert f"start it; {DCS[1]} takes theirs from it" in capsys.readouterr().out


def test_standard_output_and_input_do(state: Path, backup: Path) -> None:
    hitmesh = [sys.executable, "-m", "hitmesh"]
    where = ["--state-dir", str(state)]
    done = subprocess.run([*hitmesh, "backup", "-", *where], capture_output=True, check=True)
    said = done.stderr.decode().splitlines()
    assert said[0].startswith("standard output: 18 hits of 4 pages")
    assert [line.split()[0] for line in said[1:]] == list(DCS)
    wipe(state)
    subprocess.run([*hitmesh, "restore", "-", *where], input=done.stdout, capture_output=True, check=True)
    assert restored(state) == EXPECTED


def test_a_backup_from_one_kind_of_store_comes_back_in_another(made: Path, state: Path, tmp_path: Path) -> None:
    require("consul")
    wipe(state)
    consul = ConsulServer(tmp_path / "consul")
    try:
        consul.start()
        wait_for(consul.has_leader, within_s=ELECTION_S, what="Consul's leader")
        url = f"consul://127.0.0.1:{consul.ports.http}/pages"
        path = state / DCS[0] / "hitmesh.toml"
        path.write_text(path.read_text().replace('totals = "sqlite:///totals.db"', f'totals = "{url}"'))
        assert run(["restore", str(state / "some.backup"), "--state-dir", str(state)]) == 0
        assert run(["backup", str(state / "again.backup"), "--stale", "--state-dir", str(state)]) == 0
    finally:
        consul.stop()
    with BackupFile(state / "again.backup") as again, BackupFile(made / "some.backup") as before:
        rows = [
            sorted(
                (line.dc, row.page, row.count) for line in each.lines() if isinstance(line, Rows) for row in line.rows
            )
            for each in (again, before)
        ]
    assert rows[0] == rows[1]


def damage(state: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / DCS[1] / "totals.db")) as db, db:
        db.execute("UPDATE heads SET body = x'00' WHERE partition = 3")


def forget(state: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / DCS[1] / "totals.db")) as db, db:
        db.execute("DELETE FROM heads WHERE partition = 3")


def restoring(state: Path) -> None:
    head = make(Head, "ours", 1, "owner", 0, 0, {}, (), {}, True, 0)
    with contextlib.closing(SqliteTotals(state / DCS[1] / "totals.db")) as store:
        stored = store.read_head(3)
        assert stored is not None
        store.write([Write(3, stored.index, encode(head), ())])


def not_here(state: Path) -> None:
    for path in (state / DCS[1]).iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (damage, "us-west: the totals can't be read"),
        (forget, "us-west: 1 partitions have no head"),
        (restoring, "us-west: 1 partitions are still being brought back"),
        (not_here, "1 of 2 datacenters would be incomplete"),
    ],
)
def test_a_datacenter_that_can_t_be_read_fails_the_backup_or_is_named_in_it(
    state: Path, tmp_path: Path, spoil: Callable[[Path], None], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(state)
    path = tmp_path / "b"
    assert why in failed(["backup", str(path), "--state-dir", str(state)], capsys)
    assert not path.exists()
    assert run(["backup", str(path), "--stale", "--state-dir", str(state)]) == 0
    assert "the copy of us-west's counts in eu-west has an age that nobody says" in capsys.readouterr().err
    with BackupFile(path) as made:
        source = made.header.datacenters["us-west"]
        assert (source.copy_in, source.age_s, source.hits) == ("eu-west", None, 5)
        assert {
            line.origin.position.ledger for line in made.lines() if isinstance(line, Partition) and line.dc == "us-west"
        } == {"theirs"}


def test_a_drill_restores_a_backup_elsewhere_and_leaves_nothing(backup: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:  # a short name: supervisord's socket is in it
        command = [str(Path(sys.executable).parent / "hitmesh"), "drill", str(backup.resolve())]
        environment = {**os.environ, "TMPDIR": temporary}
        (Path(temporary) / "hitmesh").mkdir()  # what a clone's parent has, which isn't the package
        drilled = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=temporary)
        left = list(Path(temporary).glob("hitmesh-*"))
    assert drilled.returncode == 0, drilled.stdout + drilled.stderr
    assert "compared 4 pages with 18 hits, and 1 settings, in eu-west, us-west" in drilled.stdout
    assert "all are equal" in drilled.stdout
    assert left == []
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if temporary.encode() in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_drill_names_every_count_that_is_not_the_same() -> None:
    expected = {"a/x": {"eu-west": 3, "us-west": 4}, "a/y": {"eu-west": 5}}
    assert list(drill.differences("us-west", expected, expected)) == []
    found = {"a/x": {"eu-west": 3, "us-west": 5}, "a/z": {"eu-west": 1}}
    assert [each.line for each in drill.differences("us-west", expected, found)] == [
        "a/x of us-west: 4 in the backup, 5 in us-west",
        "a/y of eu-west: 5 in the backup, nothing in us-west",
        "a/z of eu-west: nothing in the backup, 1 in us-west",
    ]
