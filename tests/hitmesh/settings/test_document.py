"""docs/protocol.md says what settings are, as the code does."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from hitmesh.settings import limits
from hitmesh.settings.consul_records import LastChange, Record, Tree
from hitmesh.settings.sqlite import KIND
from hitmesh.store.consul import MAX_HEAD_BYTES
from tests.hitmesh.protocol.test_document import number, section


def tables(title: str) -> list[list[list[str]]]:
    """The cells of every table under a heading, without its head."""
    found = re.findall(r"(?:^\|.*\n?)+", section(title), re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in each.splitlines()[2:]] for each in found]


def test_every_limit_is_listed_with_its_value() -> None:
    listed = {row[0].strip("`"): number(row[1]) for row in tables("Settings keys")[1]}
    assert listed == {name: value for name, value in vars(limits).items() if name.startswith("MAX_")}


def test_consuls_keys_are_as_written() -> None:
    tree = Tree("<prefix>")
    assert [row[0].strip("`") for row in tables("Settings in Consul")[0]] == [tree.key("<key>"), tree.last_change]


def test_consuls_records_are_as_written() -> None:
    written = {row[0].strip("`"): tuple(re.findall(r"`(\w+)`", row[1])) for row in tables("Settings in Consul")[1]}
    assert written == {each.__name__: each.__struct_fields__ for each in (Record, LastChange)}


def test_sqlites_tables_are_as_written() -> None:
    written = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in tables("Settings in SQLite")[0]}
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(KIND.schema)
        found = {table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")] for table in written}
        kind = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    assert written == found
    assert kind == [KIND.application_id, KIND.version]
    assert f"{KIND.application_id:,}" in section("Settings in SQLite")


def test_the_largest_record_fits_into_consuls_request() -> None:
    # Every character that takes most bytes in JSON takes two.
    assert 2 * limits.MAX_VALUE_BYTES + 2 * (limits.MAX_KEY_BYTES + 6 * limits.MAX_AUTHOR_CHARS) + 500 < MAX_HEAD_BYTES
