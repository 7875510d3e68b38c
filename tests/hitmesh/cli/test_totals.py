"""Totals from the stores of a state folder."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli import totals
from hitmesh.cli.main import run
from hitmesh.protocol.messages import Head, Origin, Position, encode, make
from hitmesh.protocol.pages import partition_of
from hitmesh.settings.sqlite import SqliteSettings
from hitmesh.spool.sqlite import SqliteSpool
from hitmesh.store import Done, Row, Write
from hitmesh.store.sqlite import SqliteTotals

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
COUNTS = {
    "eu-west": {"a.example/x": 3, "a.example/y": 5, "b.example/z": 5},
    "us-west": {"a.example/x": 4, "b.example/only-here": 1},
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two datacenters; each also holds an old row of the other, for which the other answers while it can."""
    for index, (dc, counts) in enumerate(COUNTS.items()):
        text = DEV.read_text().replace('"dev"', f'"{dc}"').replace("80", f"8{index}")
        (tmp_path / dc).mkdir()
        (tmp_path / dc / "hitmesh.toml").write_text(text)
        store = SqliteTotals(tmp_path / dc / "totals.db")
        rows = [Row(page, dc, count, 1) for page, count in counts.items()]
        other = "us-west" if dc == "eu-west" else "eu-west"
        rows.append(Row("a.example/x", other, 2, 1))
        by_partition: dict[int, list[Row]] = {}
        for row in rows:
            by_partition.setdefault(partition_of(row.page, 32), []).append(row)
        origins = {other: Origin(Position("theirs", 1, 1), 0, {}, int(time.time()) - 100)}
        head = encode(make(Head, "ledger", 1, "owner", 1, 0, {}, (), origins, False, 0))
        outcomes = store.write([Write(partition, 0, head, some) for partition, some in by_partition.items()])
        assert all(isinstance(outcome, Done) for outcome in outcomes)
        store.close()
    return tmp_path


def test_a_total_is_the_sum_of_each_datacenters_own_count(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["total", "a.example/x", "--json", "--state-dir", str(state)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "page": "a.example/x",
        "total": 7,
        "dcs": {"eu-west": {"count": 3}, "us-west": {"count": 4}},
    }


def test_a_trailing_slash_makes_no_other_page(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["total", "a.example/y/", "--state-dir", str(state)]) == 0
    assert capsys.readouterr().out.split() == ["5", "a.example/y", "(eu-west", "5)"]


def test_a_page_without_hits_has_a_total_of_0(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["total", "a.example/nobody", "--json", "--state-dir", str(state)]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": "a.example/nobody", "total": 0, "dcs": {}}


def test_the_highest_come_first_and_equals_by_name(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--json", "--state-dir", str(state)]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"page": "a.example/x", "total": 7, "dcs": {"eu-west": {"count": 3}, "us-west": {"count": 4}}},
        {"page": "a.example/y", "total": 5, "dcs": {"eu-west": {"count": 5}}},
        {"page": "b.example/z", "total": 5, "dcs": {"eu-west": {"count": 5}}},
        {"page": "b.example/only-here", "total": 1, "dcs": {"us-west": {"count": 1}}},
    ]


@pytest.mark.parametrize(
    ("options", "pages"),
    [
        (["--prefix", "b.example/"], ["b.example/z", "b.example/only-here"]),
        (["-n", "2"], ["a.example/x", "a.example/y"]),
        (["--prefix", "b.example/z/"], ["b.example/z"]),  # the same page with its slash
        (["--prefix", "b.example/z/z"], []),
        (["--prefix", "c"], []),
    ],
)
def test_a_prefix_and_a_number_choose(
    state: Path, capsys: pytest.CaptureFixture[str], options: list[str], pages: list[str]
) -> None:
    assert run(["top", *options, "--json", "--state-dir", str(state)]) == 0
    assert [entry["page"] for entry in json.loads(capsys.readouterr().out)] == pages


def spoil(state: Path, dc: str) -> None:
    """Make a datacenter's store unreadable."""
    for name in ("totals.db-wal", "totals.db-shm"):
        (state / dc / name).unlink(missing_ok=True)
    (state / dc / "totals.db").write_bytes(b"not a database" * 100)


@pytest.mark.parametrize(
    ("arguments", "total", "page"), [(["total", "a.example/x"], 5, "a.example/x"), (["top"], 5, "a.example/x")]
)
def test_of_a_store_that_can_t_be_read_another_s_copy_is_taken_with_its_age(
    state: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], total: int, page: str
) -> None:
    spoil(state, "us-west")
    assert run([*arguments, "--json", "--state-dir", str(state)]) == 0
    shown = capsys.readouterr()
    data = json.loads(shown.out)
    found = next(each for each in (data if isinstance(data, list) else [data]) if each["page"] == page)
    age_s = found["dcs"]["us-west"].pop("age_s")
    assert found == {"page": page, "total": total, "dcs": {"eu-west": {"count": 3}, "us-west": {"count": 2}}}
    assert 100 <= age_s < 160
    assert "of us-west can't be read" in shown.err
    assert "its counts are eu-west's copy, 10" in shown.err
    assert shown.err.count("\n") == 1


def test_of_a_store_that_was_wiped_another_s_copy_is_taken(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (state / "us-west").glob("totals.db*"):
        path.unlink()
    assert run(["total", "a.example/x", "--json", "--state-dir", str(state)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["total"] == 5
    assert "still to be brought back: its counts are eu-west's copy" in shown.err


@pytest.mark.parametrize("arguments", [["total", "a.example/x"], ["top"]])
def test_counts_that_nobody_has_are_an_error_and_never_0(
    state: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    for dc in COUNTS:
        spoil(state, dc)
    assert run([*arguments, "--state-dir", str(state)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "of eu-west can't be read" in shown.err
    assert "nobody else here has a copy" in shown.err
    assert shown.err.count("\n") == 1


def test_where_slashes_are_kept_a_page_with_one_has_its_own_total(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = SqliteTotals(state / "eu-west" / "totals.db")
    partition = partition_of("a.example/y/", 32)
    before = store.read_head(partition)
    head = encode(make(Head, "ledger", 1, "owner", 1, 0, {}, (), {}, False, 0))
    row = Row("a.example/y/", "eu-west", 9, 1)
    assert isinstance(store.write([Write(partition, before.index if before else 0, head, [row])])[0], Done)
    store.close()
    for page, count in (("a.example/y/", 9), ("a.example/y", 5), ("a.example/x/", 7)):
        assert run(["total", page, "--json", "--state-dir", str(state)]) == 0
        assert json.loads(capsys.readouterr().out)["total"] == count


def test_an_audit_of_a_store_that_can_t_be_read_is_an_error(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(state, "us-west")
    assert run(["audit", "--state-dir", str(state)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "of us-west can't be read" in shown.err
    assert shown.err.count("\n") == 1


def test_a_stopped_mesh_is_audited_from_its_files(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The rows were written without the heads counting them.
    assert run(["audit", "--json", "--state-dir", str(state)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["balanced"] is False
    partition = partition_of("b.example/only-here", 32)
    assert f"us-west: partition {partition}: its rows sum to 1, its head says 0 hits" in report["problems"]


def add_copy(state: Path, page: str, count: int) -> None:
    """us-west has a copy of eu-west's count of a page."""
    store = SqliteTotals(state / "us-west" / "totals.db")
    partition = partition_of(page, 32)
    before = store.read_head(partition)
    assert before is not None
    row = Row(page, "eu-west", count, 1)
    assert isinstance(store.write([Write(partition, before.index, None, [row])])[0], Done)
    store.close()


def audited(state: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    run(["audit", "--json", "--state-dir", str(state)])
    return json.loads(capsys.readouterr().out)


def test_an_audit_says_how_far_the_copies_in_the_other_datacenters_are(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = audited(state, capsys)
    copy = report["dcs"]["eu-west"]["replicated"]["us-west"]
    assert (copy["hits"], copy["behind"]) == (2, 11)
    assert 100 <= copy["age_s"] < 160
    assert report["dcs"]["us-west"]["replicated"]["eu-west"]["hits"] == 2
    assert report["lost"] == 0
    assert not [problem for problem in report["problems"] if "copy" in problem]
    run(["audit", "--state-dir", str(state)])
    assert "copy in us-west: 2 hits, 11 behind" in capsys.readouterr().out


def test_a_copy_that_has_more_than_its_original_is_a_difference_unless_that_one_is_retired(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_copy(state, "a.example/x", 5)
    problem = "eu-west: 2 hits are counted in us-west's copy, and not at home: on a.example/x"
    assert problem in audited(state, capsys)["problems"]
    settings = SqliteSettings(state / "us-west" / "settings.db")
    settings.set("datacenters/eu-west", b"retired", author="test")
    settings.close()
    assert problem not in audited(state, capsys)["problems"]


def test_books_are_compared_without_settings_too(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dc in COUNTS:
        (state / dc / "settings.db").write_bytes(b"not a database" * 100)
    assert run(["audit", "--json", "--state-dir", str(state)]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["problems"]
    assert "retired isn't known" in shown.err


def test_what_a_wiped_store_lost_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "hitmesh.toml").write_text(DEV.read_text().replace('"dev"', '"one"'))
    store = SqliteTotals(tmp_path / "one" / "totals.db")
    head = encode(make(Head, "ledger", 1, "owner", 1, 9, {}, (), {}, False, 2))
    partition = partition_of("a.example/x", 32)
    assert isinstance(store.write([Write(partition, 0, head, [Row("a.example/x", "one", 7, 1)])])[0], Done)
    store.close()
    assert run(["audit", "--json", "--state-dir", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["balanced"], report["committed"], report["lost"], report["dcs"]["one"]["lost"]) == (True, 9, 2, 2)
    assert report["dcs"]["one"]["replicated"] == {}
    assert run(["audit", "--state-dir", str(tmp_path)]) == 0
    assert "in flight 0, 2 lost" in capsys.readouterr().out


# --- a partition that can't be read --------------------------------------------------------------

BAD = partition_of("b.example/only-here", 32)
assert BAD not in {partition_of(page, 32) for page in ("a.example/x", "a.example/y", "b.example/z")}


@pytest.fixture(params=["a head", "a row"])
def spoiled(state: Path, request: pytest.FixtureRequest) -> Path:
    """One partition of us-west, of which nobody has a copy."""
    with contextlib.closing(sqlite3.connect(state / "us-west" / "totals.db")) as db:
        if request.param == "a head":
            db.execute("UPDATE heads SET body = x'93011f' WHERE partition = ?", (BAD,))
        else:
            db.execute("UPDATE rows SET count = 'many' WHERE partition = ?", (BAD,))
        db.commit()
    return state


def test_a_partition_that_can_t_be_read_hides_no_other(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--json", "--state-dir", str(spoiled)]) == 0
    shown = capsys.readouterr()
    assert [each["total"] for each in json.loads(shown.out)] == [7, 5, 5]
    assert f"partition {BAD}" in shown.err
    assert run(["total", "a.example/x", "--json", "--state-dir", str(spoiled)]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 7


def test_a_page_that_can_t_be_read_is_not_0(spoiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["total", "b.example/only-here", "--state-dir", str(spoiled)]) == 1
    assert f"partition {BAD}" in capsys.readouterr().err


def test_an_audit_goes_on_past_a_partition_that_can_t_be_read(
    spoiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["audit", "--json", "--state-dir", str(spoiled)]) == 1
    found = json.loads(capsys.readouterr().out)["dcs"]["us-west"]
    assert [problem for problem in found["problems"] if f"partition {BAD}" in problem and "can't be read" in problem]


def test_an_audit_goes_on_past_a_job_that_can_t_be_read(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["audit", "--json", "--state-dir", str(state)])
    before = json.loads(capsys.readouterr().out)["dcs"]["eu-west"]["problems"]
    spool = SqliteSpool(state / "eu-west" / "spool.db", claim_s=10, longest_delay_s=60)
    spool.put(b"nonsense", 60.0)
    spool.close()
    assert run(["audit", "--json", "--state-dir", str(state)]) == 1
    after = json.loads(capsys.readouterr().out)["dcs"]["eu-west"]["problems"]
    assert "job in the spool can't be read" in (set(after) - set(before)).pop()


def test_a_store_that_cannot_be_read_ends_no_watching_of_the_top(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[list[str]] = []

    def twice(look: Callable[[], list[str]]) -> None:
        looks.append(look())
        (state / "us-west" / "totals.db").write_bytes(b"not a database")
        looks.append(look())

    monkeypatch.setattr(totals, "redraw", twice)
    assert run(["top", "-w", "-n", "1", "--state-dir", str(state)]) == 0
    (heading, _, first), (_, note, _, second) = looks
    assert heading.startswith("hitmesh top, ")
    assert first.split()[:2] == ["7", "a.example/x"]
    assert note.startswith("! the totals of us-west can't be read: ")
    assert second.split()[:2] == ["5", "a.example/x"]
