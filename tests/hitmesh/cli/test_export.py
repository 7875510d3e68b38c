"""Totals as tables for other programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from hitmesh.cli.main import run
from hitmesh.protocol.pages import partition_of
from hitmesh.store import Done, Row, Write
from hitmesh.store.sqlite import SqliteTotals
from tests.hitmesh.cli.test_totals import state  # noqa: F401 - a fixture

TOTALS = {"a.example/x": 7, "a.example/y": 5, "b.example/only-here": 1, "b.example/z": 5}


@pytest.mark.parametrize("name", ["totals.csv", "totals.jsonl", "totals.ndjson", "totals.json"])
def test_a_file_has_every_page_in_order(state: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    file = state / name
    assert run(["export", str(file), "--state-dir", str(state)]) == 0
    assert capsys.readouterr().out == f"4 pages in {file}\n"
    text = file.read_text()
    if name.endswith("csv"):
        rows = list(csv.DictReader(io.StringIO(text)))
        found = {row["page"]: int(row["total"]) for row in rows}
    else:
        entries = [json.loads(line) for line in text.splitlines()]
        found = {each["page"]: each["total"] for each in entries}
        assert entries[0]["dcs"] == {"eu-west": {"count": 3}, "us-west": {"count": 4}}
    assert found == TOTALS
    assert list(found) == sorted(TOTALS)


def test_standard_output_and_a_prefix(state: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:  # noqa: F811
    assert run(["export", "-", "--prefix", "a.example/", "--state-dir", str(state)]) == 0
    assert capfdbinary.readouterr().out == b"page,total\na.example/x,7\na.example/y,5\n"


def test_pages_with_commas_quotes_and_letters_come_back_as_they_are(state: Path) -> None:  # noqa: F811
    page = 'c.example/a,"b" é\u2003日'
    store = SqliteTotals(state / "eu-west" / "totals.db")
    known, number = partition_of("a.example/x", 32), partition_of(page, 32)
    ((head, _),) = store.read({known: ["a.example/x"]}).values()
    assert head is not None
    (outcome,) = store.write([Write(number, 0, head.body, [Row(page, "eu-west", 9, 1)])])
    assert isinstance(outcome, Done)
    store.close()
    for name in ("a.csv", "a.jsonl"):
        assert run(["export", str(state / name), "--state-dir", str(state)]) == 0
    rows = csv.DictReader(io.StringIO((state / "a.csv").read_text(), newline=""))
    assert {row["page"]: row["total"] for row in rows}[page] == "9"
    assert page in [json.loads(line)["page"] for line in (state / "a.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("totals.txt", [], "--format csv"),
        ("there.csv", [], "is there already"),
        ("no/where.csv", [], "can't be written"),
    ],
)
def test_a_file_that_cannot_be_written_changes_nothing(
    state: Path,  # noqa: F811
    name: str,
    options: list[str],
    word: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (state / "there.csv").write_text("mine")
    assert run(["export", str(state / name), *options, "--state-dir", str(state)]) == 1
    assert word in capsys.readouterr().err
    assert (state / "there.csv").read_text() == "mine"
    assert not list(state.glob(".*partial"))


def test_what_cannot_be_read_leaves_no_file(state: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    for dc in ("eu-west", "us-west"):
        (state / dc / "totals.db").write_bytes(b"no database" * 1000)
    assert run(["export", str(state / "totals.csv"), "--state-dir", str(state)]) == 1
    assert "can't be read" in capsys.readouterr().err
    assert not (state / "totals.csv").exists()
