"""docs/protocol.md says what the code does: kinds, fields, types, bounds, limits."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec import Meta

from hitmesh.protocol import bounds, messages, pages
from hitmesh.protocol.messages import MESSAGES, Message
from hitmesh.store import sqlite as sqlite_store
from hitmesh.store.consul_keys import Keys

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
RECORDS: dict[str, Any] = {
    name: record
    for name, record in vars(messages).items()
    if isinstance(record, type)
    and issubclass(record, messages._Array)
    and record not in (messages._Array, messages.Message)
}
CONSTANTS = {
    **{name: value for name, value in vars(messages).items() if re.fullmatch(r"VERSION|MAX_\w+", name)},
    "MAX_PAGE_BYTES": pages.MAX_PAGE_BYTES,
}
BOUNDED = {
    name: meta
    for name, declared in vars(messages).items()
    if name[0].isupper()
    for meta in get_args(declared)[1:]
    if isinstance(meta, Meta)
}


def section(title: str) -> str:
    """What stands under a heading that begins with `title`, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(title)}(?: \(\d+\))?\n(.*?)(?=^#+ |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


def test_every_kind_is_listed_with_its_number() -> None:
    listed = {row[1].strip("`"): int(row[0]) for row in rows("Kinds")}
    assert listed == {kind.__name__: kind.KIND for kind in MESSAGES}


def test_every_limit_is_listed_with_its_value() -> None:
    assert {row[0].strip("`"): number(row[1]) for row in rows("Limits")} == CONSTANTS


def test_every_type_is_listed_with_its_bounds() -> None:
    listed = {row[0].strip("`"): (number(row[2]), number(row[3])) for row in rows("Types")}
    declared = {}
    for name, meta in BOUNDED.items():
        least = meta.ge if meta.ge is not None else meta.min_length or 0
        most = meta.lt - 1 if meta.lt is not None else meta.le if meta.le is not None else meta.max_length
        declared[name] = (least, most)
    assert listed == declared


@pytest.mark.parametrize("name", RECORDS)
def test_the_fields_are_listed_in_their_order(name: str) -> None:
    listed = [row[0].strip("`") for row in rows(name)]
    fields = list(RECORDS[name].__struct_fields__)
    if issubclass(RECORDS[name], Message):
        assert fields[:2] == ["version", "kind"]
        fields = fields[2:]
    assert listed == fields


@pytest.mark.parametrize("name", RECORDS)
def test_a_fields_type_and_bounds_are_as_declared(name: str) -> None:
    for field, cell, *_ in rows(name):
        declared = RECORDS[name].__annotations__[field.strip("`")]
        if declared == "bool":
            assert cell == "boolean"
            continue
        types = re.findall(r"\b[A-Z]\w+\b(?<!Meta)(?<!Annotated)(?<!None)", re.sub(r"MAX_\w+", "", declared))
        assert re.findall(r"`(\w+)`", cell) == types, f"{name}.{field}: {declared}"
        assert ("or nil" in cell) == ("None" in declared), f"{name}.{field}: {declared}"
        bounds = [CONSTANTS[constant] for constant in re.findall(r"MAX_\w+", declared)]
        bounds = [int(least) for least in re.findall(r"min_length=(\d+)", declared)] + bounds
        assert [number(found) for found in re.findall(r"\d[\d,]*", cell)] == bounds, f"{name}.{field}: {declared}"


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_a_messages_heading_has_its_number(kind: type[Message]) -> None:
    assert re.search(rf"^### {kind.__name__} \({kind.KIND}\)$", DOCUMENT, re.MULTILINE)


def test_consuls_keys_are_as_written() -> None:
    written = [row[0].strip("`") for row in rows("In Consul")]
    filled = [key.replace("<prefix>", "p").replace("<partition>", "0007") for key in written]
    keys = Keys("p")
    assert filled == [keys.head(7), keys.row(7, "PAGE", "DC").replace("PAGE", "<page>").replace("DC", "<dc>")]
    assert keys.row(7, "a//b", "eu west") == "p/rows/0007/a%2F%2Fb/eu%20west"


def test_sqlites_tables_are_as_written() -> None:
    written = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows("In SQLite")}
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(sqlite_store.SCHEMA)
        found = {table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")] for table in written}
    assert written == found


@pytest.mark.parametrize("name", [name for name in vars(bounds) if re.fullmatch(r"MAX_(?!DCS|PART)\w+", name)])
def test_a_bound_that_no_type_says_is_listed_as_it_is(name: str) -> None:
    (row,) = re.findall(rf"[\d,]+ (?:\w+ )?\(`{name}`\)", DOCUMENT)
    assert number(row.split()[0]) == getattr(bounds, name)
