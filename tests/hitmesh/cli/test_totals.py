"""Totals from the stores of a state folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hitmesh.cli.main import run
from hitmesh.protocol.messages import Head, encode, make
from hitmesh.protocol.pages import partition_of
from hitmesh.store import Done, Row, Write
from hitmesh.store.sqlite import SqliteTotals

DEV = Path(__file__).parents[3] / "config" / "dev.toml"
COUNTS = {
    "eu-west": {"a.example/x": 3, "a.example/y": 5, "b.example/z": 5},
    "us-west": {"a.example/x": 4, "b.example/only-here": 1},
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two datacenters; each also holds an old row of the other, which only the other may answer for."""
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
        head = encode(make(Head, "ledger", 1, "owner", 1, 0, {}, ()))
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
        (["--prefix", "c"], []),
    ],
)
def test_a_prefix_and_a_number_choose(
    state: Path, capsys: pytest.CaptureFixture[str], options: list[str], pages: list[str]
) -> None:
    assert run(["top", *options, "--json", "--state-dir", str(state)]) == 0
    assert [entry["page"] for entry in json.loads(capsys.readouterr().out)] == pages


@pytest.mark.parametrize("arguments", [["total", "a.example/x"], ["top"], ["audit"]])
def test_a_store_that_cannot_be_read_is_an_error_and_never_0(
    state: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    for name in ("totals.db-wal", "totals.db-shm"):
        (state / "us-west" / name).unlink(missing_ok=True)
    (state / "us-west" / "totals.db").write_bytes(b"not a database" * 100)
    assert run([*arguments, "--state-dir", str(state)]) == 1
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
